"""Running a job: errors as one clear line, the traceback in the log, threads held."""

from __future__ import annotations

import errno
import json
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
from safetensors import SafetensorError

from reprune.calibration.walk import MethodFault
from reprune.calibration.windows import CalibrationError
from reprune.data.packages import FetchError
from reprune.discovery import MethodFileError
from reprune.evaluation.text import ProtocolError
from reprune.models.folder import ModelFolderError
from reprune.models.skeleton import NoDecoderBlocks
from reprune.stages.job import THREAD_VARIABLES, JobError, explain, limit_threads, run_job

MEMORY = ("oom", "not enough memory; lower batch_size in the scale file, or run fewer jobs at once")
DISK = ("failed", "no space left on the disk; free some and run again, finished work is kept")
OWN = (
    FetchError,
    CalibrationError,
    ProtocolError,
    ModelFolderError,
    NoDecoderBlocks,
    MethodFault,
    MethodFileError,
    JobError,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), MEMORY),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried "
                "to allocate 8000000000000 bytes."
            ),
            MEMORY,
        ),
        (OSError(errno.ENOSPC, "No space left on device"), DISK),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), DISK),
        (
            OSError(errno.EACCES, "Permission denied"),
            ("failed", "PermissionError: [Errno 13] Permission denied"),
        ),
        (ValueError("first\nsecond"), ("failed", "ValueError: first")),
        (ValueError(), ("failed", "ValueError: ")),
        *((kind("what and how to mend it"), ("failed", "what and how to mend it")) for kind in OWN),
    ],
)
def test_every_error_is_one_line(error, expected):
    assert explain(error) == expected


def test_threads_are_held_everywhere(monkeypatch):
    for name in (*THREAD_VARIABLES, "TOKENIZERS_PARALLELISM", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "7")
    limit_threads(2)
    assert {name: os.environ[name] for name in THREAD_VARIABLES} == dict.fromkeys(THREAD_VARIABLES, "2")
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


@pytest.fixture
def snakemake(tmp_path, monkeypatch):
    """What a rule hands to its script, and a stage `made.stage` whose work the test sets."""
    stage = ModuleType("made.stage")
    stage.run = lambda job: None
    monkeypatch.setitem(sys.modules, "made.stage", stage)
    for name in (*THREAD_VARIABLES, "TOKENIZERS_PARALLELISM", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    params = {"label": "wanda 50%", "failure": str(tmp_path / "runs" / "failure.json")}
    return SimpleNamespace(
        threads=1,
        params=SimpleNamespace(job=json.dumps(params)),
        input={"a": "b"},
        output={"c": str(tmp_path / "d")},
        log=[str(tmp_path / "logs" / "x.log")],
        stage=stage,
    )


def test_a_failure_is_one_line_with_its_log_and_a_note_for_the_tables(snakemake, tmp_path, capsys):
    def fail(job):
        raise FetchError("package x could not be downloaded")

    snakemake.stage.run = fail
    with pytest.raises(SystemExit) as caught:
        run_job(snakemake, "made.stage")
    log = tmp_path / "logs" / "x.log"
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"\nwanda 50%: package x could not be downloaded\n(details: {log})\n"
    assert "Traceback" in log.read_text() and "in fail" in log.read_text()
    note = tmp_path / "runs" / "failure.json"
    assert json.loads(note.read_text()) == {"status": "failed", "reason": "package x could not be downloaded"}
    snakemake.stage.run = lambda job: None
    run_job(snakemake, "made.stage")
    assert not note.exists()


def test_a_stage_gets_its_parameters_and_files_by_name(snakemake, tmp_path):
    seen = []
    snakemake.stage.run = seen.append
    run_job(snakemake, "made.stage")
    (job,) = seen
    assert job.params["label"] == "wanda 50%" and job.threads == 1
    assert job.input == {"a": "b"} and job.output == {"c": tmp_path / "d"}
