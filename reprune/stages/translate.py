"""Recovery of a translation model on its parallel text, a part of the stage ``recover``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprune.calibration.sentences import encode, readable
from reprune.data.parallel import read_pairs
from reprune.models.folder import load_tokenizer
from reprune.models.translation import encoder_parameters
from reprune.models.translator import draw_weights
from reprune.plan.translating import Translating
from reprune.records.progress import Rate
from reprune.stages.job import Job
from reprune.stages.recover import Base
from reprune.training.translation import TranslationCourse, train_translation


def train(job: Job, base: Base) -> tuple[dict[str, Any], float]:
    """Train the model in place; what its facts tell of it, and no shared seconds."""
    settings = Translating(**job.params["recovery"])
    tokenizer = load_tokenizer(job.input["model"])
    if settings.start == "scratch":
        draw_weights(base.model, base.seed)
    trained = None if settings.trained == "all" else [*encoder_parameters(base.model).values()]
    longest = readable(base.model, settings.max_length)
    train_pairs, held_out = (
        encode(tokenizer, read_pairs(Path(job.input["parallel"]), part), longest)
        for part in ("train", "validation")
    )
    history = train_translation(
        base.model,
        train_pairs,
        held_out,
        TranslationCourse.of(settings),
        base.seed,
        trained,
        keeper=base.keeper,
        say=Rate(job.params["label"], "tokens", job.log),
    )
    losses = [evaluation["loss"] for evaluation in history["evaluations"]]
    facts = {
        "kind": settings.kind,
        "start": settings.start,
        "trained": settings.trained,
        **history,
        "validation_before": losses[0],
        "validation_after": losses[-1],
    }
    return facts, 0.0
