"""Planning the small paper with other experiments."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_project import MINI, PAPER, Project

from reprune.plan.plan import Plan


@pytest.fixture
def experiment(project: Project) -> Callable[..., Plan]:
    """Plans the paper with keys of its experiment replaced: ``experiment(targets="[{sparsity: 0.3}]")``."""

    def plan(scale: str = "smoke", **keys: str) -> Plan:
        lines = MINI.splitlines()
        for key, value in keys.items():
            place = next((i for i, line in enumerate(lines) if line.startswith(f"    {key}:")), len(lines))
            lines[place : place + 1] = [f"    {key}: {value}"]
        project.write(PAPER, "\n".join(lines) + "\n")
        return project.plan(scale=scale)

    return plan
