"""`reprune new`: the stub is clean, found, planned, passes the conformance suite; bad names are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprune.cli import new
from reprune.cli.text import Refused
from reprune.discovery import load_method
from reprune.plan.plan import build_plan
from reprune.plan.problems import Problems
from reprune.plan.source import read_source


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    return new.new_method("first_try", tmp_path)


def run(root: Path, *command: str, **variables: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=root,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_it_writes_three_files_and_nothing_else(stub: Path):
    assert list(stub.parent.iterdir()) == [stub]
    assert sorted(file.name for file in stub.iterdir()) == ["README.md", "method.py", "paper.yaml"]
    text = "".join(file.read_text(encoding="utf-8") for file in stub.iterdir())
    assert "@name@" not in text and "@Class@" not in text


def test_the_method_has_the_name_and_one_setting(stub: Path):
    entry = load_method(stub / "method.py")
    assert (entry.id, entry.cls.__name__) == ("first_try", "FirstTry")
    assert entry.cls.Settings().power == 0.5


def test_the_paper_is_valid_and_its_experiment_compares_with_the_baselines(stub: Path):
    problems = Problems()
    assert read_source(stub / "paper.yaml", problems, "paper") and problems.lines == []
    unit = build_plan({"papers": ["papers", str(stub.parent)], "scale": "smoke"}).units["first_try"]
    labels = {row.label for row in unit.experiments["comparison"]}
    assert labels == {"Dense", "Magnitude", "Wanda", "FirstTry"}
    assert len(unit.views["tables"]) == 1


def test_the_code_is_clean_by_the_project_s_own_rules(stub: Path, root: Path):
    run(root, "ruff", "check", "--config", str(root / "pyproject.toml"), str(stub))


def test_the_stub_passes_the_conformance_suite_unedited(stub: Path, root: Path):
    text = run(
        root,
        "pytest",
        "tests/conformance",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "first_try-",
        REPRUNE_METHODS=str(stub.parent),
    )
    assert "failed" not in text and "passed" in text


def test_the_workflow_plans_its_table(stub: Path, root: Path):
    text = run(
        root,
        "snakemake",
        "-n",
        "--cores",
        "1",
        "--nolock",
        "first_try",
        "--config",
        "scale=smoke",
        f"papers=[papers,{stub.parent}]",
    )
    assert {"tabulate", "first_try"} <= {line.split()[0] for line in text.splitlines() if line.strip()}


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Wanda2", "small letters"),
        ("2nd", "small letters"),
        ("a-b", "small letters"),
        ("", "small letters"),
        ("../x", "small letters"),
        ("class", "small letters"),
        ("wanda", "already"),
        ("compress", "rule"),
        ("besa_ablations", "already"),
        ("all", "rule"),
        ("first_try", "exists"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(stub: Path, name: str, expected: str):
    before = sorted(stub.parent.rglob("*"))
    with pytest.raises(Refused, match=expected):
        new.new_method(name, stub.parent)
    assert sorted(stub.parent.rglob("*")) == before


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="no folder"):
        new.new_method("first_try", tmp_path / "nowhere")


def test_the_next_steps_name_a_folder_of_one_s_own(stub: Path):
    text = "\n".join(new.next_steps(stub))
    assert f"REPRUNE_METHODS={stub.parent} pytest tests/conformance -k first_try-" in text
    assert f"papers='[papers,{stub.parent}]'" in text


def test_the_next_steps_in_the_usual_folder_are_short(root: Path):
    text = "\n".join(new.next_steps(root / "papers" / "first_try"))
    assert text.endswith("  snakemake --cores all first_try") and "REPRUNE_METHODS" not in text
