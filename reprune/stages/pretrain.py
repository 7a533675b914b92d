"""Recovery by continued pre-training on a mixture of domains, a part of the stage ``recover``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from reprune.calibration.mixture import Mixture, read_mixture
from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder
from reprune.plan.pretraining import Pretraining
from reprune.records.files import read_json, write_json
from reprune.records.progress import Rate
from reprune.records.store import Store, sha256
from reprune.stages.job import Job
from reprune.stages.recover import Base
from reprune.training import scaling
from reprune.training.course import Course, Loading
from reprune.training.language import train_on_mixture
from reprune.training.trainer import TrainingError
from reprune.training.window_loss import held_out_losses

REFERENCES = "references.json"


def train(job: Job, base: Base) -> tuple[dict[str, Any], float]:
    """Train the model in place; what its facts tell of it, and the seconds of the references it shares.

    The facts are the history, and what it was begun with.
    ``validation_before`` and ``validation_after`` are the held-out losses in the mixture's proportions.
    """
    settings = Pretraining(**job.params["recovery"])
    mixture = read_mixture(Path(job.input["mixture"]))
    references, shared = _references(job, base, settings, mixture)
    start = _start(settings, base, mixture)
    history = train_on_mixture(
        base.model,
        mixture,
        _course(settings),
        Loading(settings.loading, references, settings.clipped, settings.floor),
        start,
        base.seed,
        keeper=base.keeper,
        say=Rate(job.params["label"], "tokens", job.log),
    )
    losses = [history["evaluations"][i]["losses"] for i in (0, -1)]
    facts = {
        "kind": settings.kind,
        "loading": settings.loading,
        "references": references,
        "start": start,
        "trainable": _parameters(base.model),
        **history,
        "validation_before": _mixed(losses[0], mixture),
        "validation_after": _mixed(losses[1], mixture),
    }
    return facts, shared


def _course(settings: Pretraining) -> Course:
    return Course(
        settings.steps,
        settings.batch_size,
        settings.learning_rate,
        settings.warmup,
        settings.evaluate_every,
        dtype=settings.precision,
    )


def _references(
    job: Job, base: Base, settings: Pretraining, mixture: Mixture
) -> tuple[dict[str, float], float]:
    """The loss that each domain should reach, and the shared seconds; none for constant loading."""
    if settings.loading == "constant":
        return {}, 0.0
    if settings.reference == "scaling":
        return _predicted(settings.scaling, mixture, _parameters(base.model)), 0.0
    return _measured(job, settings, mixture)


def _predicted(family: dict[str, Any], mixture: Mixture, parameters: int) -> dict[str, float]:
    """The losses of a model of so many parameters by the law through three models of the source's family."""
    try:
        return {
            domain: scaling.through(
                list(zip(family["parameters"], family["losses"][domain], strict=True))
            ).loss(parameters)
            for domain in mixture.held_out
        }
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _measured(job: Job, settings: Pretraining, mixture: Mixture) -> tuple[dict[str, float], float]:
    """The held-out losses of the dense model, measured once for all runs with this model and mixture."""
    source = ModelFolder(Path(job.input["model"]))
    key = {
        "kind": "references",
        "code": job.params["code"],
        "model": source.hash(),
        "data": sha256(Path(job.input["mixture"])),
        "precision": settings.precision,
    }

    def write(place: Path) -> None:
        losses = held_out_losses(load_model(source.path), mixture.held_out, settings.precision)
        write_json(place / REFERENCES, losses)

    folder, seconds = Store(Path(job.params["store"])).shared(key, write)
    return read_json(folder / REFERENCES), seconds


def _start(settings: Pretraining, base: Base, mixture: Mixture) -> dict[str, float]:
    """The domains' weights at the first step."""
    if settings.start == "mixture":
        return mixture.proportions
    weights = base.facts["notes"].get("loading_weights", {})
    if set(weights) != set(mixture.proportions):
        raise TrainingError(
            f"the compression ended with weights of {', '.join(weights) or 'no domain'}, recovery trains on "
            f"{', '.join(mixture.proportions)}; use the mixture's weights, start: mixture"
        )
    return weights


def _mixed(losses: dict[str, float], mixture: Mixture) -> float:
    return math.fsum(share * losses[domain] for domain, share in mixture.proportions.items())


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
