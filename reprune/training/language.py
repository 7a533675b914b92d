"""Training a language model on a mixture of domains, all of its weights, resumable to the identical result.

The optimisation is that of Sheared-LLaMA (Xia et al., arXiv 2310.06694; official code
``llmshearing/train.py`` with its ``scripts``): AdamW, a linear warm-up and a cosine down to a tenth for every
group of parameters, one clipped gradient norm over all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reprune.calibration.mixture import Mixture
from reprune.training.course import Course, Loading, Partner
from reprune.training.draws import Draws
from reprune.training.keeping import Keeper
from reprune.training.trainer import CLIP, TrainingError, decayed
from reprune.training.window_loss import held_out_losses, passes, scored, summed_loss

BETAS, EPSILON = (0.9, 0.95), 1e-8
Say = Callable[[int, int], None]


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
        history = training.run(dict(weights), say)
    model.requires_grad_(False).eval()
    return history


class _Training:
    """One training: its optimiser, what it draws, and how far it is (``told``, as JSON)."""

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
        self.model, self.mixture, self.course, self.loading = model, mixture, course, loading
        self.partner, self.keeper, self.draws = partner, keeper, Draws(mixture.train, seed)
        weights = decayed(list(model.parameters()), course.weight_decay)
        groups = [{**group, "lr": course.learning_rate} for group in weights] + partner.groups()
        # fused, a step of the optimiser takes less than half the time
        self.optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)
        self.highest = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        length = next(iter(mixture.train.values())).shape[1]
        self.step_tokens = course.batch_size * length

    def run(self, weights: dict[str, float], say: Say) -> dict[str, Any]:
        course, total = self.course, self.course.steps * self.step_tokens
        start = time.monotonic()
        self.told = {"losses": [], "evaluations": [], "weights": weights, "stepping": 0.0}
        self.resume()
        say(self.step * self.step_tokens, total)
        if not self.told["evaluations"]:
            self.evaluate()
        while self.step < course.steps:
            self.advance()
            if course.evaluates(self.step):
                self.evaluate()
            if self.keeper is not None and self.keeper.due():
                self.keep()
            say(self.step * self.step_tokens, total)
        stepping = self.told.pop("stepping")
        earlier = self.keeper.earlier_seconds if self.keeper is not None else 0.0
        spent = {"seconds": time.monotonic() - start + earlier, "tokens_per_second": total / stepping}
        return {"steps": course.steps, "tokens": total, **self.told, **spent}

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.told["losses"])

    def advance(self) -> None:
        """One step of the optimiser."""
        start, share = time.monotonic(), self.course.share(self.step)
        windows, _ = self.draws.batch(self.told["weights"], self.course.batch_size)
        loss = self.accumulate(windows, self.partner.prepare(self.step))
        norm = nn.utils.clip_grad_norm_(self.parameters, CLIP)
        if not (math.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingError(
                f"training diverged at step {self.step + 1} of {self.course.steps}: "
                f"loss {loss:g}, gradient norm {norm:g}"
            )
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * share
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.told["losses"].append(loss)
        self.told["stepping"] += time.monotonic() - start

    def accumulate(self, windows: Tensor, penalty: Tensor) -> float:
        """Add the gradient of the windows' mean loss and the penalty; that loss."""
        *parts, last = passes(windows)
        total = scored(windows)
        losses = [self.descend(part, total) for part in parts]
        return math.fsum([*losses, self.descend(last, total, penalty)])

    def descend(self, windows: Tensor, total: int, penalty: Tensor | None = None) -> float:
        """Add the gradient of one forward pass, whose tokens are some of ``total``; its part of their loss.

        All passes share what the partner drew, so its graph is kept until the last, which has the penalty.
        """
        loss = summed_loss(self.model, windows, self.course.dtype) / total
        (loss if penalty is None else loss + penalty).backward(retain_graph=penalty is None)
        return loss.item()

    def evaluate(self) -> None:
        """Measure the held-out losses, note them, and let the domains' weights follow."""
        self.model.eval()
        with self.partner.settled():
            losses = held_out_losses(self.model, self.mixture.held_out, self.course.dtype)
            told = self.partner.told()
        self.model.train()
        for domain, loss in losses.items():
            if not math.isfinite(loss):
                raise TrainingError(
                    f"training diverged: after step {self.step} of {self.course.steps} the held-out loss "
                    f"of {domain} is {loss:g}"
                )
        if self.step and self.step % self.course.evaluate_every == 0:
            self.told["weights"] = self.loading.after(self.told["weights"], losses)
        noted = {"step": self.step, "tokens": self.step * self.step_tokens, "losses": losses}
        noted |= {"weights": dict(self.told["weights"]), "seen": dict(self.draws.seen)}
        self.told["evaluations"].append({**noted, **told})

    def keep(self) -> None:
        """Keep all that the rest of the training depends on."""
        moments = self.optimizer.state_dict()["state"]
        tensors = {f"parameter.{i}": parameter.detach() for i, parameter in enumerate(self.parameters)}
        tensors |= {f"moment.{i}.{name}": t for i, of in moments.items() for name, t in of.items()}
        tensors |= {f"partner.{name}": tensor for name, tensor in self.partner.state().items()}
        tensors["generator"] = torch.get_rng_state()
        self.keeper.save(tensors, {**self.told, "draws": self.draws.state()})

    def resume(self) -> None:
        """Go on from the last state that was kept, if there is one."""
        found = self.keeper.latest() if self.keeper is not None else None
        if found is None:
            return
        tensors, facts = found
        self.draws.resume(facts.pop("draws"))
        self.told = facts
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{i}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("moment", tensors).items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.partner.resume(_under("partner", tensors))
        torch.set_rng_state(tensors["generator"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")
    }
