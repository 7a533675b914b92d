"""`reprune doctor`: a healthy machine gives exit code 0, and whatever is broken is named."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from types import SimpleNamespace

import pytest

from reprune.cli import doctor, main
from reprune.plan.plan import Plan, build_plan
from reprune.plan.problems import ConfigError


def broken() -> list[str]:
    return [finding.text for finding in doctor.examine() if finding.broken]


@pytest.fixture
def smoke(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of scale smoke, which needs nothing from outside, in place of the configured one."""
    plan = build_plan({"scale": "smoke"})
    monkeypatch.setattr(doctor, "plan_of", lambda: plan)
    return plan


def test_a_machine_that_is_ready(smoke: Plan, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in ("python", "torch", "processor", "threads", "evaluation", "memory", "disk", "git", "sources"):
        assert any(line.startswith(name) for line in text.splitlines()), name
    assert "tiny-llama" in text and "BROKEN" not in text


def test_a_missing_input_is_broken(smoke: Plan, capsys: pytest.CaptureFixture[str]):
    key, model = next(iter(smoke.models.items()))
    smoke.models[key] = dataclasses.replace(model, missing="tiny-llama: nowhere to be had")
    assert main(["doctor"]) == 1
    assert "BROKEN: tiny-llama: nowhere to be had" in capsys.readouterr().out


def test_a_missing_or_old_package_is_broken(smoke: Plan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: ["no-such-package", "numpy>=99", 'pytest>=99; extra == "dev"'],
    )
    assert [text.split(", needed")[1] if "needed" in text else text for text in broken()] == [
        "is not installed",
        " >=99",
    ]


def test_a_configuration_that_cannot_be_used_is_broken(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise ConfigError("config/config.yaml:2: first\nconfig/config.yaml:3: second")

    monkeypatch.setattr(doctor, "plan_of", fail)
    assert broken() == ["config/config.yaml:2: first", "config/config.yaml:3: second"]


def test_a_full_disk_is_broken(smoke: Plan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert any(text.startswith("0.0 GB free") for text in broken())
