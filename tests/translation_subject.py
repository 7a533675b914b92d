"""A random translation model with its own vocabulary and made pairs, as a method for heads gets it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from reprune.calibration.subject import Subject
from reprune.data.parallel import made_pairs
from reprune.method import ModelFacts
from reprune.models.checkpoint import load_model
from reprune.models.folder import load_tokenizer
from reprune.models.sources import save_whole
from reprune.models.translator import Shape, learn_tokenizer, new_model
from reprune.records.store import Store

LAYERS, HEADS = 3, 4
FACTS = ModelFacts("marian", LAYERS, 32, 64, HEADS, HEADS, 8, 120, True, 55_256, 2)
PAIRS = {"train": made_pairs(60, 1), "validation": made_pairs(12, 2)}


def write_translator(folder: Path) -> Path:
    """The folder of a model of 3 + 2 layers with 4 heads, whose gains and biases are at random too."""
    tokenizer = learn_tokenizer([text for pair in PAIRS["train"] for text in pair], FACTS.vocab_size)
    shape = Shape(LAYERS, 2, 32, 64, HEADS, FACTS.vocab_size, 40, 0.1)
    model = new_model(shape, 0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "embed_positions" not in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    tokenizer.save_pretrained(folder)
    save_whole(model, torch.float32, folder)
    return folder


@cache
def _tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


def translation_subject(folder: Path, store: Path, seed: int = 0) -> Subject:
    """The model of that folder in memory, with 60 pairs to train on and 12 to measure."""
    return Subject(
        load_model(folder),
        FACTS,
        None,
        torch.Generator().manual_seed(seed),
        Store(store),
        {"model": folder.name},
        tokenizer=_tokenizer(folder),
        pairs=PAIRS,
    )
