"""BESA: learn, block by block, how much of each row to prune.

Xu et al., "BESA: Pruning Large Language Models with Blockwise Parameter-Efficient Sparsity Allocation"
(arXiv 2402.16880); official code ``main.py`` and ``models/sparse_layers.py`` of OpenGVLab/LLMPrune-BESA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from papers.besa.grid import candidates, reachable, tilt_towards
from reprune.lazy import LazyModule, torch
from reprune.method import BlockMethod, ModelFacts, Target, Unsupported, setting

if TYPE_CHECKING:
    from papers.besa.masking import Allocation
    from reprune.calibration.block import Block

masking = LazyModule("papers.besa.masking")
masks = LazyModule("reprune.surgery.masks")
statistics = LazyModule("reprune.calibration.statistics")
prodigyopt = LazyModule("prodigyopt")

PERCDAMP = 0.01  # of the metric sparsegpt, as in both official codes


@dataclass(frozen=True)
class Settings:
    granularity: str = setting("row", "what gets a sparsity of its own", choices=("row", "layer"))
    sparsity_step: float = setting(
        0.01,
        "distance of the candidate sparsities 1, ..., 0; rounded to 1 / a whole number",
        minimum=1e-3,
        maximum=0.5,
    )
    epochs: int = setting(1, "passes over the calibration windows, one update per window", minimum=0)
    metric: str = setting(
        "wanda",
        "score that ranks the weights of a row: |w| times the input's norm, |w|, or w² / U_jj²",
        choices=("wanda", "magnitude", "sparsegpt"),
    )
    smooth: str = setting(
        "sigmoid",
        "applied to the logits before the softmax; sigmoid bounds what can be learned",
        choices=("sigmoid", "none"),
    )
    start: str = setting(
        "target",
        "target: logits tilted so that learning starts at the target; zeros: the official start, "
        "at 0.5 for every target",
        choices=("target", "zeros"),
    )
    mask_rule: str = setting(
        "count",
        "count: the floor(alpha * inputs) lowest of a row (official code); threshold: all whose "
        "prune probability is at least alpha (paper)",
        choices=("count", "threshold"),
    )
    recon_target: str = setting(
        "local",
        "what the block should reproduce: the dense block on the inputs it receives, or on the dense model's",
        choices=("local", "dense"),
    )
    recon_norm: str = setting(
        "relative",
        "squared error relative to each channel's norm, averaged, or to the window's Frobenius norm",
        choices=("relative", "frobenius"),
    )
    penalty: float = setting(5.0, "weight of ((sparsity - target) / target)²", minimum=0.0)
    optimizer: str = setting("prodigy", "optimizer of the logits", choices=("prodigy", "adamw"))
    d_coef: float = setting(5.0, "prodigy: factor on its own estimate of the step size", minimum=0.0)
    adamw_lr: float = setting(0.01, "adamw: learning rate (prodigy has none)", minimum=0.0)
    exact: bool = setting(True, "repair the counts so that each block loses exactly target * weights")


class Besa(BlockMethod):
    """Rank once, learn the allocation on the block's output error, prune by count."""

    Settings = Settings
    kinds = ("unstructured",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        refusal = super().supports(facts, target, settings)
        if refusal:
            return refusal
        grid = candidates(settings.sparsity_step)
        low, high = reachable(grid, start_tilt(settings, target, grid), settings.smooth)
        if low < target.sparsity < high:
            return None
        nearest = math.floor(100 * high) if target.sparsity >= high else math.ceil(100 * low)
        return Unsupported(
            f"from start 'zeros', logits smoothed by a sigmoid keep every sparsity inside "
            f"({low:.4f}, {high:.4f}); start 'target' has no such bound",
            f"{nearest}%",
        )

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 3.0 + 4.0 * settings.epochs + (settings.recon_target == "dense")

    def wants_dense_inputs(self) -> bool:
        return self.settings.recon_target == "dense"

    def prune_block(self, block: Block) -> None:
        grid = candidates(self.settings.sparsity_step)
        with torch.no_grad():
            scores = self.own_score(block)
            scratch = torch.empty(2, max(layer.weight.numel() for layer in block.linears.values()))
            layers = [
                masking.SortedLayer(layer.weight, scores.pop(name), grid, scratch)
                for name, layer in block.linears.items()
            ]
            wanted = block.outputs(block.dense_inputs if self.wants_dense_inputs() else block.inputs)
        allocation = masking.Allocation(
            layers,
            self.settings.granularity,
            self.settings.smooth,
            start_tilt(self.settings, self.target, grid),
        )
        facts = self.learn(block, allocation, wanted)
        with torch.no_grad():
            for name, line in self.fix_masks(block, allocation).items():
                block.report[name] = line | facts

    def own_score(self, block: Block) -> dict[str, torch.Tensor]:
        """Importance of every layer's weights, (rows, columns), from the still dense block."""
        size = {name: layer.weight.detach().abs() for name, layer in block.linears.items()}
        if self.settings.metric == "wanda":
            found = block.statistics(statistics.SquaredNorms)
            return {name: size[name] * found[name].norms for name in size}
        if self.settings.metric == "sparsegpt":
            found = block.statistics(statistics.SecondMoment)
            return {name: (size[name] * curvature(found[name].hessian)).square() for name in size}
        return size

    def learn(self, block: Block, allocation: Allocation, wanted: torch.Tensor) -> dict[str, float]:
        """Train the logits, one update per window in fixed order; what to report of the block.

        Loss and reconstruction error are those of the last window, before its update.
        """
        facts = {"trainable_ratio": allocation.logits.numel() / allocation.weights}
        block.module.requires_grad_(False)
        optimizer = self.optimizer(allocation.logits)
        windows = list(zip(block.inputs.split(1), wanted.split(1), strict=True)) * self.settings.epochs
        for done, window in enumerate(windows, start=1):
            with torch.enable_grad():
                loss, error = self.loss(block, allocation, *window)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            facts |= {"block_loss": loss.item(), "block_error": error.item()}
            block.progress(done / len(windows))
        if windows and self.settings.optimizer == "prodigy":
            facts["prodigy_d"] = float(optimizer.param_groups[0]["d"])
        return facts

    def optimizer(self, logits: torch.Tensor) -> torch.optim.Optimizer:
        if self.settings.optimizer == "adamw":
            return torch.optim.AdamW([logits], lr=self.settings.adamw_lr, weight_decay=0.0)
        return prodigyopt.Prodigy(
            [logits],
            lr=1.0,
            betas=(0.9, 0.999),
            beta3=math.sqrt(0.999),
            eps=1e-8,
            weight_decay=0.0,
            d0=1e-6,
            d_coef=self.settings.d_coef,
        )

    def loss(
        self, block: Block, allocation: Allocation, inputs: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of one window (official ``loss_func``), and its reconstruction part."""
        beta = allocation.coefficients()
        weights = allocation.masked_weights(beta, self.settings.mask_rule)
        named = {f"{name}.weight": weight for name, weight in zip(block.linears, weights, strict=True)}
        output = torch.func.functional_call(block.module, named, (inputs,), block.arguments)
        output = output[0] if isinstance(output, tuple) else output
        error = reconstruction_error(output[0], wanted[0], self.settings.recon_norm)
        excess = allocation.sparsity(beta) / self.target.sparsity - 1
        return error + self.settings.penalty * excess.square(), error

    def fix_masks(self, block: Block, allocation: Allocation) -> dict[str, dict[str, float]]:
        """Fix the counts, repair them to the target if asked, and prune; what to report of each layer."""
        parts = allocation.by_layer(allocation.coefficients())
        shares, counts = zip(
            *[layer.counts(beta, self.settings.mask_rule) for layer, beta in parts], strict=True
        )
        final = counts
        if self.settings.exact:
            widths = torch.cat(
                [
                    torch.full_like(count, layer.weight.shape[1])
                    for count, (layer, _) in zip(counts, parts, strict=True)
                ]
            )
            total = round(self.target.sparsity * allocation.weights)
            final = masking.exact_counts(torch.cat(shares), widths, total).split([len(c) for c in counts])
        report = {}
        for (name, linear), (layer, beta), old, new in zip(
            block.linears.items(), parts, counts, final, strict=True
        ):
            masks.prune(linear, layer.keep(new) == 0)
            alpha = beta @ allocation.grid
            report[name] = {
                "alpha_mean": alpha.mean().item(),
                "alpha_std": alpha.std(correction=0).item(),
                "sparsity": int(new.sum()) / layer.weight.numel(),
                "repaired": int((new - old).abs().sum()),
            }
        return report


def start_tilt(settings: Settings, target: Target, grid: list[float]) -> float:
    """The fixed slope of the logits: 0 is the official start, at mean sparsity 0.5."""
    return tilt_towards(target.sparsity, grid) if settings.start == "target" else 0.0


def reconstruction_error(output: torch.Tensor, wanted: torch.Tensor, norm: str) -> torch.Tensor:
    """Relative squared error of one window, (tokens, channels): the mean over channels, or overall."""
    if norm == "frobenius":
        return (output - wanted).square().sum() / wanted.square().sum()
    return ((output - wanted).square().sum(dim=0) / wanted.square().sum(dim=0)).mean()


def curvature(hessian: torch.Tensor) -> torch.Tensor:
    """(columns,) 1 / U_jj of SparseGPT's factor U; zero for inputs that never fire."""
    factor, _ = masks.inverse_cholesky(hessian, PERCDAMP)
    return (hessian.diagonal() != 0) / factor.diagonal()
