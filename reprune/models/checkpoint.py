"""Whole models in and out of folders, whatever shape a compression left them in.

A model that transformers can build from its configuration alone is saved as such. Any other (low-rank
layers, widths that differ from block to block) gets a ``reprune.json`` that says how to build it, and a
``config.json`` that transformers refuses, since it would fill the missing weights at random.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from reprune.models.folder import SINGLE, ModelFolder, ModelFolderError
from reprune.models.parts import PARTS, put
from reprune.models.skeleton import find_blocks, number_blocks
from reprune.records.files import read_json, write_json

STRUCTURE = "reprune.json"
CONFIG = "config.json"
GENERATION = "generation_config.json"
FORMAT = 1
REFUSED = {"model_type": "reprune", "hint": "load this folder with reprune.load"}


def structure(folder: Path) -> dict[str, Any]:
    """What ``reprune.json`` tells of a folder: ``parts``, ``replaced`` blocks, ``config``; empty if plain.

    Raises :class:`ModelFolderError` if it was written in a format this version does not know.
    """
    file = folder / STRUCTURE
    if not file.is_file():
        return {}
    found = read_json(file)
    if found["format"] != FORMAT:
        raise ModelFolderError(f"{file}: format {found['format']}, this version reads {FORMAT}")
    return found


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The language model of a folder, regular or not, frozen and in evaluation mode.

    A causal one, or a sequence-to-sequence one if the configuration has encoder and decoder.
    """
    told = structure(folder)
    if "config" in told:
        model = _irregular(folder, told, dtype)
    else:
        kind = _auto_class(ModelFolder(folder).config)
        model = kind.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
    return model.eval().requires_grad_(False)


def _auto_class(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _irregular(folder: Path, told: dict[str, Any], dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, GenerationConfig
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = _empty(AutoConfig.for_model(**told["config"]), dtype)
        model.tie_weights()
        for part in told["parts"]:
            put(model, part["at"], PARTS[part["kind"]].rebuild(part["spec"], model.get_submodule(part["at"])))
    files = ModelFolder(folder)
    assign(model, files.read(sorted(files.files), dtype))
    model.tie_weights()
    number_blocks(model)
    if (folder / GENERATION).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _empty(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    return _auto_class(config).from_config(config, dtype=dtype)


def assign(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Give every parameter and buffer that files hold its tensor, whatever its shape.

    Parameters tied to others need none, and those that follow from the configuration are computed.
    Raises :class:`ModelFolderError` if a tensor has no place or a parameter no tensor.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    needless = set(parameters) - set(dict(model.named_parameters())) | computed(model)
    wrong = sorted((set(parameters) | set(_buffers(model))) - needless ^ set(tensors) - needless)
    if wrong:
        raise ModelFolderError(f"tensors do not fit the structure: {', '.join(wrong[:5])}")
    for name, tensor in tensors.items():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        if name in parameters:
            module._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)
        else:
            module._buffers[attribute] = tensor
    _compute(model, computed(model) - set(tensors))
    note_shapes(model)


def computed(model: nn.Module) -> set[str]:
    """The parameters that follow from the configuration, such as sinusoids of positions; no file has them."""
    return set(getattr(model, "_keys_to_ignore_on_save", None) or ()) & set(dict(model.named_parameters()))


def _compute(model: Any, names: set[str]) -> None:
    with torch.random.fork_rng(devices=[]):  # what is drawn on the way is overwritten
        for name in names:
            model._init_weights(model.get_submodule(name.rpartition(".")[0]))


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that belong into a file, such as a translation model's bias of its logits."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {name: tensor for name, tensor in model.state_dict().items() if name not in parameters}


def note_shapes(model: nn.Module) -> None:
    """Let every module tell the shape that its weights have, attention its number of heads too."""
    for module in model.modules():
        note_shape(module)
        if {"num_heads", "head_dim", "q_proj"} <= {*vars(module), *module._modules}:
            module.num_heads = len(module.q_proj.weight) // module.head_dim


def note_shape(module: nn.Module) -> None:
    """Let a linear layer, an embedding or a norm tell the shape that its weight has."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)


def tell_sizes(model: Any, hidden: int, attended: int, intermediate: int) -> bool:
    """Let the configuration tell the sizes that a cut left, if it then gives the model alone; whether so.

    ``hidden`` and ``intermediate`` are channels, ``attended`` the features of all query heads of a block. The
    configuration stays as it was where blocks differ, or where the architecture allows no such sizes.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = attended // head_dim
    groups = config.num_attention_heads // getattr(config, "num_key_value_heads", config.num_attention_heads)
    sizes = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // groups,
        "intermediate_size": intermediate,
        "head_dim": head_dim,  # said, else it would follow from the others
    }
    sizes = {name: size for name, size in sizes.items() if name == "head_dim" or hasattr(config, name)}
    try:
        fitting = _gives(AutoConfig.for_model(**config.to_dict() | sizes), model)
    except (StrictDataclassError, ValueError):  # such as a hidden size that is no multiple of the heads
        return False
    if fitting:
        for name, size in sizes.items():
            setattr(config, name, size)
    return fitting


def tensors_of(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What belongs into a model's file: parameters, tied ones once, without those computed; and buffers."""
    needless = computed(model)
    return {
        name: tensor.detach().to(dtype).contiguous()
        for name, tensor in [*model.named_parameters(), *_buffers(model).items()]
        if name not in needless
    }


def save_model(
    model: Any, source: ModelFolder, target: Path, dtype: torch.dtype, replaced: Iterable[int] = ()
) -> None:
    """Write ``model`` into the folder ``target`` (which must exist), with the tokenizer of ``source``.

    Tied tensors are written once, those that are :func:`computed` not at all. ``replaced`` are the blocks,
    by their index in ``model``, whose parameters recovery may train.
    """
    save_file(tensors_of(model, dtype), target / SINGLE, metadata={"format": "pt"})
    source.link_companions(target, without=(CONFIG, STRUCTURE))
    _save_structure(model, target, dtype, sorted(replaced))


def _save_structure(model: Any, target: Path, dtype: torch.dtype, replaced: list[int]) -> None:
    model.config.dtype = dtype
    parts = [
        {"at": name, "kind": module.kind, "spec": module.spec()}
        for name, module in model.named_modules()
        if type(module) in PARTS.values()
    ]
    prefix, _ = find_blocks(model)
    told = {"format": FORMAT, "parts": parts, "replaced": [f"{prefix}.{index}" for index in replaced]}
    if parts or not _regular(model):
        told["config"] = model.config.to_dict()
        write_json(target / CONFIG, {**REFUSED, **_tokenizer_class(model, target)})
    else:
        model.config.save_pretrained(target)
    if "config" in told or replaced:
        write_json(target / STRUCTURE, told)


def _tokenizer_class(model: Any, target: Path) -> dict[str, str]:
    """The class that a tokenizer without one in its files, as Marian's, has by the architecture."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    file = target / "tokenizer_config.json"
    usual = TOKENIZER_MAPPING_NAMES.get(model.config.model_type)
    if usual is None or not file.is_file() or "tokenizer_class" in read_json(file):
        return {}
    return {"tokenizer_class": usual}


def _regular(model: Any) -> bool:
    """Whether the configuration alone gives a model of these shapes."""
    return _gives(model.config, model)


def _gives(config: Any, model: Any) -> bool:
    with torch.device("meta"):
        plain = _empty(config)
    return _shapes(plain) == _shapes(model)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}
