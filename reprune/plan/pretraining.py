"""Recovery of kind ``pretrain``: pre-training goes on with a compressed model, on a mixture of domains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprune.method import setting
from reprune.plan.training import Training, Work

if TYPE_CHECKING:
    from reprune.discovery import MethodEntry
    from reprune.plan.inputs import Model
    from reprune.plan.mixture import MixtureSpec
    from reprune.plan.recoveries import Reader

REFERENCES = ("reference", "clipped", "floor", "scaling")


@dataclass(frozen=True)
class Pretraining(Training):
    """Continued pre-training of all parameters: sizes and rates are those of Sheared-LLaMA's official code.

    ``scripts/continue_pretrain.sh`` of LLM-Shearing; the update of the domains' weights is the paper's,
    Algorithm 1, unless ``clipped`` and ``floor`` say otherwise.
    """

    noun: ClassVar[str] = "pretraining"
    stage: ClassVar[str] = "pretrain"
    file: ClassVar[str] = "mixture"
    at_once: ClassVar[int] = 512
    names: ClassVar[tuple[str, ...]] = ("sizes", "mixture")

    kind: str = setting("pretrain", "all parameters are trained, on text", choices=("pretrain",))
    steps: int = setting(48_000, "steps of the optimiser", minimum=1)
    batch_size: int = setting(256, "windows of one optimiser step", minimum=1)
    learning_rate: float = setting(1e-4, "highest learning rate of AdamW", minimum=0)
    warmup: float = setting(0.03, "steps of rising learning rate; below 1, their share of all", minimum=0)
    evaluate_every: int = setting(400, "steps between measurements of the held-out losses", minimum=1)
    loading: str = setting(
        "dynamic", "whether domains' weights follow their held-out losses", choices=("dynamic", "constant")
    )
    reference: str = setting(
        "source",
        "the losses to reach: the dense model's, or a scaling law's for the compressed size",
        choices=("source", "scaling"),
    )
    clipped: bool = setting(True, "whether a domain below its reference counts as at it; false in the code")
    floor: float = setting(0.0, "share given to all domains alike; 0.0001 in the code", minimum=0, maximum=1)
    start: str = setting(
        "mixture",
        "the domains' weights at first: those of the mixture, or those that the compression ended with",
        choices=("mixture", "pruning"),
    )
    precision: str = setting("float32", "of forward passes", choices=("float32", "bfloat16"))
    scaling: dict | None = setting(
        None, "parameters of three models of the family, and by domain their losses, for the scaling law"
    )

    @property
    def title(self) -> str:
        followed = f" by {self.reference}" if self.loading == "dynamic" else ""
        return f"recovery of kind '{self.kind}' with {self.loading} loading{followed}"

    @property
    def lacks(self) -> dict[str, tuple[str, ...]]:
        if self.loading == "constant":
            return {"references": REFERENCES}
        return {} if self.reference == "scaling" else {"scaling law": ("scaling",)}

    def data_from(self, reader: Reader, given: dict[str, Any]) -> MixtureSpec | None:
        return reader.drawn(given.get("mixture"))

    def faults(self, data: MixtureSpec, model: Model, method: MethodEntry) -> Iterator[str]:
        if self.start == "pruning" and not method.cls.requires_mixture:
            yield (
                f"start is 'pruning', but {method.id} ends with no weights of domains; use the mixture's, "
                "start: mixture"
            )
        if self.loading == "dynamic" and self.reference == "scaling":
            yield from self._scaling_faults([domain.name for domain in data.domains])

    def _scaling_faults(self, domains: list[str]) -> Iterator[str]:
        """What the scaling law lacks."""
        if self.scaling is None:
            yield "reference is 'scaling', but the scale gives no losses of a model family; use source"
        elif unknown := [domain for domain in domains if domain not in self.scaling["losses"]]:
            yield f"reference is 'scaling', but the scale's losses lack {', '.join(unknown)}"

    def longest(self, data: MixtureSpec) -> int:
        return data.length

    def work(self, data: MixtureSpec) -> Work:
        """Held-out windows are read at every measurement, and by the dense model for references."""
        measured = 3 + self.steps // self.evaluate_every
        return Work(self.steps * self.batch_size * data.length, measured * data.held_out_tokens)
