"""The stage that trains a translation model from nothing, by the recipe of ``config/models.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reprune.calibration.sentences import readable
from reprune.data.parallel import PARTS, Pair, pairs_hash, read_pairs
from reprune.evaluation.translation import measure
from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder, load_tokenizer
from reprune.models.sources import check_facts, save_whole
from reprune.models.translator import Shape
from reprune.records.files import whole, write_json
from reprune.records.progress import Rate
from reprune.records.provenance import provenance
from reprune.records.store import Store
from reprune.stages.job import Job
from reprune.training.keeping import Keeper
from reprune.training.translation import TranslationCourse
from reprune.training.translator import Recipe, train_translator

SEARCH = {"beams": 4, "length_penalty": 0.6, "tokenize": "13a", "limit": None}
LONGEST = 200
RECORD = "training.json"  # beside the weights: what they were made of, and how


def run(job: Job) -> None:
    """Train, and write the folder whole, with a record of its training."""
    torch.set_num_threads(job.threads)
    spec = job.params
    pairs = {part: read_pairs(Path(job.input["parallel"]), part) for part in PARTS}
    hashes = {part: pairs_hash(found) for part, found in pairs.items()}
    made = {key: spec[key] for key in ("code", "recipe", "facts", "context")}
    trained_on = {part: hashes[part] for part in ("train", "validation")}
    keeper = Keeper(Store(Path(spec["store"])), {**made, **trained_on})
    model, tokenizer, history = train_translator(
        recipe_of(spec["recipe"], spec["facts"], spec["context"]),
        pairs["train"],
        pairs["validation"],
        keeper,
        Rate(spec["label"], "tokens", job.log),
    )
    with whole(job.output["folder"]) as temporary:
        temporary.mkdir()
        tokenizer.save_pretrained(temporary)
        save_whole(model, getattr(torch, spec["dtype"]), temporary)
        check_facts(ModelFolder(temporary), spec["facts"])
        test = translated(temporary, pairs["test"])
        write_json(temporary / RECORD, {**_record(job, pairs, hashes, history, temporary), "test": test})
    keeper.drop()
    write_json(
        job.output["facts"],
        {"source": spec["source"], "hash": ModelFolder(job.output["folder"]).hash()},
    )


def recipe_of(told: dict[str, Any], facts: dict[str, Any], context: int) -> Recipe:
    """The recipe as ``config/models.yaml`` tells it, ``facts`` being those of the model it makes."""
    course = {key: value for key, value in told.items() if key not in ("seed", "dropout", "max_length")}
    shape = Shape(
        facts["layers"],
        facts["decoder_layers"],
        facts["hidden_size"],
        facts["intermediate_size"],
        facts["heads"],
        facts["vocab_size"],
        context,
        told["dropout"],
    )
    return Recipe(shape, TranslationCourse(**course), told["seed"], told["max_length"])


def translated(folder: Path, pairs: list[Pair]) -> dict[str, Any]:
    """What the written model's translations of the test text are worth, in float32; with signatures.

    Searched for and scored as protocol ``translation-voita`` does.
    """
    model = load_model(folder)
    search = {**SEARCH, "longest": readable(model, LONGEST)}
    found = measure(model, load_tokenizer(folder), pairs, search)
    told = [found, *found["beside"]]
    return {row["metric"]: {key: row.get(key) for key in ("value", "stderr", "variant")} for row in told}


def _record(
    job: Job,
    pairs: dict[str, list[Pair]],
    hashes: dict[str, str],
    history: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    spec = job.params
    return {
        "command": spec["command"],
        "data": {
            "source": spec["source"],
            **{part: {"pairs": len(found), "hash": hashes[part]} for part, found in pairs.items()},
        },
        "recipe": spec["recipe"],
        "model_hash": ModelFolder(folder).hash(),
        "threads": job.threads,
        **provenance(),
        "history": history,
    }
