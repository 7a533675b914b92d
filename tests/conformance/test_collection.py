"""The suite misses no method: every folder with a method.py has cases, for every kind it declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import CASES, FAULTS, FOLDERS, METHODS, TARGETS

COLLECTED = {case.method.file for case in CASES}


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_every_folder_with_a_method_is_collected(folder: Path):
    assert folder.is_dir(), "REPRUNE_METHODS names folders that hold method folders, as papers/ does"
    missed = [str(file) for file in folder.glob("*/method.py") if file not in COLLECTED]
    assert missed == [], "not collected: it cannot be loaded, or another folder has a method of the same name"


def test_every_method_file_loads():
    assert FAULTS == []


def test_every_declared_kind_has_targets_in_the_suite():
    assert {kind for entry in METHODS for kind in entry.cls.kinds} <= set(TARGETS)
