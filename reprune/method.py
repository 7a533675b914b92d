"""The interface of a compression method: what a paper's ``method.py`` writes, and nothing else.

A method never seeds, prints, picks a device or opens files: the harness streams the model, propagates
activations, keeps progress, and hands over what the method needs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    from reprune.calibration.block import Block
    from reprune.calibration.walk import Walk


@dataclass(frozen=True)
class ModelFacts:
    """What a model's configuration alone says of it, known before any weight is read.

    ``hidden_size``, ``intermediate_size`` and ``head_dim`` count features, ``parameters`` counts
    weights with tied embeddings once.
    """

    architecture: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    parameters: int

    @property
    def linear_inputs(self) -> tuple[int, ...]:
        """The input widths of a decoder block's linear layers."""
        return tuple(sorted({self.hidden_size, self.heads * self.head_dim, self.intermediate_size}))


@dataclass(frozen=True)
class Target:
    """What a run is asked to reach: ``kind`` one of ``none, unstructured, n:m``.

    ``sparsity`` is the share of weights set to zero; for ``n:m``, ``n`` of every ``m`` consecutive
    input weights are zero (Wanda, section 3; SparseGPT, section 3.3).
    """

    kind: str = "none"
    sparsity: float = 0.0
    n: int = 0
    m: int = 0

    @classmethod
    def unstructured(cls, sparsity: float) -> Target:
        return cls("unstructured", sparsity)

    @classmethod
    def n_of_m(cls, n: int, m: int) -> Target:
        return cls("n:m", n / m, n, m)

    @property
    def label(self) -> str:
        if self.kind == "n:m":
            return f"{self.n}:{self.m}"
        return "dense" if self.kind == "none" else f"{self.sparsity:.0%}"


@dataclass(frozen=True)
class Unsupported:
    """Why a method cannot serve a target on a model, and the nearest target it can serve."""

    reason: str
    nearest: str | None = None

    def __str__(self) -> str:
        return self.reason + (f"; nearest: {self.nearest}" if self.nearest else "")


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A hyper-parameter of a method with its one line of help and its legal values."""
    return field(
        default=default, metadata={"help": help, "choices": choices, "minimum": minimum, "maximum": maximum}
    )


@dataclass(frozen=True)
class NoSettings:
    """The settings of a method that has none."""


class Method:
    """Base of all methods; subclass :class:`BlockMethod` or :class:`ModelMethod`.

    ``requires_calibration`` says whether the method reads calibration windows. ``kinds`` are the
    target kinds it can serve.
    """

    Settings: ClassVar[type] = NoSettings
    kinds: ClassVar[tuple[str, ...]] = ("unstructured",)
    requires_calibration: ClassVar[bool] = True
    competes_in: ClassVar[str] = "row"

    def __init__(self, settings: Any, target: Target) -> None:
        self.settings = settings
        self.target = target

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Any) -> Unsupported | None:
        """None if the combination is possible, else the reason; from the configuration alone."""
        if target.kind not in cls.kinds:
            return Unsupported(f"serves only {', '.join(cls.kinds)} targets", None)
        if target.kind == "n:m":
            return n_of_m_divides(facts, target)
        return None

    @classmethod
    def passes(cls, settings: Any) -> float:
        """Cost in dense forward passes over the calibration tokens; for estimates, never for results."""
        return 2.0 if cls.requires_calibration else 0.0

    def own_score(self, block: Block) -> dict[str, torch.Tensor] | None:
        """The importance of every layer's weights, (rows, columns), from a still dense block, or None.

        For methods that remove the least important weights. The conformance suite then checks that no pruned
        weight scores above a kept one of its group: its ``competes_in``, ``row`` or ``layer``, or for n:m its
        m neighbours. A method without a score is judged by the error of its layers' outputs.
        """
        return None


def n_of_m_divides(facts: ModelFacts, target: Target) -> Unsupported | None:
    """n:m needs every input width to be a multiple of m; names the first width that is not."""
    for width in facts.linear_inputs:
        if width % target.m:
            return Unsupported(
                f"{target.label} needs input widths divisible by {target.m}, "
                f"{facts.architecture} has a layer with {width} inputs",
                next(
                    (f"{m // 2}:{m}" for m in (8, 4, 2) if all(w % m == 0 for w in facts.linear_inputs)), None
                ),
            )
    return None


class BlockMethod(Method):
    """A method that is handed one decoder block at a time with its inputs.

    ``requires_dense_inputs`` asks for the block's inputs along the dense path as well
    (one more forward pass over the calibration).
    """

    requires_dense_inputs: ClassVar[bool] = False

    def wants_dense_inputs(self) -> bool:
        """Whether this instance reads ``block.dense_inputs``; may depend on the settings."""
        return self.requires_dense_inputs

    def prune_block(self, block: Block) -> None:
        """Change the weights of ``block.linears`` in place."""
        raise NotImplementedError


class ModelMethod(Method):
    """A method that needs to see the whole model before it decides."""

    def compress(self, model: Walk) -> None:
        """Go over ``model.blocks()`` as often as needed and change weights in ``model.rewrite()``."""
        raise NotImplementedError


def settings_of(method: type[Method]) -> dict[str, dataclasses.Field]:
    """The declared hyper-parameters of a method by name."""
    return {f.name: f for f in dataclasses.fields(method.Settings)}
