"""Mixtures: token windows of several domains of text, to train on and to measure each domain's loss on."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from reprune.calibration.windows import CalibrationError
from reprune.models.separator import separator_id
from reprune.plan.identity import stream_seed
from reprune.records.files import whole

PARTS = ("train", "held_out")
MIN_DOCUMENTS = 32  # read at least, so that a few windows do not all come from one long document


@dataclass(frozen=True)
class Mixture:
    """Token windows by domain.

    ``train`` and ``held_out`` are {domain: (windows, length) int64}; ``proportions`` are {domain: share of
    the source paper's data}, with sum 1. All three have the same domains in the same order.
    """

    train: dict[str, torch.Tensor]
    held_out: dict[str, torch.Tensor]
    proportions: dict[str, float]


def write_mixture(path: Path, mixture: Mixture) -> None:
    """Write one safetensors file: ``train/cc``, ``held_out/cc`` … as int32, the proportions as metadata."""
    tensors = {
        f"{part}/{domain}": tokens.to(torch.int32).contiguous()
        for part in PARTS
        for domain, tokens in getattr(mixture, part).items()
    }
    with whole(path) as temporary:
        save_file(tensors, temporary, metadata={"proportions": json.dumps(mixture.proportions)})


def read_mixture(path: Path) -> Mixture:
    """The mixture written by :func:`write_mixture`."""
    with safe_open(path, framework="pt") as file:
        proportions = json.loads(file.metadata()["proportions"])
        train, held_out = (
            {domain: file.get_tensor(f"{part}/{domain}").long() for domain in proportions} for part in PARTS
        )
    return Mixture(train, held_out, proportions)


def draw_mixture(
    documents: Callable[[str, str], list[str]],
    tokenize: Callable[[str], list[int]],
    proportions: Mapping[str, float],
    sizes: Mapping[str, int | None],
    length: int,
) -> tuple[Mixture, dict[str, dict[str, dict[str, int]]]]:
    """Windows of ``length`` tokens of every domain of ``proportions``, and what was read for them.

    ``documents`` gives the text of a domain and a part, ``train`` or ``held_out``; a document of both is not
    trained on. ``sizes`` says how many windows of each part a domain has at most, None for all it gives. The
    facts are the ``documents`` and ``tokens`` read and the ``windows`` kept, by domain and part. Raises
    :class:`CalibrationError` if a part has less than one window.
    """
    drawn: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    facts: dict[str, dict[str, dict[str, int]]] = {domain: {} for domain in proportions}
    for domain in proportions:
        kept_apart = documents(domain, "held_out")
        seen = set(kept_apart)
        texts = {"train": [d for d in documents(domain, "train") if d not in seen], "held_out": kept_apart}
        for part, text in texts.items():
            seed = stream_seed("mixture", domain, part)
            windows, facts[domain][part] = domain_windows(text, tokenize, sizes[part], length, seed)
            if len(windows) == 0:
                raise CalibrationError(
                    f"domain '{domain}' has {facts[domain][part]['tokens']} tokens in its part '{part}', "
                    f"less than one window of {length}; lower the mixture's `length`"
                )
            drawn[part][domain] = windows
    return Mixture(drawn["train"], drawn["held_out"], dict(proportions)), facts


def domain_windows(
    documents: list[str],
    tokenize: Callable[[str], list[int]],
    windows: int | None,
    length: int,
    seed: int,
) -> tuple[torch.Tensor, dict[str, int]]:
    """At most ``windows`` windows of one domain, (windows, length) int64, and what was read for them.

    As LLM-Shearing prepares RedPajama (``tokenize_single_file.py``, ``sample.py``): documents that end with
    a mark are joined and cut, the rest is dropped, and windows are drawn at random. Documents are read in an
    order drawn with ``seed`` until there are enough tokens and at least :data:`MIN_DOCUMENTS` were read.
    """
    stream = random.Random(seed)
    tokens, read = array("i"), 0
    for index in stream.sample(range(len(documents)), len(documents)):
        if windows is not None and read >= MIN_DOCUMENTS and len(tokens) >= windows * length:
            break
        tokens.extend(tokenize(documents[index]))
        read += 1
    found = len(tokens) // length
    cut = torch.from_numpy(np.frombuffer(tokens, np.intc)[: found * length]).long().view(found, length)
    if windows is not None and windows < found:
        cut = cut[sorted(stream.sample(range(found), windows))]
    return cut, {"documents": read, "tokens": len(tokens), "windows": len(cut)}


def marked_tokenizer(folder: Any, separator: str | None) -> Callable[[str], list[int]]:
    """Text to the token ids of the model folder's tokenizer, with the mark of a document's end behind them.

    No mark stands before a document, as in the perplexity suite's join by a separator; the official code
    puts the tokenizer's beginning of text there as well. Raises :class:`CalibrationError` if the tokenizer
    has no such mark.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    try:
        mark = separator_id(tokenizer, separator)
    except ValueError as error:
        raise CalibrationError(str(error)) from error
    return lambda text: [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], mark]
