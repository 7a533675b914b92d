"""Two rows side by side on every task they share, named by label, target, method or run."""

import numpy as np
import pytest
from downstream_unit import ABSENT, ACC

from reprune.analysis.head_to_head import head_to_head
from reprune.analysis.samples import Undecided

RIGHT = np.tile([1.0, 0.0, 1.0, 1.0], 20)
BETTER = np.where(np.arange(80) < 40, 1.0, RIGHT)
LOSSES = np.linspace(2.5, 3.5, 12)
PROTOCOLS = {ACC: {"tasks": {}, "average": ["piqa", "rte"]}}


@pytest.fixture
def unit(results):
    results.add("Dense", {"c4": LOSSES}, answers={"piqa": RIGHT, "rte": RIGHT})
    results.add("Wanda", {"c4": LOSSES + 0.2}, answers={"piqa": RIGHT, "rte": RIGHT})
    results.add("BESA", {"c4": LOSSES + 0.1}, answers={"piqa": BETTER, "rte": RIGHT})
    for share in ("30%", "50%"):
        results.add("Wanda", {"c4": LOSSES + 0.2}, target=share, experiment="sweep")
        results.add("BESA", {"c4": LOSSES + 0.1}, target=share, experiment="sweep")
    results.add("Wanda", {"c4": LOSSES}, target="2:4", kind="n:m", experiment="patterns")
    results.add("BESA", experiment="patterns", target="2:4", status="skipped", reason="unstructured only")
    return results.unit(protocols=PROTOCOLS)


def cells(lines, start):
    """The cells of the line that starts so."""
    return next(line for line in lines if line.strip().startswith(start)).split("  ")


def test_each_task_has_both_values_their_difference_and_a_word(unit):
    lines = head_to_head(unit, "BESA at 50%", "Wanda at 50%")
    piqa = [cell.strip() for cell in cells(lines, "PIQA") if cell.strip()]
    assert piqa[:5] == ["PIQA", "80", "87.5", "75.0", "+12.5"]
    assert piqa[6:] == ["10 / 0", "0.002", "0.004", "higher"]
    assert "not distinguishable" in " ".join(cells(lines, "RTE"))
    assert " ".join(cells(lines, "Average")).split()[1:5] == ["160", "81.2", "75.0", "+6.2"]


def test_perplexity_has_a_ratio_and_no_p_value(unit):
    lines = head_to_head(unit, "BESA at 50%", "Wanda at 50%", "c4")
    assert "× 0.905" in " ".join(cells(lines, "C4")) and cells(lines, "C4")[-1] == "lower"
    assert not any("McNemar" in line or "PIQA" in line for line in lines)


def test_the_tables_name_runs_and_protocols(unit):
    text = "\n".join(head_to_head(unit, "BESA", "Wanda"))
    assert "BESA at 50% against Wanda at 50%, SmolLM2-135M-Instruct (Q4_1 dequantised)" in text
    assert "besa-small-50%-s0-e" in text and "wanda-small-50%-s0-e" in text
    assert f"Accuracy (%), {ACC}, single run" in text
    assert max(map(len, text.splitlines())) <= 110


def test_labels_are_compared_at_every_target_within_each_experiment(unit):
    heads = [line for line in head_to_head(unit, "besa", "wanda") if " against " in line]
    assert len(heads) == 3
    assert sum("30%" in head for head in heads) == 1


def test_dense_is_compared_with_every_target(unit):
    heads = [line for line in head_to_head(unit, "Wanda", "Dense") if " against " in line]
    assert len(heads) == 1 and heads[0].startswith("Wanda at 50% against Dense")


def test_runs_can_be_named(unit):
    lines = head_to_head(unit, "besa-small-50%-s0-e", "wanda-small-2of4-s0-patterns")
    assert "BESA at 50% against Wanda at 2:4" in lines[1]


def test_one_run_of_several_seeds_can_be_named(results):
    for seed in (0, 1):
        results.add("BESA", answers={"piqa": RIGHT, "rte": RIGHT}, seed=seed)
    results.add("Wanda", answers={"piqa": BETTER, "rte": RIGHT})
    unit = results.unit(protocols=PROTOCOLS)
    assert any("2 seeds" in line for line in head_to_head(unit, "BESA", "Wanda"))
    one = head_to_head(unit, "besa-small-50%-s1-e", "Wanda")
    assert any("single run" in line for line in one) and not any("-s0-e" in line for line in one[:3])


def test_a_skipped_task_is_a_line_with_its_reason(results):
    for name in ("BESA", "Wanda"):
        results.add(name, answers={"piqa": RIGHT}, absent=ABSENT)
    lines = head_to_head(results.unit(), "BESA", "Wanda")
    assert cells(lines, "MathQA")[-1] == "not compared"
    assert any("no data: mathqa" in line for line in lines)


@pytest.mark.parametrize(
    "left, right, task, reason",
    [
        ("BSEA", "Wanda", None, "besa has no row 'BSEA'; did you mean 'BESA'? known: BESA, Dense, Wanda"),
        ("BESA", "Wanda", "pika", "no task 'pika' was measured; did you mean 'piqa'?"),
        ("BESA at 2:4", "Dense", None, "BESA at 2:4: unstructured only"),
        ("BESA", "Wanda at 2:4", None, "BESA at 2:4: unstructured only"),
    ],
)
def test_what_cannot_be_answered_is_one_line(unit, left, right, task, reason):
    with pytest.raises(Undecided, match="^" + reason.replace("?", r"\?")) as refused:
        head_to_head(unit, left, right, task)
    assert "\n" not in str(refused.value)


def test_different_questions_are_refused(results):
    results.add("BESA", answers={"piqa": RIGHT}).add("Wanda", answers={"piqa": RIGHT}, asked="other ")
    with pytest.raises(Undecided, match="were not asked the same"):
        head_to_head(results.unit(), "BESA", "Wanda", "piqa")


def test_rows_without_a_common_target_must_be_named(results):
    for target in ("30%", "50%"):
        results.add("BESA", {"c4": LOSSES}, target=target)
    results.add("Wanda", {"c4": LOSSES}, target="70%").add("Wanda", {"c4": LOSSES}, target="80%")
    unit = results.unit()
    with pytest.raises(Undecided, match="share no target; name one row each, such as 'BESA at 30%'"):
        head_to_head(unit, "BESA", "Wanda")
    assert "BESA at 30% against Wanda at 80%" in head_to_head(unit, "BESA at 30%", "Wanda at 80%")[1]


def test_rows_of_different_models_are_not_compared(results):
    results.add("BESA", {"c4": LOSSES}).add("Wanda", {"c4": LOSSES}, model="llama-7b")
    with pytest.raises(Undecided, match="different models"):
        head_to_head(results.unit(), "BESA", "Wanda")


def test_rows_without_a_common_task_are_not_compared(results):
    results.add("BESA", {"c4": LOSSES}).add("Wanda", {"ptb": LOSSES})
    with pytest.raises(Undecided, match="were not measured on a common task"):
        head_to_head(results.unit(), "BESA", "Wanda")
