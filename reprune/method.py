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
    from reprune.calibration.subject import Subject
    from reprune.calibration.walk import Walk
    from reprune.models.counts import Shape

HEADS = "heads"
"""The target kind that takes attention heads out of a translation model."""

STRUCTURAL = ("layer", "width", "low_rank", "mixed")
"""Target kinds that take parameters out of the model: layers, dimensions, ranks, or several of these."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model's configuration alone says of it, known before any weight is read.

    ``hidden_size``, ``intermediate_size`` and ``head_dim`` count features, ``parameters`` counts
    weights with tied embeddings once. Of a translation model ``layers`` are the encoder's and
    ``decoder_layers`` the decoder's; a language model has none of the latter.
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
    decoder_layers: int = 0

    @property
    def embedding_parameters(self) -> int:
        """The weights of the token embedding and the output head, counted once where they are tied."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)

    @property
    def block_parameters(self) -> float:
        """The weights of one decoder block; the final norm's few hundred are shared out among all."""
        return (self.parameters - self.embedding_parameters) / self.layers

    def blocks_for(self, share: float) -> int:
        """How many whole blocks come nearest to ``share`` of all parameters: at least one, and one stays."""
        return max(1, min(self.layers - 1, round(share * self.parameters / self.block_parameters)))

    @property
    def linear_inputs(self) -> tuple[int, ...]:
        """The input widths of a decoder block's linear layers."""
        return tuple(sorted({self.hidden_size, self.heads * self.head_dim, self.intermediate_size}))


@dataclass(frozen=True)
class Target:
    """What a run is asked to reach: ``kind`` one of ``none, unstructured, n:m`` or of :data:`STRUCTURAL`.

    ``sparsity`` is the share of weights set to zero; for ``n:m``, ``n`` of every ``m`` consecutive
    input weights are zero (Wanda, section 3; SparseGPT, section 3.3). For structural kinds it is the share
    of *all* the model's parameters that is removed, tied embeddings counted once. A paper asks for it as
    ``mixed``; every method reads that as the kind it serves. For ``heads``, ``n`` encoder heads are to stay,
    0 if the method itself finds how many.
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

    @classmethod
    def parameters(cls, share: float, kind: str = "mixed") -> Target:
        return cls(kind, share)

    @classmethod
    def of_heads(cls, kept: int) -> Target:
        return cls(HEADS, n=kept)

    @property
    def structural(self) -> bool:
        return self.kind in (*STRUCTURAL, HEADS)

    @property
    def label(self) -> str:
        if self.kind == "n:m":
            return f"{self.n}:{self.m}"
        if self.kind == HEADS:
            return f"{self.n} heads" if self.n else "learned heads"
        if self.structural:
            return f"{self.sparsity:.0%} of parameters"
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
    """Base of all methods; subclass :class:`BlockMethod`, :class:`ModelMethod` or :class:`StructuralMethod`.

    ``requires_calibration`` says whether the method reads calibration windows, ``requires_mixture`` whether
    it trains on windows of several domains, ``requires_parallel`` whether it is for translation models and
    reads the text that they were trained on. ``kinds`` are the target kinds it can serve. ``trial`` are
    settings with which a tiny model is compressed in seconds, where the defaults would take long.
    """

    Settings: ClassVar[type] = NoSettings
    kinds: ClassVar[tuple[str, ...]] = ("unstructured",)
    requires_calibration: ClassVar[bool] = True
    requires_mixture: ClassVar[bool] = False
    requires_parallel: ClassVar[bool] = False
    trial: ClassVar[dict[str, Any]] = {}
    competes_in: ClassVar[str] = "row"

    def __init__(self, settings: Any, target: Target) -> None:
        self.settings = settings
        self.target = target

    @classmethod
    def own_target(cls, target: Target) -> Target:
        """``target``, with a structure left open read as the first structural kind that the method serves."""
        served = [kind for kind in cls.kinds if kind in STRUCTURAL]
        if target.kind != "mixed" or not served or "mixed" in served:
            return target
        return dataclasses.replace(target, kind=served[0])

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

    @classmethod
    def mixture_work(cls, settings: Any) -> tuple[int, int]:
        """On how many windows of its mixture the method trains, and how often it measures the held-out loss.

        For estimates, never for results.
        """
        return 0, 0

    @classmethod
    def parallel_work(cls, settings: Any) -> int:
        """On how many tokens of parallel text, of both languages, the method trains; for estimates only."""
        return 0

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


def leaves_a_block(facts: ModelFacts, target: Target, added: float = 0.0) -> Unsupported | None:
    """For methods that take out whole blocks: one stays, and no target may be nearer to none at all.

    ``added`` is the number of parameters that such a method puts in their place.
    """
    share = facts.block_parameters / facts.parameters
    most = (facts.layers - 1) * share - added / facts.parameters
    if target.structural and (facts.layers == 1 or target.sparsity > most + share / 2):
        return Unsupported(
            f"one of {facts.layers} blocks must stay, which leaves {most:.1%} of the parameters to remove",
            f"{int(100 * most)}% of parameters",
        )
    return None


def keeps_a_rank(facts: ModelFacts, target: Target) -> Unsupported | None:
    """For methods that factor every matrix of the blocks: each has a rank of at least 1.

    The narrowest, a key's or value's, is the first whose share of the target leaves none.
    """
    narrowest = min(facts.hidden_size, facts.kv_heads * facts.head_dim)
    most = (1 - 2 / narrowest) * facts.layers * facts.block_parameters / facts.parameters
    if target.structural and target.sparsity > most:
        return Unsupported(
            f"every matrix keeps a rank of at least 1, then {most:.1%} of the parameters are gone",
            f"{int(100 * most)}% of parameters",
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


class StructuralMethod(Method):
    """A method that takes parts out of the model: layers, dimensions, ranks.

    It is handed the whole model in memory, changes it in place by moves of :mod:`reprune.surgery`, and the
    harness saves what is left.
    """

    kinds: ClassVar[tuple[str, ...]] = ("layer",)

    @classmethod
    def shape(cls, facts: ModelFacts, target: Target, settings: Any) -> Shape | None:
        """What is left of a model, told from its configuration alone; None if that does not tell it.

        Tables of counts are made of it, without weights. Asked only for what :meth:`supports` accepts.
        """
        return None

    def compress(self, subject: Subject) -> None:
        """Change ``subject.model`` in place."""
        raise NotImplementedError


class ModelMethod(Method):
    """A method that needs to see the whole model before it decides which weights to set to zero."""

    def compress(self, model: Walk) -> None:
        """Go over ``model.blocks()`` as often as needed and change weights in ``model.rewrite()``."""
        raise NotImplementedError


def settings_of(method: type[Method]) -> dict[str, dataclasses.Field]:
    """The declared hyper-parameters of a method by name."""
    return {f.name: f for f in dataclasses.fields(method.Settings)}
