"""docs/add-a-method.md works as it stands: its blocks are taken out of the page and followed in a copy.

A fence ``run`` is a command, ``file=PATH`` a whole file, ``append=PATH`` the end of one; the rest is prose.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from reprune.records.store import sha256

FENCE = re.compile(r"^```\w+ (run|file=(\S+)|append=(\S+))\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MADE = {"results", ".snakemake", ".pytest_cache", "__pycache__"}
LEFT = shutil.ignore_patterns(*MADE, ".git", ".venv", ".ruff_cache", "*.egg-info")


@dataclass(frozen=True)
class Step:
    """One block of the guide: a command, or text for a file."""

    command: str | None
    file: str | None
    append: str | None
    text: str


@dataclass(frozen=True)
class Followed:
    """The tree in which the guide was followed, what the commands printed, and the files there before."""

    tree: Path
    printed: list[str]
    before: dict[str, str]

    def results(self, unit: str) -> Path:
        return self.tree / "results" / "smoke" / unit


def steps(root: Path) -> list[Step]:
    page = (root / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    return [
        Step(text.strip() if kind == "run" else None, file, append, text)
        for kind, file, append, text in ((m[1], m[2], m[3], m[4]) for m in FENCE.finditer(page))
    ]


def copied_tree(root: Path, tree: Path) -> Path:
    """A copy of the project whose scale `smoke` has one model instead of two, to halve the time."""
    shutil.copytree(root, tree, ignore=LEFT)
    smoke = tree / "config" / "scales" / "smoke.yaml"
    text = smoke.read_text(encoding="utf-8")
    smoke.write_text(text.replace("[tiny-llama, tiny-llama-gqa]", "[tiny-llama-gqa]"), encoding="utf-8")
    return tree


def files(tree: Path) -> dict[str, str]:
    """Every file but those that running makes, with its hash."""
    return {
        str(file.relative_to(tree)): sha256(file)
        for file in tree.rglob("*")
        if file.is_file() and not MADE & set(file.relative_to(tree).parts)
    }


def run(command: str, tree: Path) -> str:
    """The output of a command of the guide, run as a reader would in ``tree``; it must succeed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        shell=True,
        cwd=tree,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(tree)},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def followed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    tree = copied_tree(root, tmp_path_factory.mktemp("guide") / "tree")
    before, printed = files(tree), []
    for step in steps(root):
        if step.command:
            printed.append(run(step.command, tree))
            continue
        file = tree / (step.file or step.append)
        kept = file.read_text(encoding="utf-8") if step.append else ""
        file.write_text(kept + step.text, encoding="utf-8")
    return Followed(tree, printed, before)


def test_the_guide_has_commands_and_files(root: Path):
    kinds = [step.command or step.file or step.append for step in steps(root)]
    assert kinds[0] == "reprune new ria"
    assert {"papers/ria/method.py", "papers/ria/paper.yaml", "papers/ria/published.yaml"} <= set(kinds)


@pytest.mark.dag
def test_the_row_is_in_the_records_of_its_own_paper_and_of_the_arena(followed: Followed):
    for unit in ("ria", "arena"):
        records = pd.read_csv(followed.results(unit) / "records.csv")
        rows = records[records.method == "ria"]
        assert len(rows) == 3 and (rows.status == "ok").all() and rows.value.notna().all()
        assert (rows.ratio_achieved - 0.5).abs().max() < 1e-3


@pytest.mark.dag
def test_the_table_shows_the_row_and_the_published_numbers(followed: Followed):
    table = (followed.results("ria") / "tables" / "comparison.md").read_text(encoding="utf-8")
    assert "RIA" in table and "9.34" in table


@pytest.mark.dag
def test_the_claim_is_judged_and_judging_it_computes_nothing_anew(followed: Followed):
    claims = json.loads((followed.results("ria") / "claims.json").read_text(encoding="utf-8"))
    assert [claim["id"] for claim in claims] == ["ria-beats-wanda"]
    assert claims[0]["verdict"] in ("holds", "fails", "undecided")
    jobs = {line.split()[0] for line in followed.printed[-1].splitlines() if line.strip()}
    assert "check_claims" in jobs and not {"compress", "evaluate", "collect"} & jobs


@pytest.mark.dag
def test_following_the_guide_touches_one_folder_only(followed: Followed):
    after = files(followed.tree)
    changed = {name for name in {*after, *followed.before} if after.get(name) != followed.before.get(name)}
    assert changed and all(name.startswith("papers/ria/") for name in changed)


@pytest.mark.dag
def test_the_conformance_suite_ran_on_the_method_without_a_failure(followed: Followed):
    line = next(text for text in followed.printed if "deselected" in text).splitlines()[-1]
    assert int(re.search(r"(\d+) passed", line)[1]) > 30 and "failed" not in line
