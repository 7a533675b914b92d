"""Low-rank adapters through peft: put beside linear layers, trained, merged into their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from reprune.models.skeleton import find_blocks, linear_layers
from reprune.training.trainer import TrainingError

PEFT_MARK = "peft_config"  # what peft leaves on a model


def targeted(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers of the decoder blocks that ``targets`` mean, by full name.

    A target is a part of a path: ``q_proj`` means a layer of that name, or both factors of a low-rank one;
    ``q_proj.up`` one of them. Raises :class:`TrainingError` for a target that means no layer.
    """
    prefix, blocks = find_blocks(model)
    known = linear_layers(blocks)
    chosen = {name for target in targets for name in _meant(target, known)}
    return {f"{prefix}.{name}": layer for name, layer in known.items() if name in chosen}


def _meant(target: str, names: Iterable[str]) -> list[str]:
    found = [name for name in names if f".{target}." in f".{name}."]
    if not found:
        known = ", ".join(dict.fromkeys(name.split(".")[-1] for name in names))
        raise TrainingError(f"no linear layer of the blocks is called '{target}'; there are {known}")
    return found


def rank_for_share(layers: Mapping[str, nn.Linear], share: float, dense_parameters: int) -> int:
    """The rank, at least 1, that trains most nearly ``share`` of ``dense_parameters``.

    A rank of adapters costs inputs + outputs parameters in every layer.
    """
    each = sum(layer.in_features + layer.out_features for layer in layers.values())
    return max(1, round(share * dense_parameters / each))


def attach(model: nn.Module, layers: Iterable[str], rank: int, alpha: float, dropout: float) -> Any:
    """Put adapters beside the named layers, which begin as zero; what :func:`merge` takes.

    All else is frozen. Draws from torch's global generator.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(layers), bias="none"
    )
    return LoraModel(model, config, "default")


def merge(adapted: Any) -> None:
    """Add the adapters to the weights they stand beside; the model has its own modules again."""
    model = adapted.merge_and_unload()
    if hasattr(model, PEFT_MARK):
        delattr(model, PEFT_MARK)
