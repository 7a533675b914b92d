"""Every setting with a choice matters: each value changes some checkpoint, or is refused somewhere."""

from __future__ import annotations

import dataclasses

import pytest

from .bench import Bench
from .cases import CHOICES, MODELS, Case, Choice, targets_of


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_of_a_setting_matters(bench: Bench, choice: Choice):
    assert any(
        matters(bench, Case(choice.method, model, target), choice)
        for model in MODELS
        for target in targets_of(choice.method)
    ), "as the default everywhere"


def matters(bench: Bench, default: Case, choice: Choice) -> bool:
    """Whether the choice is refused or changes the checkpoint where the default is served."""
    if bench.refusal(default):
        return False
    changed = dataclasses.replace(default, changed=((choice.setting, choice.value),))
    if bench.refusal(changed):
        return True
    return bench.compressed(changed).hashes() != bench.compressed(default).hashes()
