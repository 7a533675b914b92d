"""Training a language model on a mixture of domains, all of its weights, resumable to the identical result.

The optimisation is that of Sheared-LLaMA (Xia et al., arXiv 2310.06694; official code
``llmshearing/train.py`` with its ``scripts``): AdamW, a linear warm-up and a cosine down to a tenth for every
group of parameters, one clipped gradient norm over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reprune.calibration.mixture import Mixture
from reprune.training.course import Course, Loading, Partner
from reprune.training.draws import Draws
from reprune.training.keeping import Keeper
from reprune.training.loop import Loop, Say
from reprune.training.trainer import decayed
from reprune.training.window_loss import held_out_losses, passes, scored, summed_loss

BETAS, EPSILON = (0.9, 0.95), 1e-8


def train_on_mixture(
    model: Any,
    mixture: Mixture,
    course: Course,
    loading: Loading,
    weights: Mapping[str, float],
    seed: int,
    partner: Partner | None = None,
    keeper: Keeper | None = None,
    say: Say = lambda done, total: None,
) -> dict[str, Any]:
    """Train ``model`` in place, a frozen one in float32; the history of it, as JSON.

    A step's loss is the mean over the tokens of its windows but the first of each, before the step, without
    what the ``partner`` adds. ``weights`` are the shares of the domains at the start, of sum 1. The held-out
    losses, token means by domain, are measured at the start, every ``evaluate_every`` steps and at the end;
    dynamic loading changes the weights after each such number of steps. ``seed`` fixes what is drawn.
    With a ``keeper`` a training that was ended goes on from the last state kept, to the identical result;
    dropping the state is the caller's. ``say`` counts tokens, and what is done already before the first step.
    The model is left frozen and in evaluation mode.

    The history has ``steps``, ``tokens``, ``losses`` (nats per token, by step), ``evaluations`` (``step``,
    ``tokens``, ``losses`` and ``weights`` by domain, those for what follows, ``seen`` windows by domain, and
    what the partner told), the ``weights`` at the end, ``seconds`` and ``tokens_per_second``, of steps alone.
    Raises :class:`TrainingError` as soon as a loss or a gradient is not finite.
    """
    model.requires_grad_(True).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training = _Training(model, mixture, course, loading, seed, partner or Partner(), keeper)
        history = training.history(dict(weights), say)
    model.requires_grad_(False).eval()
    return history


class _Training(Loop):
    """One training: what it draws, and what it measures."""

    def __init__(
        self,
        model: Any,
        mixture: Mixture,
        course: Course,
        loading: Loading,
        seed: int,
        partner: Partner,
        keeper: Keeper | None,
    ) -> None:
        self.mixture, self.course, self.loading = mixture, course, loading
        self.draws = Draws(mixture.train, seed)
        weights = decayed(list(model.parameters()), course.weight_decay)
        groups = [{**group, "lr": course.learning_rate} for group in weights] + partner.groups()
        # fused, a step of the optimiser takes less than half the time
        optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)
        super().__init__(model, optimizer, course.steps, partner, keeper)
        length = next(iter(mixture.train.values())).shape[1]
        self.step_tokens = course.batch_size * length

    def history(self, weights: dict[str, float], say: Say) -> dict[str, Any]:
        """Train to the end, beginning with these ``weights``; see :func:`train_on_mixture`."""
        self.told["weights"] = weights
        seconds = self.run(say)
        total, stepping = self.done(self.steps), self.told.pop("stepping")
        spent = {"seconds": seconds, "tokens_per_second": total / stepping}
        return {"steps": self.steps, "tokens": total, **self.told, **spent}

    def done(self, step: int) -> int:
        return step * self.step_tokens

    def share(self, step: int) -> float:
        return self.course.share(step)

    def evaluates(self, step: int) -> bool:
        return self.course.evaluates(step)

    def accumulate(self, step: int) -> float:
        windows, _ = self.draws.batch(self.told["weights"], self.course.batch_size)
        penalty = self.partner.prepare(step)
        *parts, last = passes(windows)
        total = scored(windows)
        losses = [self.descend(self.loss(part) / total) for part in parts]
        return math.fsum([*losses, self.descend(self.loss(last) / total, penalty)])

    def loss(self, windows: Tensor) -> Tensor:
        """The summed loss of one forward pass."""
        return summed_loss(self.model, windows, self.course.dtype)

    def measure(self) -> dict[str, Any]:
        return {"losses": held_out_losses(self.model, self.mixture.held_out, self.course.dtype)}

    def measured(self, noted: dict[str, Any]) -> dict[str, Any]:
        """Let the domains' weights follow their held-out losses."""
        losses = noted["losses"]
        if self.step and self.step % self.course.evaluate_every == 0:
            self.told["weights"] = self.loading.after(self.told["weights"], losses)
        told = {"step": self.step, "tokens": self.done(self.step), "losses": losses}
        return {**told, "weights": dict(self.told["weights"]), "seen": dict(self.draws.seen)}

    def facts(self) -> dict[str, Any]:
        return {"draws": self.draws.state()}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.draws.resume(facts["draws"])
