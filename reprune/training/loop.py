"""The loop of a training that can be ended anywhere and goes on to the identical result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reprune.training.course import Partner
from reprune.training.keeping import Keeper
from reprune.training.trainer import CLIP, TrainingError

Say = Callable[[int, int], None]


class Loop:
    """Steps of an optimiser with measurements between them; ``told``, JSON, is the history so far.

    A subclass says what a step's loss is (:meth:`accumulate`), the share of its highest rate that every group
    of the ``optimizer`` has (:meth:`share`), when to measure (:meth:`evaluates`) and what
    (:meth:`measure`). ``tensors`` and ``facts`` are what it keeps beside parameters and moments. ``clip`` is
    the greatest norm of the gradient over all groups.
    """

    def __init__(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        steps: int,
        partner: Partner,
        keeper: Keeper | None,
        clip: float = CLIP,
    ) -> None:
        self.model, self.optimizer, self.steps, self.clip = model, optimizer, steps, clip
        self.partner, self.keeper = partner, keeper
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.told: dict[str, Any] = {"losses": [], "evaluations": [], "stepping": 0.0}

    def share(self, step: int) -> float:
        """The share of its highest rate that every group has at step 0, 1, …"""
        raise NotImplementedError

    def evaluates(self, step: int) -> bool:
        """Whether to measure after so many steps."""
        raise NotImplementedError

    def accumulate(self, step: int) -> float:
        """Add the gradient of a step, the partner's penalty included; its loss without that."""
        raise NotImplementedError

    def measure(self) -> dict[str, Any]:
        """What to note of the model, in evaluation mode and with the partner settled."""
        raise NotImplementedError

    def measured(self, noted: dict[str, Any]) -> dict[str, Any]:
        """What follows from a measurement; what is noted of it in the end."""
        return noted

    def tensors(self) -> dict[str, Tensor]:
        """Tensors to keep beside parameters and moments, by names without a dot."""
        return {}

    def facts(self) -> dict[str, Any]:
        """JSON to keep beside the history."""
        return {}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from :meth:`tensors` and :meth:`facts`."""

    def done(self, step: int) -> int:
        """What progress counts after so many steps."""
        return step

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.told["losses"])

    def run(self, say: Say) -> float:
        """All steps that are left; the seconds of the whole training, those of earlier jobs included."""
        start, total = time.monotonic(), self.done(self.steps)
        self._resume()
        say(self.done(self.step), total)
        if not self.told["evaluations"]:
            self._evaluate()
        while self.step < self.steps:
            self._advance()
            if self.evaluates(self.step):
                self._evaluate()
            if self.keeper is not None and self.keeper.due():
                self._keep()
            say(self.done(self.step), total)
        earlier = self.keeper.earlier_seconds if self.keeper is not None else 0.0
        return time.monotonic() - start + earlier

    def descend(self, loss: Tensor, penalty: Tensor | None = None) -> float:
        """Add the gradient of one forward pass's part of a step's loss; that part.

        All passes share what the partner drew, so its graph is kept until the last, which has the penalty.
        """
        (loss if penalty is None else loss + penalty).backward(retain_graph=penalty is None)
        return loss.item()

    def _advance(self) -> None:
        start, share = time.monotonic(), self.share(self.step)
        loss = self.accumulate(self.step)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if not (math.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingError(
                f"training diverged at step {self.step + 1} of {self.steps}: "
                f"loss {loss:g}, gradient norm {norm:g}"
            )
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * share
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.told["losses"].append(loss)
        self.told["stepping"] += time.monotonic() - start

    def _evaluate(self) -> None:
        self.model.eval()
        with self.partner.settled():
            noted, told = self.measure(), self.partner.told()
        self.model.train()
        for name, loss in _losses(noted):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"training diverged: after step {self.step} of {self.steps} the {name} is {loss:g}"
                )
        self.told["evaluations"].append({**self.measured(noted), **told})

    def _keep(self) -> None:
        """Keep all that the rest of the training depends on."""
        moments = self.optimizer.state_dict()["state"]
        tensors = {f"parameter.{i}": parameter.detach() for i, parameter in enumerate(self.parameters)}
        tensors |= {f"moment.{i}.{name}": t for i, of in moments.items() for name, t in of.items()}
        tensors |= {f"partner.{name}": tensor for name, tensor in self.partner.state().items()}
        tensors |= {f"own.{name}": tensor for name, tensor in self.tensors().items()}
        tensors["generator"] = torch.get_rng_state()
        self.keeper.save(tensors, {"told": self.told, "own": self.facts()})

    def _resume(self) -> None:
        """Go on from the last state that was kept, if there is one."""
        found = self.keeper.latest() if self.keeper is not None else None
        if found is None:
            return
        tensors, facts = found
        self.told = facts["told"]
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{i}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("moment", tensors).items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.partner.resume(_under("partner", tensors))
        self.restore(_under("own", tensors), facts["own"])
        torch.set_rng_state(tensors["generator"])


def _losses(noted: dict[str, Any]) -> Iterable[tuple[str, float]]:
    """The held-out losses of a measurement, each with what it is called."""
    if "loss" in noted:
        yield "held-out loss", noted["loss"]
    for domain, loss in noted.get("losses", {}).items():
        yield f"held-out loss of {domain}", loss


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")
    }
