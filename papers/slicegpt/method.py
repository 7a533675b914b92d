"""SliceGPT: turn the hidden state to its principal axes and cut off the least of them.

Ashkboos et al., "SliceGPT: Compress Large Language Models by Deleting Rows and Columns" (arXiv 2401.15024);
official code microsoft/TransformerCompression, ``layernorm_fusion.py`` and ``rotate.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from papers.slicegpt.widths import removed, width_for, widths
from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reprune.calibration.subject import Subject

checkpoint = LazyModule("reprune.models.checkpoint")
parts = LazyModule("reprune.models.parts")
skeleton = LazyModule("reprune.models.skeleton")
sliced = LazyModule("reprune.models.sliced")

FAMILIES = ("llama", "mistral", "qwen2")
DAMPING = 0.01  # share of the mean diagonal that is added to it (official code)
ROWS = 4096  # states that are converted to float64 at once


@dataclass(frozen=True)
class Settings:
    rounding: int = setting(8, "the width left is a multiple of this", minimum=1)
    slice_center_embeddings: str = setting(
        "auto",
        "subtract its mean from each embedding: auto where the norms do so (none here), or always, as the "
        "official code",
        choices=("auto", "always"),
    )


class SliceGPT(StructuralMethod):
    """Turn the hidden state before every half block to its principal axes, and cut off the least of them."""

    Settings = Settings
    kinds = ("width",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        if facts.architecture not in FAMILIES:
            known = ", ".join(FAMILIES)
            return Unsupported(f"slices blocks wired as Llama's ({known}), not those of {facts.architecture}")
        shares = [removed(facts, width) for width in widths(facts, settings.rounding)]
        if not shares:
            return Unsupported(f"no width that is a multiple of {settings.rounding} removes any parameter")
        if target.structural and target.sparsity > shares[0]:
            return Unsupported(
                f"at a width of {settings.rounding} {shares[0]:.1%} of the parameters are gone, the output "
                "head keeps its own",
                f"{int(100 * shares[0])}% of parameters",
            )
        return super().supports(facts, target, settings)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 2.5

    def compress(self, subject: Subject) -> None:
        facts, settings = subject.facts, self.settings
        width = width_for(facts, self.target.sparsity, settings.rounding)
        subject.notes |= {"hidden_size": width, "sparsity": 1 - width / facts.hidden_size}
        slice_model(subject, width, settings.slice_center_embeddings == "always")


@dataclass(frozen=True)
class Half:
    """The attention or the MLP of a block: its norm's name, its layers by their role, its forward pass."""

    norm: str
    readers: list[nn.Linear]
    shortcut: nn.Linear
    writer: nn.Linear
    forward: Callable[[Tensor], Tensor]


def halves(block: Any, arguments: dict[str, Any]) -> tuple[Half, Half]:
    """The two halves of a :class:`reprune.models.sliced.SlicedBlock`, called with these keyword arguments."""
    reads = [block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj]
    attend = functools.partial(block.attend, **arguments)
    attention = Half("input_layernorm", reads, block.attn_shortcut, block.self_attn.o_proj, attend)
    reads = [block.mlp.gate_proj, block.mlp.up_proj]
    forward = block.feed_forward
    mlp = Half("post_attention_layernorm", reads, block.mlp_shortcut, block.mlp.down_proj, forward)
    return attention, mlp


@dataclass(frozen=True)
class Cut:
    """States (windows, length, width) in a basis (hidden size, width); the share of their squares left."""

    states: Tensor
    basis: Tensor
    energy_kept: float


def slice_model(subject: Subject, width: int, center: bool = False) -> None:
    """Cut every hidden state to ``width``, in bases made from states that carry all earlier cuts.

    The last block gives its whole width, so that the head sees the dense model's basis, turned.
    """
    with torch.no_grad():
        prepare(subject.model, center)
        states, arguments = subject.first_inputs()
        flow = cut(states, width)
        turn_inputs([subject.model.get_input_embeddings()], flow.basis)  # its rows are states
        for index, block in enumerate(subject.blocks):
            last = index + 1 == len(subject.blocks)
            attention, mlp = halves(block, arguments[index])
            flow = slice_half(attention, flow, width, subject.batch_size)
            report = {"attn_shortcut": {"energy_kept": flow.energy_kept}}
            flow = slice_half(mlp, flow, subject.facts.hidden_size if last else width, subject.batch_size)
            report["mlp_shortcut"] = {"energy_kept": flow.energy_kept}
            subject.report[index] = report
            subject.progress((index + 1) / len(subject.blocks))
        turn_inputs([subject.model.get_output_embeddings()], flow.basis)


