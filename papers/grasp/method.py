"""GRASP: replace redundant layers by the singular groups of their weights that the loss depends on.

Liu et al., "GRASP: Replace Redundant Layers with Adaptive Singular Parameters for Efficient Model
Compression" (arXiv 2501.00339), Algorithm 1; official code ``grasp.py`` of LyoAI/GRASP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, setting

if TYPE_CHECKING:
    from torch import nn

    from reprune.calibration.subject import Subject

gradients = LazyModule("reprune.calibration.gradients")
layers = LazyModule("reprune.surgery.layers")
low_rank = LazyModule("reprune.surgery.low_rank")
similarity = LazyModule("reprune.calibration.similarity")

USUAL_RETAIN = 0.1  # the share of a replaced layer's weights that the paper keeps
LEAST_RETAIN = 0.02  # below, narrow matrices have a rank of less than one left
SHIFTS = {"standard": 1, "double": 2}
FROM_GRADIENTS = ("taylor", "gradient", "taylor_uv_abs")


@dataclass(frozen=True)
class Settings:
    score: str = setting(
        "taylor",
        "importance of a singular group: |s dL/ds| (taylor), |dL/ds|, s alone, chance, or the first with the "
        "absolute terms of both singular vectors added",
        choices=("taylor", "gradient", "magnitude", "random", "taylor_uv_abs"),
    )
    selection: str = setting(
        "one_shot",
        "choose all redundant layers at first, or measure similarity again after each replaced layer",
        choices=("one_shot", "iterative"),
    )
    grad_refresh: str = setting(
        "once",
        "gradients of the dense model, or anew for every half of a layer on the model as it then is "
        "(official code)",
        choices=("once", "per_block"),
    )
    label_shift: str = setting(
        "standard",
        "the loss is that of the next token, or of the one after it, as in the official loader",
        choices=("standard", "double"),
    )
    last_hidden: str = setting(
        "pre_norm",
        "the state after the last layer: itself, or after the final norm (official code)",
        choices=("pre_norm", "post_norm"),
    )
    retain: float | None = setting(
        None,
        "share of a replaced layer's weights to keep; none: about a tenth, so that the target is met exactly",
        minimum=0,
        maximum=0.9,
    )
    layers: int | None = setting(
        None, "how many layers to replace; none: what the target and `retain` ask for", minimum=1
    )


class Grasp(StructuralMethod):
    """Keep a tenth of each redundant layer: the singular groups with the largest effect on the loss."""

    Settings = Settings
    kinds = ("low_rank",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        blocks = min(settings.layers or facts.layers, facts.layers - (settings.retain == 0))
        if settings.layers and settings.layers > blocks:
            return Unsupported(f"at most {blocks} of {facts.layers} layers can go", f"layers {blocks}")
        kept = settings.retain if settings.retain is not None else LEAST_RETAIN
        most = blocks * facts.block_parameters * (1 - kept) / facts.parameters
        if (
            target.structural
            and target.sparsity > most
            and not (settings.layers and settings.retain is not None)
        ):
            return Unsupported(
                f"{blocks} layers with {kept:.0%} kept are {most:.1%} of the parameters",
                f"{int(100 * most)}% of parameters",
            )
        if settings.retain == 0 and settings.selection == "iterative":
            return Unsupported("with retain 0 the layers are deleted together", "selection one_shot")
        return super().supports(facts, target, settings)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 5.0 if settings.grad_refresh == "once" else 40.0

    def compress(self, subject: Subject) -> None:
        self.subject = subject
        count, self.removed = budget(
            self.target.sparsity * subject.parameters,
            sum(layer.weight.numel() for layer in subject.linears().values()) // len(subject.blocks),
            len(subject.blocks),
            self.settings,
        )
        chosen: list[int] = []
        subject.notes |= {"chosen": chosen, "spectrum": [], "removed_per_matrix": self.removed}
        for index in self.redundant(count):
            chosen.append(index)
            if self.removed < 1:
                self.replace(index)
        if self.removed < 1:
            subject.replaced |= set(chosen)
        else:
            layers.drop_blocks(subject.model, chosen)

    def redundant(self, count: int) -> Iterator[int]:
        """The blocks to replace, each asked for once the one before it is replaced."""
        values = self.similarities()
        self.subject.notes["similarity"] = values.tolist()
        if self.settings.selection == "one_shot":
            yield from sorted(values.argsort(descending=True, stable=True)[:count].tolist(), reverse=True)
            return
        for done in range(count):
            values = self.similarities() if done else values
            values[self.subject.notes["chosen"]] = -1.0
            yield int(values.argmax())

    def similarities(self) -> torch.Tensor:
        return similarity.similarities(self.subject, last=self.settings.last_hidden)[1]

    def replace(self, index: int) -> None:
        """Put factors in the place of a block's linear layers: the MLP's first, then attention's."""
        here = f"{self.subject.prefix}.{index}."
        names = [name for name in self.subject.linears() if name.startswith(here)]
        halves = dict.fromkeys(name[len(here) :].split(".")[0] for name in names)
        for half in reversed(halves):
            members = [name for name in names if name.startswith(here + half)]
            slopes = self.slopes(members)
            for name in members:
                self.factor(name, index, name[len(here) :], slopes.get(name))

    def slopes(self, names: list[str]) -> dict[str, torch.Tensor]:
        """What the loss does when singular groups change: per layer (2, groups), see :func:`group_slopes`."""
        if self.settings.score not in FROM_GRADIENTS:
            return {}
        if self.settings.grad_refresh == "per_block":
            return self.measured({name: self.subject.linears()[name] for name in names})
        name = f"slopes-{self.settings.label_shift}"
        return self.subject.remember(name, lambda: self.measured(self.subject.linears()))

    def measured(self, linears: dict[str, nn.Linear]) -> dict[str, torch.Tensor]:
        """The slopes of some layers, from one forward-backward pass."""
        total: dict[str, torch.Tensor] = {}

        def add(name: str, gradient: torch.Tensor) -> None:
            # Signed sums over batches, as in the official code: opposite signs cancel.
            total[name] = total[name].add_(gradient) if name in total else gradient.clone()

        gradients.weight_gradients(self.subject, linears, add, SHIFTS[self.settings.label_shift])
        return {
            name: group_slopes(*low_rank.svd(layer.weight), total.pop(name))
            for name, layer in linears.items()
        }

    def factor(self, name: str, index: int, place: str, slopes: torch.Tensor | None) -> None:
        weight = self.subject.model.get_submodule(name).weight
        u, s, vt = low_rank.svd(weight)
        scores = group_scores(self.settings.score, s, slopes, self.subject.generator)
        rank = low_rank.rank_for(*weight.shape, self.removed)
        kept = scores.topk(rank).indices.sort().values
        self.subject.factor(name, *low_rank.balanced(u[:, kept], s[kept], vt[kept]))
        told = {"overlap": overlap_with_largest(kept), "spearman": spearman(s, scores)}
        self.subject.report[index][place] |= told
        spectrum = {"block": index, "layer": place, "size": len(s), "kept": kept.tolist()}
        self.subject.notes["spectrum"].append(spectrum)


