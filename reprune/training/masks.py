"""Masks that are learned with the weights until the model has a wanted shape.

Sheared-LLaMA (Xia et al., arXiv 2310.06694), section 2.1; official code ``llmshearing/models/l0_module.py``.
There is a hard-concrete gate for each block, each key-value head with its query heads, each intermediate
channel and each hidden channel. Penalties with Lagrange multipliers pull the gates that are expected to stay
open to the wanted number, in every block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprune.surgery.gates import Gates
from reprune.training import hard_concrete
from reprune.training.course import Course, Loading, Partner
from reprune.training.lagrangian import count_penalty, fraction_penalty, sparsity, warmed
from reprune.training.language import train_on_mixture
from reprune.training.mask_settings import MaskSettings
from reprune.training.window_loss import held_out_losses

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

BY_BLOCK = ("head", "intermediate")  # a row of gates in each block; of others one row in all


class Masks(Partner):
    """Gates on a model with their logits log α, (rows, units) by name, trained beside the weights.

    ``shapes`` has (rows, units) of each kind of gate. A subclass says what :meth:`penalty` constrains with
    which ``multipliers``, two numbers each, and how many gates of a row are :meth:`open_now`.
    """

    def __init__(
        self,
        model: Any,
        shapes: Mapping[str, tuple[int, int]],
        multipliers: tuple[str, ...],
        settings: MaskSettings,
        seed: int,
    ) -> None:
        self.gates, self.settings, self.step = Gates(model), settings, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.logits = {
            name: nn.Parameter(hard_concrete.initial(shape, self.generator)) for name, shape in shapes.items()
        }
        self.multipliers = {name: nn.Parameter(torch.zeros(2)) for name in multipliers}
        self._kept: dict[str, Tensor] = {}
        self._applied = ExitStack()

    def penalty(self) -> Tensor:
        """What the constraints add to the loss at :attr:`step`."""
        raise NotImplementedError

    def open_now(self) -> dict[str, Tensor]:
        """How many gates of each row, (rows,), are open when masks are settled while they are learned."""
        return {
            name: hard_concrete.expected_kept(own, self.settings.temperature)
            for name, own in self.logits.items()
        }

    def told(self) -> dict[str, Any]:
        """The expected share of closed gates, and how much of what is kept was kept the last time.

        Both by kind of gate: means over its rows; the second is the Jaccard index, None the first time.
        """
        now = {name: values > 0 for name, values in self._settled(self.open_now()).items()}
        before, self._kept = self._kept, now
        return {
            "sparsity": {name: sparsity(p).mean().item() for name, p in self.probabilities().items()},
            "overlap": {name: _overlap(own, before[name]) if before else None for name, own in now.items()},
            "multipliers": {name: own.tolist() for name, own in self.multipliers.items()},
        }

    def target(self, final: float) -> float:
        """The share to close at :attr:`step`, of which ``final`` is the last."""
        return warmed(final, self.step, round(self.settings.sparsity_warmup * self.settings.steps))

    def probabilities(self) -> dict[str, Tensor]:
        """P(gate > 0), (rows, units) by name."""
        return {
            name: hard_concrete.open_probability(own, self.settings.temperature)
            for name, own in self.logits.items()
        }

    def groups(self) -> list[dict[str, Any]]:
        """Logits descend, multipliers ascend, both at the masks' rate."""
        rate = {"lr": self.settings.mask_rate}
        return [
            {"params": list(self.logits.values()), **rate},
            {"params": list(self.multipliers.values()), **rate, "maximize": True},
        ]

    def bound(self) -> None:
        """Bring all logits between their bounds: an optimiser step may have left them a rate beyond."""
        for own in self.logits.values():
            hard_concrete.bound(own)

    def prepare(self, step: int) -> Tensor:
        """Draw the gates of a step and put them on the model; the step's penalty."""
        self.step = step
        self.bound()
        drawn = {
            name: hard_concrete.sampled(
                own, hard_concrete.uniform_draws(own.shape, self.generator), self.settings.temperature
            )
            for name, own in self.logits.items()
        }
        self._apply(drawn)
        return self.penalty()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """The model with gates that are not drawn: in each row so many open as are expected to be."""
        self.bound()
        self._apply(self._settled(self.open_now()))
        yield
        self.release()

    def finish(self, kept: Mapping[str, Tensor]) -> None:
        """Write the gates into the weights and cut what is closed; ``kept`` of each row, (rows,), stay."""
        self.release()
        self.bound()
        self.gates.fold_and_cut(_by_place(self._settled(kept)))

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs besides the parameters in :meth:`groups`."""
        return {
            "generator": self.generator.get_state(),
            **{f"kept.{n}": own for n, own in self._kept.items()},
        }

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        self.generator.set_state(state["generator"])
        self._kept = {n.removeprefix("kept."): own for n, own in state.items() if n != "generator"}

    def release(self) -> None:
        """Take the gates off the model."""
        self._applied.close()

    def _apply(self, values: dict[str, Tensor]) -> None:
        self.release()
        self._applied.enter_context(self.gates.applied(_by_place(values)))

    def _settled(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: hard_concrete.settled(own, kept[name], self.settings.temperature)
            for name, own in self.logits.items()
        }


class TargetedMasks(Masks):
    """Masks that end with ``kept`` gates open in every row: the same shape in every block.

    ``kept`` and ``shapes`` are by name: ``layer``, ``hidden``, ``head``, ``intermediate``. Each kind has one
    pair of multipliers, shared by its rows.
    """

    def __init__(
        self,
        model: Any,
        shapes: Mapping[str, tuple[int, int]],
        kept: Mapping[str, int],
        settings: MaskSettings,
        seed: int,
    ) -> None:
        super().__init__(model, shapes, tuple(shapes), settings, seed)
        self.kept = dict(kept)

    def wanted(self) -> dict[str, float]:
        """The share to close of each kind at :attr:`step`."""
        return {name: self.target(1 - kept / self.logits[name].shape[1]) for name, kept in self.kept.items()}

    def penalty(self) -> Tensor:
        wanted = self.wanted()
        return sum(self._penalty(name, own, wanted[name]) for name, own in self.probabilities().items())

    def _penalty(self, name: str, opened: Tensor, share: float) -> Tensor:
        multipliers = self.multipliers[name]
        if self.settings.constraint == "counts":
            return count_penalty(opened.sum(-1), (1 - share) * opened.shape[1], multipliers)
        return fraction_penalty(sparsity(opened), share, multipliers)

    def told(self) -> dict[str, Any]:
        return {**super().told(), "wanted": self.wanted()}

    def cut(self) -> None:
        """Cut the model to the target: in every row the gates with the highest logits stay."""
        self.finish({name: torch.full(own.shape[:1], self.kept[name]) for name, own in self.logits.items()})


def learn(subject: Subject, learned: Masks, settings: MaskSettings) -> None:
    """Train the model of ``subject`` with its masks on its mixture, and note the history.

    The losses to reach are the dense model's own, noted whether loading follows them or not.
    """
    references = dense_losses(subject)
    history = train_on_mixture(
        subject.model,
        subject.mixture,
        Course(
            settings.steps,
            settings.batch_size,
            settings.learning_rate,
            settings.warmup,
            settings.evaluate_every,
        ),
        Loading(settings.loading, references, settings.clipped, settings.floor),
        subject.mixture.proportions,
        subject.draw_seed(),
        learned,
        subject.keeper,
        lambda done, total: subject.progress(done / total),
    )
    subject.notes["pruning"] = {**history, "references": references}
    subject.notes["loading_weights"] = history["weights"]


def dense_losses(subject: Subject) -> dict[str, float]:
    """The dense model's held-out loss by domain, nats per token."""

    def measured() -> dict[str, Tensor]:
        losses = held_out_losses(subject.model, subject.mixture.held_out)
        return {domain: torch.tensor(loss, dtype=torch.float64) for domain, loss in losses.items()}

    return {domain: loss.item() for domain, loss in subject.remember("held-out losses", measured).items()}


def _by_place(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Rows of gates as :class:`Gates` takes them: a list by block, or the one row of the whole model."""
    return {name: list(own.unbind()) if name in BY_BLOCK else own[0] for name, own in values.items()}


def _overlap(one: Tensor, other: Tensor) -> float:
    """The Jaccard index of two sets of gates, (rows, units) booleans."""
    return ((one & other).sum() / (one | other).sum()).item()
