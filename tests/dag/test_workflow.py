"""The real workflow on a tiny model: it ends, does nothing twice, and forgives kills and damage."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from workflow_tree import Tree

pytestmark = pytest.mark.dag
VIEWS = {
    ("collect", "stall"),
    ("tabulate", "stall"),
    ("plot", "stall"),
    ("check_claims", "stall"),
    ("report_unit", "stall"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One full run on two cores, shared by the tests; each leaves it as it was."""
    made = Tree(tmp_path_factory.mktemp("project"))
    done = made.run("stall")
    assert done.returncode == 0, done.stdout
    made.first = done.stdout
    return made


@pytest.fixture
def edited(tree):
    """Edits a file of the copy for one test."""
    before = {}

    def append(file, text):
        before[file] = (tree.root / file).read_text()
        (tree.root / file).write_text(before[file] + text)

    yield append
    for file, text in before.items():
        (tree.root / file).write_text(text)


def test_a_run_ends_with_tables_plots_claims_and_a_report(tree):
    unit = tree.results / "smoke" / "stall"
    assert {"main.csv", "main.md", "main.tex", "main.html"} <= {p.name for p in (unit / "tables").iterdir()}
    assert (unit / "plots" / "depth.svg").stat().st_size > 1000 and (unit / "plots" / "depth.csv").is_file()
    assert "stall-c1" in (unit / "claims.json").read_text()
    assert (unit / "report.html").stat().st_size > 1000
    assert (unit / "report.txt").read_text().strip() in tree.first
    assert tree.first.rstrip().count("Traceback") == 0


def test_records_hold_every_row(tree):
    records = pd.read_csv(tree.results / "smoke" / "stall" / "records.csv")
    shown = sorted(zip(records.method, records.suite, records.status, strict=True))
    assert shown == [
        ("dense", "block_error", "ok"),
        ("dense", "perplexity", "ok"),
        *[("magnitude", "downstream", "ok")] * 3,  # both tasks, and PIQA's other variant
        ("magnitude", "perplexity", "ok"),
        ("stall", "all", "skipped"),
        ("stall", "block_error", "ok"),
        ("stall", "perplexity", "ok"),
    ]
    achieved = records.drop_duplicates("method").set_index("method").ratio_achieved
    assert achieved.to_dict() == pytest.approx({"dense": 0, "magnitude": 0.5, "stall": 0.5}, abs=1e-3)


def test_a_second_run_has_nothing_to_do(tree):
    done = tree.run("stall")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout
    assert tree.jobs() == set()


def test_editing_a_method_reruns_its_runs_and_the_views_only(tree, edited):
    edited("papers/magnitude/method.py", "\nEXTRA = 1\n")
    assert tree.jobs() == {("compress", "magnitude"), ("evaluate", "magnitude")} | VIEWS


def test_editing_a_comment_or_a_docstring_reruns_nothing(tree, edited):
    edited("papers/magnitude/method.py", "\n# why\n")
    edited("reprune/evaluation/perplexity.py", "\n# why\n")
    assert tree.jobs() == set()


def test_editing_the_evaluation_computes_no_checkpoint_again(tree, edited):
    edited("reprune/evaluation/perplexity.py", "\nEXTRA = 1\n")
    assert tree.jobs() == {("evaluate", method) for method in ("dense", "magnitude", "stall")} | VIEWS


def test_editing_a_table_makes_tables_only(tree, edited):
    edited("reprune/analysis/tables.py", "\nEXTRA = 1\n")
    assert {rule for rule, _ in tree.jobs()} <= {"tabulate", "report_unit"}
    assert ("tabulate", "stall") in tree.jobs()


def test_killed_and_resumed_on_one_core_equals_uninterrupted_on_two(tree, tmp_path):
    other = Tree(tmp_path / "other")
    other.kill_at_block(1, cores=1)
    done = other.run("stall", cores=1)
    assert done.returncode == 0, done.stdout
    assert other.trace.read_text().split() == ["0", "1", "1", "2"], "the finished block was pruned again"
    pd.testing.assert_frame_equal(other.records(), tree.records())
    pd.testing.assert_frame_equal(other.items(), tree.items(), check_exact=True)


def test_a_damaged_store_entry_is_said_and_rebuilt(tree):
    before = tree.records()
    next(tree.run_folder("magnitude").glob("evaluation-*.json")).unlink()
    shutil.rmtree(tree.results / "smoke")
    for entry in (tree.results / ".store").rglob("result.json"):
        entry.write_text(entry.read_text()[:-20])
    done = tree.run("stall")
    assert done.returncode == 0, done.stdout
    assert "result.json is damaged; it is rebuilt" in done.stdout
    pd.testing.assert_frame_equal(tree.records(), before)


def test_a_truncated_checkpoint_is_one_line_a_hole_and_healed_by_deleting_it(tree):
    before, folder = tree.records(), tree.run_folder("stall")
    weights = folder / "checkpoint" / "block-001.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    shutil.rmtree(tree.results / ".store")
    shutil.rmtree(tree.results / "smoke")
    next(folder.glob("evaluation-*.json")).unlink()

    failed = tree.run("stall")
    lines = [line for line in failed.stdout.splitlines() if "damaged or cut short" in line]
    assert failed.returncode != 0 and len(lines) == 1
    assert lines[0].startswith("evaluate stall 50%: results/runs/") and "run again" in lines[0]
    assert "Traceback" not in failed.stdout

    holes = tree.run("stall", config=("scale=smoke", "partial=true"))
    assert holes.returncode == 0, holes.stdout
    records = pd.read_csv(tree.results / "smoke" / "stall" / "records.csv")
    (reason,) = records[records.status == "failed"].reason
    assert "damaged or cut short" in reason and records[records.method == "dense"].status.eq("ok").all()

    shutil.rmtree(folder)
    healed = tree.run("stall")
    assert healed.returncode == 0, healed.stdout
    pd.testing.assert_frame_equal(tree.records(), before)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (("scale=smok",), "unknown scale 'smok'; did you mean 'smoke'?"),
        (("scale=smoke", "thread=2"), "unknown key 'thread' in top level; did you mean 'threads'?"),
        (("scale=smoke", "mirror=/no/such/folder"), "/no/such/folder is not a folder"),
    ],
)
def test_a_wrong_choice_ends_before_any_job_with_one_line(tree, config, words):
    done = tree.run("stall", config=config)
    assert done.returncode != 0 and "Execute" not in done.stdout and "Traceback" not in done.stdout
    assert len([line for line in done.stdout.splitlines() if words in line]) == 1


def test_a_dry_run_at_paper_scale_needs_no_hub_and_lists_what_is_missing(tmp_path):
    whole = Tree(tmp_path / "project", own_papers=True)
    done = whole.run("--dry-run", config=("scale=paper",))
    assert done.returncode == 0, done.stdout
    assert "MISSING wikitext2-test: no mirror folder is named" in done.stdout
    assert "MISSING llama-7b: hub model huggyllama/llama-7b is not in the hub cache" in done.stdout
    real = whole.run(config=("scale=paper",))
    assert real.returncode != 0 and "Inputs are missing:" in real.stdout and "Execute" not in real.stdout
