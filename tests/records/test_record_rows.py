"""Rows of records, and where they say they come from."""

from __future__ import annotations

import io
import json
import subprocess
from datetime import datetime

import pytest

from reprune.records import provenance
from reprune.records.progress import Progress
from reprune.records.schema import COLUMNS, record

DOCUMENTED = """run_id, papers, model, method, settings, target_kind, target_requested, ratio_achieved,
    ratio_basis, ratio_nonembedding, recovery, seed, suite, protocol, task, metric, unit, variant,
    value, stderr, n, higher_is_better, status, reason, params, nonzeros, bytes, compress_s, recover_s,
    evaluate_s, peak_rss_mb, dtype, threads, batch_size, calibration, data_source, model_hash,
    data_hash, code, commit, dirty, versions, created"""  # the list of the architecture document


def test_a_record_has_the_documented_columns_and_nulls():
    row = record(run_id="a", value=1.5, status="ok")
    assert list(row) == [name.strip() for name in DOCUMENTED.split(",")] == list(COLUMNS)
    assert {name: value for name, value in row.items() if value is not None} == {
        "run_id": "a",
        "value": 1.5,
        "status": "ok",
    }


def test_a_record_refuses_unknown_columns_and_statuses():
    with pytest.raises(KeyError, match="no record column valeu"):
        record(valeu=1, status="ok")
    for status in (None, "fine"):
        with pytest.raises(ValueError, match="one of ok, skipped, diverged, failed, oom"):
            record(status=status)


def test_provenance_names_the_commit_and_whether_tracked_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    (tmp_path / "a").write_text("1")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run(git + arguments, check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    (tmp_path / "untracked").write_text("1")
    assert provenance.commit() == (head, False)
    (tmp_path / "a").write_text("2")
    assert provenance.commit() == (head, True)


def test_provenance_fills_record_columns():
    found = provenance.provenance()
    assert set(record(status="ok", **found)) == set(COLUMNS)
    assert {"python", "torch", "transformers", "numpy"} <= set(json.loads(found["versions"]))
    datetime.strptime(found["created"], "%Y-%m-%dT%H:%M:%SZ")
    assert 10 < provenance.peak_rss_mb() < 100_000


def test_progress_speaks_every_ten_seconds_and_foresees_the_rest():
    times = iter([0, 5, 12, 15, 24])
    log = io.StringIO()
    say = Progress("compress", "blocks", log, clock=lambda: next(times))
    for done in (1, 3, 4, 6):
        say(done, 12)
    assert log.getvalue().splitlines() == [
        "compress: 3/12 blocks, 12 s, about 36 s left",
        "compress: 6/12 blocks, 24 s, about 24 s left",
    ]