def prepare(model: Any, center: bool) -> None:
    """Bring a model into the form that is sliced, with the same outputs unless embeddings are centred.

    Norms give their gains to the layers that read them, embedding and head get weights of their own, and
    the residual paths get matrices.
    """
    embedding, decoder = model.get_input_embeddings(), model.get_decoder()
    fold_gain(decoder, "norm", [model.get_output_embeddings()])
    model.config.tie_word_embeddings = False
    if center:
        set_weight(embedding, embedding.weight - embedding.weight.mean(dim=1, keepdim=True))
    prefix, blocks = skeleton.find_blocks(model)
    full = embedding.embedding_dim
    for index, old in enumerate(list(blocks)):
        block = sliced.SlicedBlock(old, full, full, full).eval()
        for half in halves(block, {}):
            fold_gain(block, half.norm, half.readers)
            set_weight(half.shortcut, torch.eye(full))
        parts.put(model, f"{prefix}.{index}", block)


def fold_gain(owner: nn.Module, name: str, readers: Iterable[nn.Module]) -> None:
    """Put a norm without gains in the place of ``name``; the input columns of its readers take the gains."""
    norm = owner.get_submodule(name)
    for layer in readers:
        set_weight(layer, layer.weight * norm.weight)
    parts.put(owner, name, sliced.PlainRMSNorm(norm.weight.numel(), norm.variance_epsilon))


def slice_half(half: Half, before: Cut, width: int, batch_size: int) -> Cut:
    """Let half a block read states in the basis ``before`` and write them in their own, cut to ``width``.

    Until that basis is known, its outputs are in the dense basis. They are linear in the weights that are
    turned then, so turning the outputs too saves the official code's second forward pass.
    """
    turn_inputs(half.readers, before.basis)
    set_weight(half.shortcut, before.basis)
    outputs = torch.cat([half.forward(batch) for batch in before.states.split(batch_size)])
    after = cut(outputs, width)
    turn_outputs([half.shortcut, half.writer], after.basis)
    return after


def cut(states: Tensor, width: int) -> Cut:
    """States (windows, length, hidden size) in the first ``width`` of their principal axes."""
    moment = second_moment(states)
    basis = principal_axes(moment)[:, :width]
    kept = (basis.T @ moment @ basis).trace() / moment.trace()
    return Cut(states @ basis.to(states.dtype), basis, kept.item())


def second_moment(states: Tensor) -> Tensor:
    """Σ xᵀx over all states, (hidden size, hidden size), in float64."""
    rows = (part.double() for part in states.flatten(0, -2).split(ROWS))
    return sum(part.T @ part for part in rows)


def principal_axes(moment: Tensor) -> Tensor:
    """The eigenvectors of a damped second moment as columns, by falling eigenvalue; an orthogonal matrix."""
    damping = DAMPING * moment.diagonal().mean()
    eye = torch.eye(len(moment), dtype=moment.dtype)
    return torch.linalg.eigh(moment + damping * eye).eigenvectors.flip(1)


def turn_inputs(layers: Iterable[nn.Module], basis: Tensor) -> None:
    """W Q: the layers, or an embedding's rows, take states in another basis, (hidden size, width)."""
    for layer in layers:
        set_weight(layer, layer.weight.to(basis.dtype) @ basis)


def turn_outputs(layers: Iterable[nn.Linear], basis: Tensor) -> None:
    """Qᵀ W, and Qᵀ b if there is a bias: the layers write states in another basis, (hidden size, width)."""
    for layer in layers:
        set_weight(layer, basis.T @ layer.weight.to(basis.dtype))
        if layer.bias is not None:
            bias = basis.T @ layer.bias.to(basis.dtype)
            layer.bias = torch.nn.Parameter(bias.to(layer.bias.dtype), requires_grad=False)


def set_weight(layer: nn.Module, weight: Tensor) -> None:
    """Give a layer a weight of its own, of any shape."""
    layer.weight = torch.nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    checkpoint.note_shape(layer)
