"""Every setting with a choice matters: each value changes some checkpoint, or is refused somewhere."""

from __future__ import annotations

import dataclasses

import pytest

from .bench import Bench
from .cases import CHOICES, Case, Choice, models_of, targets_of

# On models of random weights, later blocks always change the state least and no later block moves an earlier
# one's similarity, so these cannot show; the named tests prove that they matter.
SHOWN_ELSEWHERE = {
    ("grasp", "selection"): "tests/papers/test_grasp.py::test_iterative_selection_sees_what_was_replaced",
    ("grasp", "last_hidden"): "tests/papers/test_grasp.py::test_the_final_norm_can_change_the_choice",
    ("llm_streamline", "last_hidden"): (
        "tests/papers/test_llm_streamline.py::test_the_final_norm_can_change_the_choice"
    ),
    ("shortgpt", "last_hidden"): "tests/papers/test_shortgpt.py::test_the_final_norm_can_change_the_choice",
    ("shortgpt", "metric"): "tests/papers/test_shortgpt.py::test_angles_may_choose_other_blocks_than_cosines",
    # A random model soon has all losses below the dense model's, and then a clipped excess is none.
    (
        "sheared_llama",
        "loading",
    ): "tests/papers/test_sheared_llama.py::test_loading_follows_the_losses_to_reach",
    ("cofi", "loading"): "tests/papers/test_sheared_llama.py::test_loading_follows_the_losses_to_reach",
    # Two of three layers are the first and the last by either rule.
    ("distilbert", "spacing"): "tests/papers/test_distilbert.py::test_spacing_moves_blocks_of_deeper_models",
    # Sums are the same in either order, and on random weights the second order is next to nothing.
    ("llm_pruner", "order"): (
        "tests/papers/test_llm_pruner.py::test_the_order_of_aggregation_can_change_the_choice"
    ),
    (
        "llm_pruner",
        "fisher",
    ): "tests/papers/test_llm_pruner.py::test_the_mean_over_samples_can_change_the_choice",
    # Of three layers only two become one, for which both rules agree.
    ("laco", "merge"): "tests/papers/test_laco.py::test_three_layers_tell_the_rules_apart",
}


@pytest.mark.parametrize(
    "choice", [c for c in CHOICES if (c.method.id, c.setting) not in SHOWN_ELSEWHERE], ids=str
)
def test_every_choice_of_a_setting_matters(bench: Bench, choice: Choice):
    assert any(
        matters(bench, Case(choice.method, model, target), choice)
        for model in models_of(choice.method)
        for target in targets_of(choice.method)
    ), "as the default everywhere"


def matters(bench: Bench, default: Case, choice: Choice) -> bool:
    """Whether the choice is refused or changes the checkpoint where the default is served."""
    if bench.refusal(default):
        return False
    changed = dataclasses.replace(default, changed=((choice.setting, choice.value),))
    if bench.refusal(changed):
        return True
    return bench.compressed(changed).hashes() != bench.compressed(default).hashes()
