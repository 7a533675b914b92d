"""The stage that draws the windows of a mixture of domains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reprune.calibration.mixture import PARTS, draw_mixture, marked_tokenizer, write_mixture
from reprune.data.corpora import read_corpus
from reprune.records.files import write_json
from reprune.records.store import sha256
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Draw windows of every domain and keep them with what they were drawn from."""
    torch.set_num_threads(job.threads)
    spec = job.params
    domains = {domain["name"]: domain for domain in spec["domains"]}
    mixture, facts = draw_mixture(
        lambda domain, part: read_corpus(Path(domains[domain][part]["file"])),
        marked_tokenizer(job.input["model"], spec["separator"]),
        {name: domain["weight"] for name, domain in domains.items()},
        {"train": spec["windows"], "held_out": spec["held_out"]},
        spec["length"],
    )
    write_mixture(job.output["windows"], mixture)
    write_json(
        job.output["facts"],
        {
            "length": spec["length"],
            "hash": sha256(job.output["windows"])[:12],
            "domains": {name: _told(domain, facts[name]) for name, domain in domains.items()},
        },
    )


def _told(domain: dict[str, Any], facts: dict[str, dict[str, int]]) -> dict[str, Any]:
    parts = {part: {"source": domain[part]["source"], **facts[part]} for part in PARTS}
    return {"weight": domain["weight"], **parts}
