"""The suite itself: a method with one fault fails the test that looks for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from reprune.calibration.block import Block
from reprune.discovery import MethodEntry
from reprune.method import BlockMethod, Method, Target, setting
from reprune.surgery import masks

from . import test_conformance as suite
from .bench import Bench
from .cases import Case, Choice
from .test_settings import test_every_choice_of_a_setting_matters as every_choice_matters

HALF, TWO_OF_FOUR = Target.unstructured(0.5), Target.n_of_m(2, 4)


class Sound(BlockMethod):
    """Prunes by magnitude inside rows."""

    kinds = ("unstructured", "n:m")
    share = 1.0

    def prune_block(self, block: Block) -> None:
        for layer in block.linears.values():
            count = int(layer.in_features * self.target.sparsity * self.share)
            masks.prune(layer, masks.lowest_per_row(self.importance(layer.weight, block), count))

    def importance(self, weight: torch.Tensor, block: Block) -> torch.Tensor:
        return weight.abs()


class RemovesTooFew(Sound):
    share = 0.9


class RemovesTheSame(Sound):
    def prune_block(self, block: Block) -> None:
        self.target = HALF
        super().prune_block(block)


class RemovesTheLargest(Sound):
    def importance(self, weight: torch.Tensor, block: Block) -> torch.Tensor:
        return -weight.abs()


class BelowItsOwnScore(RemovesTheLargest):
    def own_score(self, block: Block) -> dict[str, torch.Tensor]:
        return {name: layer.weight.abs() for name, layer in block.linears.items()}


class Prints(Sound):
    def importance(self, weight: torch.Tensor, block: Block) -> torch.Tensor:
        print("pruning")
        return weight.abs()


class DrawsGlobally(Sound):
    def importance(self, weight: torch.Tensor, block: Block) -> torch.Tensor:
        return torch.rand_like(weight)


class Seeds(Sound):
    def importance(self, weight: torch.Tensor, block: Block) -> torch.Tensor:
        random.seed(0)
        np.random.seed(0)
        return weight.abs()


class ScalesItsInputs(Sound):
    def prune_block(self, block: Block) -> None:
        super().prune_block(block)
        block.inputs.mul_(2)


class SaysNothing(BlockMethod):
    __doc__ = None


class AcceptsAnything(Sound):
    @classmethod
    def supports(cls, facts: object, target: Target, settings: object) -> None:
        return None


@dataclass(frozen=True)
class Idle:
    mood: str = setting("calm", "changes nothing", choices=("calm", "wild"))


class HasAnIdleSetting(Sound):
    Settings = Idle


def entry(cls: type[Method]) -> MethodEntry:
    return MethodEntry(cls.__name__, Path(), cls)


@pytest.mark.parametrize(
    "cls, test, target",
    [
        (RemovesTooFew, suite.test_reaches_the_target_to_one_weight_per_row, HALF),
        (Sound, suite.test_n_of_m_holds_in_every_group, TWO_OF_FOUR),
        (DrawsGlobally, suite.test_two_runs_give_identical_files, HALF),
        (DrawsGlobally, suite.test_leaves_the_global_random_state_alone, HALF),
        (Seeds, suite.test_leaves_the_global_random_state_alone, HALF),
        (Prints, suite.test_prints_nothing, HALF),
        (ScalesItsInputs, suite.test_does_not_change_its_inputs, HALF),
        (RemovesTheLargest, suite.test_no_swap_of_kept_and_pruned_weights_is_an_improvement, HALF),
        (RemovesTheLargest, suite.test_no_swap_of_kept_and_pruned_weights_is_an_improvement, TWO_OF_FOUR),
        (BelowItsOwnScore, suite.test_no_swap_of_kept_and_pruned_weights_is_an_improvement, HALF),
    ],
)
def test_a_faulty_method_fails(bench: Bench, cls: type[Method], test: Callable, target: Target):
    case = Case(entry(cls), "tiny-llama-gqa", target)
    with pytest.raises(AssertionError):
        test(bench, case)


def test_a_sound_method_passes(bench: Bench):
    case = Case(entry(Sound), "tiny-llama-gqa", HALF)
    suite.test_reaches_the_target_to_one_weight_per_row(bench, case)
    suite.test_two_runs_give_identical_files(bench, case)
    suite.test_no_swap_of_kept_and_pruned_weights_is_an_improvement(bench, case)


def test_a_method_that_ignores_its_target_fails(bench: Bench):
    with pytest.raises(AssertionError):
        suite.test_a_sparser_target_removes_more(bench, entry(RemovesTheSame), "tiny-llama-gqa")


def test_a_method_that_accepts_what_it_does_not_declare_fails(bench: Bench):
    with pytest.raises(AssertionError):
        suite.test_supports_answers_none_or_a_reason(bench, entry(AcceptsAnything), "tiny-llama")


def test_a_method_without_a_description_fails():
    with pytest.raises(AssertionError):
        suite.test_says_what_it_does_and_what_each_setting_means(entry(SaysNothing))


def test_an_idle_setting_fails(bench: Bench):
    with pytest.raises(AssertionError):
        every_choice_matters(bench, Choice(entry(HasAnIdleSetting), "mood", "wild"))
