"""`reprune show UNIT LEFT RIGHT`: how two rows of a finished unit differ, or one line on why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from reprune.cli import main, show

ACC, PPL = "zeroshot-besa@1+ab12cd", "perplexity-besa@1"
ITEMS = "run_id protocol task metric item part value doc_hash prompt_hash target_hash responses".split()
RECORDS = "run_id suite protocol task metric variant value stderr n higher_is_better status reason".split()
WANDA = [1, 0, 1, 1] * 20
BESA = [1] * 30 + WANDA[30:]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose unit `besa` ran at scale `smoke`: two rows with one task and one text."""
    folder = tmp_path / "results" / "smoke" / "besa"
    folder.mkdir(parents=True)
    answers = {"wanda-run": WANDA, "besa-run": BESA}
    items = [
        {"run_id": run, "protocol": ACC, "task": "piqa", "metric": "accuracy", "item": i, "value": v}
        for run, right in answers.items()
        for i, v in enumerate(right)
    ]
    items += [
        {"run_id": run, "protocol": PPL, "task": "c4", "metric": "nll", "item": i, "value": 3 + i / 9 + shift}
        for run, shift in (("wanda-run", 0.1), ("besa-run", 0.0))
        for i in range(8)
    ]
    records = [
        {"run_id": run, "protocol": protocol, "task": task, "metric": metric, "status": "ok", "value": 1.0}
        for run in answers
        for protocol, task, metric in ((ACC, "piqa", "accuracy"), (PPL, "c4", "perplexity"))
    ]
    layers = "run_id block layer size nonzeros".split()
    for name, rows, columns in (
        ("items", items, ITEMS),
        ("records", records, RECORDS),
        ("layers", [], layers),
    ):
        pd.DataFrame(rows, columns=columns).to_parquet(folder / f"{name}.parquet")
    rows = [_row("Wanda", "wanda-run"), _row("BESA", "besa-run"), _row("Odd", None)]
    info = {"unit": "besa", "paper": "besa", "model_titles": {"small": "A small model"}, "protocols": {}}
    info["experiments"] = {"table1": {"rows": rows}}
    (folder / "unit.json").write_text(json.dumps(info))
    (folder / "notes.json").write_text("{}")
    monkeypatch.setattr(show, "ROOT", tmp_path)
    return tmp_path


def _row(label: str, run_id: str | None) -> dict:
    return {
        "label": label,
        "method": label.lower(),
        "run_id": run_id,
        "seed": 0,
        "model": "small",
        "target": "50%",
        "target_kind": "unstructured",
        "target_requested": 0.5,
        "settings": {},
        "published_as": [],
        "status": "planned" if run_id else "skipped",
        "reason": None if run_id else "serves no such target",
    }


def ask(*arguments: str) -> int:
    return main(["show", "besa", *arguments, "--scale", "smoke"])


def test_two_rows_are_compared_on_every_task(finished: Path, capsys: pytest.CaptureFixture[str]):
    assert ask("BESA", "Wanda") == 0
    text = capsys.readouterr().out
    assert "BESA at 50% against Wanda at 50%, A small model" in text
    assert "PIQA" in text and "higher" in text and "× 0.905" in text and "lower" in text
    assert "McNemar" in text


def test_one_task_and_run_ids(finished: Path, capsys: pytest.CaptureFixture[str]):
    assert ask("wanda-run", "besa-run", "--task", "piqa") == 0
    text = capsys.readouterr().out
    assert "PIQA" in text and "C4" not in text


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("BESA", "Wnda"), "did you mean 'Wanda'? known: BESA, Odd, Wanda"),
        (("BESA", "Odd"), "Odd at 50%: serves no such target"),
        (("BESA", "Wanda", "--task", "pika"), "did you mean 'piqa'?"),
        (("BESA",), "a comparison needs two rows"),
        (("--task", "piqa"), "a comparison needs two rows"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    finished: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
):
    assert ask(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert expected in output.err


def test_a_unit_without_results_says_how_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(show, "ROOT", tmp_path)
    assert ask("BESA", "Wanda") == 2
    expected = "besa has no results at scale smoke; run it: snakemake --cores all besa --config scale=smoke\n"
    assert capsys.readouterr().err == expected


def test_an_unknown_unit_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["show", "bsea", "BESA", "Wanda"]) == 2
    assert "did you mean 'besa'?" in capsys.readouterr().err


def test_the_comparison_loads_no_torch(finished: Path, root: Path):
    code = (
        "import sys; from pathlib import Path; from reprune.cli import main, show; "
        f"show.ROOT = Path({str(finished)!r}); "
        "main(['show', 'besa', 'BESA', 'Wanda', '--scale', 'smoke']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