def budget(parameters: float, per_block: int, blocks: int, settings: Settings) -> tuple[int, float]:
    """How many blocks to replace and which share of their linear weights to remove, for ``parameters`` less.

    The number is the one that comes nearest at the asked (usually 10 %) retained share. Unless that share is
    set, it then gives way so that exactly ``parameters`` go.
    """
    removed = 1 - (USUAL_RETAIN if settings.retain is None else settings.retain)
    count = settings.layers or min(blocks, max(1, round(parameters / (removed * per_block))))
    if settings.retain is not None:
        return count, removed
    while parameters >= count * per_block and count < blocks:
        count += 1
    return count, min(parameters / (count * per_block), 1.0)


def group_slopes(u: torch.Tensor, s: torch.Tensor, vt: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """(2, groups): dL/ds_k = u_kᵀ (dL/dW) v_k, and Σ|u_ki dL/du_ki| + Σ|v_kj dL/dv_kj|.

    ``gradient`` is dL/dW, (rows, columns), for W = U diag(s) Vᵀ (paper, appendix A.1). With
    dL/du_k = s_k (dL/dW) v_k and dL/dv_k = s_k (dL/dW)ᵀ u_k, each signed sum equals s_k dL/ds_k, so only the
    sums of absolute terms can rank groups otherwise.
    """
    by_u = u * (gradient @ vt.T)
    by_v = vt.T * (gradient.T @ u)
    return torch.stack([by_u.sum(dim=0), s * (by_u.abs().sum(dim=0) + by_v.abs().sum(dim=0))])


def group_scores(
    kind: str, s: torch.Tensor, slopes: torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    """(groups,) importance of the singular groups with values ``s`` (paper, section 3; code: ``taylor``)."""
    if kind == "magnitude":
        return s
    if kind == "random":
        return torch.rand(s.shape, generator=generator)
    assert slopes is not None
    if kind == "gradient":
        return slopes[0].abs()
    first_order = (s * slopes[0]).abs()
    return first_order if kind == "taylor" else first_order + slopes[1]


def overlap_with_largest(kept: torch.Tensor) -> float:
    """Jaccard overlap of the kept groups, by their rank by size, with as many largest ones."""
    common = int((kept < len(kept)).sum())
    return common / (2 * len(kept) - common)


def spearman(left: torch.Tensor, right: torch.Tensor) -> float:
    """The rank correlation of two score vectors without ties."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (left, right)])
    return float(torch.corrcoef(ranks)[0, 1]) if len(left) > 1 else 1.0
