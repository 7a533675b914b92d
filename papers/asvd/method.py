"""ASVD: factors that spare the inputs with large activations, with a rank for every layer by its sensitivity.

Yuan et al., "ASVD: Activation-aware Singular Value Decomposition for Compressing Large Language Models"
(arXiv 2312.05821); official code ``act_aware_utils.py``, ``modules/svd_linear.py``,
``sensitivity.py`` and ``binary_search.py`` of hahnyuan/ASVD4LLM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, keeps_a_rank, setting

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

low_rank = LazyModule("reprune.surgery.low_rank")
sensitivity = LazyModule("papers.asvd.sensitivity")
statistics = LazyModule("reprune.calibration.statistics")

LOWEST = 0.4  # the smallest share of a layer's weights that the official search tries


@dataclass(frozen=True)
class Settings:
    statistic: str = setting(
        "abs_mean",
        "what measures an input's activations: the mean or the maximum of |x_j| over tokens",
        choices=("abs_mean", "abs_max"),
    )
    alpha: float = setting(0.5, "power of that statistic; 0 is plain SVD", minimum=0.0)
    floor: float = setting(1e-6, "added to every scale, so that none is zero", minimum=1e-12)
    search: str = setting(
        "sensitivity",
        "sensitivity: each layer's rank by what factoring it alone does to the perplexity; "
        "uniform: the same share of all",
        choices=("sensitivity", "uniform"),
    )
    sensitivity_ratios: int = setting(
        3, "how many shares to keep, evenly from 0.4 up to 1, the search tries (official: 6)", minimum=1
    )
    sensitivity_tokens: int = setting(
        128, "calibration tokens on which it measures perplexity (official: all)", minimum=2
    )


class ASVD(StructuralMethod):
    """Scale inputs by their activations, keep the largest singular groups, more where the loss needs them."""

    Settings = Settings
    kinds = ("low_rank",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        return super().supports(facts, target, settings) or keeps_a_rank(facts, target)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        search = 4.0 * settings.sensitivity_ratios * settings.sensitivity_tokens / 128
        return 2.0 if settings.search == "uniform" else 2.0 + search

    def compress(self, subject: Subject) -> None:
        shapes = {name: tuple(layer.weight.shape) for name, layer in subject.linears().items()}
        remove = self.target.sparsity * subject.parameters
        # Where every layer is at the lowest share, what has to go beyond goes evenly.
        beyond = remove >= (1 - LOWEST) * sum(map(math.prod, shapes.values()))
        if self.settings.search == "uniform" or beyond or remove <= 0:
            self.factor(subject, low_rank.even_ranks(shapes, remove))
        else:
            self.factor(subject, chosen_ranks(shapes, *self.sensitivities(subject, shapes), remove))

    def factor(self, subject: Subject, ranks: dict[str, int]) -> None:
        """Put factors of these ranks in the place of linear layers, by name."""
        scales = self.scales(subject) if ranks else {}
        linears = subject.linears()
        for name, rank in ranks.items():
            up, down = low_rank.scaled_factors(linears[name].weight, scales[name])
            subject.factor(name, up[:, :rank], down[:rank])

    def scales(self, subject: Subject) -> dict[str, torch.Tensor]:
        """The scale of every layer's inputs: (statistic of |x_j|) ** alpha + floor."""
        kind, alpha, floor = self.settings.statistic, self.settings.alpha, self.settings.floor
        found = subject.remember(kind, lambda: activations(subject, kind))
        return {name: sizes**alpha + floor for name, sizes in found.items()}

    def sensitivities(
        self, subject: Subject, shapes: Mapping[str, tuple[int, int]]
    ) -> tuple[dict[str, list[int]], dict[str, list[float]]]:
        """By layer the ranks that the search tries, and the loss with the layer alone at each of them."""
        options = self.settings
        shares = tried_shares(options.sensitivity_ratios)
        ranks = {name: [rank_at(*shape, share) for share in shares] for name, shape in shapes.items()}
        windows = first_tokens(subject.windows, options.sensitivity_tokens)
        scales = self.scales(subject)  # before the clock of what needs them starts
        scaling = f"{options.statistic}-{options.alpha}-{options.floor}"
        losses = subject.remember(
            f"sensitivity-{scaling}-{len(shares)}-{windows.numel()}",
            lambda: sensitivity.sensitivities(subject, scales, ranks, windows),
        )
        return ranks, {name: found.nan_to_num(math.inf).tolist() for name, found in losses.items()}


def activations(subject: Subject, kind: str) -> dict[str, torch.Tensor]:
    """(inputs,) the statistic of |x_j| over all tokens for every layer of the dense model."""
    make = statistics.AbsoluteMean if kind == "abs_mean" else statistics.AbsoluteMaximum
    return {
        f"{subject.prefix}.{block.index}.{name}": found.value.clone()
        for block in subject.stream("dense")
        for name, found in block.statistics(make).items()
    }


def first_tokens(windows: torch.Tensor, count: int) -> torch.Tensor:
    """The first whole windows that hold ``count`` tokens together, or as much of the first window."""
    return windows[: max(1, count // windows.shape[1]), :count]


def tried_shares(count: int) -> list[float]:
    """The shares of a layer's weights that the search tries, falling: for 6 the official 0.9, 0.8 … 0.4."""
    return [round(1 - (1 - LOWEST) * step / count, 6) for step in range(1, count + 1)]


def rank_at(rows: int, columns: int, share: float) -> int:
    """int(rows · columns · share) // (rows + columns), as the official code has it, at least 1."""
    return max(1, int(rows * columns * share) // (rows + columns))


def chosen_ranks(
    shapes: Mapping[str, tuple[int, int]],
    ranks: Mapping[str, list[int]],
    losses: Mapping[str, list[float]],
    remove: float,
) -> dict[str, int]:
    """Ranks by layer with which ``remove`` weights go, or less than one rank more; others stay dense.

    Entries (layer, rank, loss) are taken up from the smallest loss, and each layer has the lowest rank among
    its own taken, until enough is removed: the converged cut of the official binary search. The layer that
    comes last keeps as much of its former rank as the target allows.
    """
    entries = [(n, *entry) for n in shapes for entry in zip(ranks[n], losses[n], strict=True)]
    chosen: dict[str, int] = {}
    for name, rank, _ in sorted(entries, key=lambda entry: entry[-1]):
        step = sum(shapes[name])
        size = chosen[name] * step if name in chosen else math.prod(shapes[name])
        gain = size - rank * step
        if gain <= 0:
            continue
        chosen[name] = rank + max(0, int((gain - remove) // step))
        remove -= gain
        if remove <= 0:
            break
    return chosen
