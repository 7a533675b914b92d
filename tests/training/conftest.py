"""Tiny models to train, a few instructions with answers, and a mixture of domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from reprune.calibration.mixture import Mixture
from reprune.models.checkpoint import load_model
from reprune.models.parts import put
from reprune.models.skeleton import find_blocks
from reprune.surgery.low_rank import factorise, svd
from reprune.training.instructions import Example

WORDS = ("red", "green", "blue", "white", "black")


@pytest.fixture(scope="session")
def tokenizer(tiny_folder) -> Any:
    """One token per byte, nothing added."""
    return AutoTokenizer.from_pretrained(tiny_folder())


@pytest.fixture
def tiny_model(tiny_folder) -> Callable[..., Any]:
    """Loads a tiny model as recovery gets it: frozen, in float32."""
    return lambda name="tiny-llama": load_model(tiny_folder(name))


@pytest.fixture
def at_each_step(monkeypatch) -> Callable[..., list]:
    """Has ``read`` called with an optimiser before every step it takes; the list of what it returned."""

    def watched(kind: type[torch.optim.Optimizer], read: Callable[[Any], Any]) -> list:
        seen, step = [], kind.step

        def noted(self, *args):
            seen.append(read(self))
            return step(self, *args)

        monkeypatch.setattr(kind, "step", noted)
        return seen

    return watched


@pytest.fixture
def rates_of_steps(at_each_step) -> Callable[..., list[list[float]]]:
    """The rates by group of every step that a kind of optimiser takes from now on."""
    return lambda kind: at_each_step(kind, lambda own: [group["lr"] for group in own.param_groups])


@pytest.fixture
def norms_of_steps(at_each_step) -> Callable[..., list[float]]:
    """The norm of the whole gradient at every step that a kind of optimiser takes from now on."""

    def norm(own):
        grads = [p.grad for group in own.param_groups for p in group["params"]]
        return torch.stack([g.norm() for g in grads]).norm().item()

    return lambda kind: at_each_step(kind, norm)


@pytest.fixture
def low_rank_model(tiny_model) -> Callable[[], Any]:
    """The tiny model with all linear layers of its last block as factors of rank 4."""

    def made() -> Any:
        model = tiny_model()
        prefix, blocks = find_blocks(model)
        for name, linear in list(blocks[-1].named_modules()):
            if isinstance(linear, torch.nn.Linear):
                u, s, vt = svd(linear.weight)
                part = factorise(linear, u[:, :4] * s[:4], vt[:4])
                put(model, f"{prefix}.{len(blocks) - 1}.{name}", part)
        return model.requires_grad_(False)

    return made


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """24 rows, some with an input."""
    return [
        {
            "instruction": f"Repeat {word} {n}",
            "input": "times" * (n % 2),
            "output": f"{word} " * n,
        }
        for n in range(1, 6)
        for word in WORDS
    ][:24]


@pytest.fixture
def made_examples() -> list[Example]:
    """Examples of lengths 3 to 19, of which about half is scored."""
    generator = torch.Generator().manual_seed(7)
    lengths = [12, 3, 19, 7, 7, 16]
    return [
        Example(torch.randint(2, 258, (n,), generator=generator).tolist(), max(1, n // 2)) for n in lengths
    ]


@pytest.fixture
def made_mixture() -> Mixture:
    """Three domains whose tokens are drawn from 8, 32 and 128 words: windows of 16 tokens."""
    generator = torch.Generator().manual_seed(3)

    def windows(words: int, count: int) -> torch.Tensor:
        return torch.randint(2, 2 + words, (count, 16), generator=generator)

    words = {"plain": 8, "usual": 32, "rich": 128}
    return Mixture(
        {name: windows(count, 30) for name, count in words.items()},
        {name: windows(count, 4) for name, count in words.items()},
        {"plain": 0.5, "usual": 0.3, "rich": 0.2},
    )
