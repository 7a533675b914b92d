"""The stage that draws calibration windows."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from reprune.calibration.windows import SAMPLERS, tokenizer_function
from reprune.data.corpora import read_corpus
from reprune.records.files import whole, write_json
from reprune.records.store import sha256
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Draw windows and keep them with the places they came from."""
    torch.set_num_threads(job.threads)
    spec = job.params
    windows, places = SAMPLERS[spec["sampler"]](
        read_corpus(Path(job.input["documents"])),
        tokenizer_function(job.input["model"]),
        spec["amount"],
        spec["length"],
        spec["seed"],
    )
    with whole(job.output["windows"]) as temporary:
        save_file({"tokens": windows}, temporary)
    write_json(
        job.output["facts"],
        {
            **{k: spec[k] for k in ("source", "sampler", "length", "seed")},
            "windows": len(windows),
            "hash": sha256(job.output["windows"])[:12],
            "drawn": places,
        },
    )
