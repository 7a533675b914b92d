"""Targets and settings as users write them: what is no number, or none that makes sense, is refused."""

from __future__ import annotations

import pytest
from small_project import PAPER


@pytest.mark.parametrize("value", ["0", "1", "1.5", "-0.5", "half", "true", ".nan", "null"])
def test_a_sparsity_is_a_number_between_zero_and_one(project, value):
    project.edit(PAPER, "sparsity: 0.5", f"sparsity: {value}")
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}:9: sparsity is ")
    assert "expected a number between 0 and 1, both excluded" in line


@pytest.mark.parametrize("value", ["0", "-1", ".nan", ".inf", "true", "ten"])
def test_a_setting_keeps_its_bounds(project, value):
    project.edit(
        "papers/wanda/method.py",
        "class Settings:",
        "class Settings:\n    step: float = setting(0.1, 'step', minimum=0.01)",
    )
    project.edit(PAPER, "wanda]", f"{{method: wanda, settings: {{step: {value}}}}}]")
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}:10: setting 'step' of 'wanda' is ")


def test_a_whole_number_is_a_number_with_a_point(project):
    project.edit(
        "papers/wanda/method.py",
        "class Settings:",
        "class Settings:\n    step: float = setting(0.1, 'step', minimum=0.01)",
    )
    project.edit(PAPER, "wanda]", "{method: wanda, settings: {step: 2}}]")
    whole = set(project.plan().runs)
    project.edit(PAPER, "step: 2", "step: 2.0")
    assert set(project.plan().runs) == whole
