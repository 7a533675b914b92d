"""Win rates: their table, their check with its interval, and the judge's name at every place."""

from __future__ import annotations

import pandas as pd
import pytest

from reprune.analysis.claims import check_claims
from reprune.analysis.table import build_table
from reprune.analysis.tables import write_tables

TITLE = "likelihood under the source model, a stand-in: not GPT-4"
JUDGED = {"name": "likelihood", "title": TITLE, "protocol": "answers", "pairs": [["Ours", "Other"]]}
TABLE = {"id": "w", "kind": "win_rate", "title": "Won", "experiment": "e", "tasks": ["against Other"]}
CHECK = {"kind": "win_rate", "experiment": "e", "left": "Ours", "right": "Other", "at_least": 50}
PRINTED = {
    "id": "figure3",
    "caption": "Won",
    "metric": "win_rate",
    "higher_is_better": True,
    "source": "s",
    "confidence": "medium",
    "decides": False,
    "decimals": 1,
    "rows": [{"method": "Ours-2.7B", "model": "LLaMA", "task": "against INCITE", "value": 63.5}],
}


def judged(results, *by_seed, **changed):
    """A unit in which ``Ours`` and ``Other`` are compared: per seed a list of (shown first, shown second)."""
    for seed, comparisons in enumerate(by_seed):
        for label in ("Ours", "Other"):
            results.add(label, method=label.lower(), seed=seed, published_as=["Ours-2.7B"], **changed)
        left, right = (f"{label}-small-50%-s{seed}-e" for label in ("ours", "other"))
        base = {"run_id": left, "protocol": "answers@1", "task": right, "metric": "win_rate"}
        results.items += [
            {**base, "item": i, "part": part, "value": value, "prompt_hash": f"p{i}"}
            for i, shown in enumerate(comparisons)
            for part, value in enumerate(shown)
        ]
        results.records.append(
            {**base, "suite": "judged", "status": "ok", "variant": "likelihood", "value": 0.5}
        )
    results.experiments["e"]["judged"] = JUDGED
    return results


def ask(results, **changed):
    claim = {"id": "c", "statement": "s", "source": "t", "checks": [{**CHECK, **changed}]}
    return check_claims(results.unit(claims=[claim]))[0]["checks"][0]


WON, LOST, SPLIT = (1.0, 1.0), (0.0, 0.0), (1.0, 0.0)


@pytest.mark.parametrize(
    ("comparisons", "verdict", "rate"),
    [
        ([WON] * 17 + [LOST] * 3, "holds", 85.0),
        ([WON] * 3 + [LOST] * 17, "fails", 15.0),
        ([WON] * 11 + [LOST] * 9, "undecided", 55.0),
        ([SPLIT] * 20, "undecided", 50.0),  # a judge that only sees the place
        ([WON] * 10 + [SPLIT] * 10, "holds", 75.0),
    ],
)
def test_a_win_rate_holds_where_its_interval_is_above_what_is_asked(results, comparisons, verdict, rate):
    check = ask(judged(results, comparisons))
    assert check["verdict"] == verdict and check["estimate"] == pytest.approx(rate)
    assert check["low"] <= rate <= check["high"] and (check["items"], check["seeds"]) == (20, 1)
    assert check["basis"] == "20 prompts, single run"


def test_the_interval_is_that_of_a_share_over_prompts(results):
    """20 prompts, 85 % won: the bootstrap's ends are the binomial's percentiles over prompts, not orders."""
    check = ask(judged(results, [WON] * 17 + [LOST] * 3))
    assert (check["low"], check["high"]) == (70.0, 100.0)


def test_seeds_are_crossed_with_prompts(results):
    check = ask(judged(results, [WON] * 20, [WON] * 10 + [LOST] * 10))
    assert (check["seeds"], check["estimate"]) == (2, 75.0)
    assert check["high"] == 100.0 and check["low"] <= 50.0


def test_every_place_names_the_judge(results, tmp_path):
    unit = judged(results, [WON] * 15 + [LOST] * 5).unit([TABLE], claims=[])
    paths = write_tables(unit, tmp_path)
    assert all(f"judged by {TITLE}" in path.read_text() for path in paths)
    assert pd.read_csv(tmp_path / "w.csv").judged.tolist() == [f"judged by {TITLE}"]
    check = ask(results)
    assert check["sentence"] == f"Ours wins more than 50 % of the comparisons with Other, judged by {TITLE}"
    assert check["what"].endswith(f"judged by {TITLE}")


def test_the_table_has_the_rows_that_are_compared_with_their_errors(results):
    unit = judged(results, [WON] * 15 + [LOST] * 5).unit([TABLE])
    (line,) = build_table(unit, TABLE).lines
    (cell,) = line.cells
    assert line.row.label == "Ours" and cell.measurement.value == 75.0
    assert cell.measurement.stderr == pytest.approx(100 * (0.75 * 0.25 / 19) ** 0.5)
    assert (cell.measurement.stderr_over, cell.measurement.n) == ("prompts", 20)


def test_printed_rates_of_other_opponents_stand_beside_as_another_models(results):
    spec = {**TABLE, "published": {"tables": ["figure3"], "models": ["LLaMA"], "tasks": ["against INCITE"]}}
    table = build_table(judged(results, [WON] * 4).unit([spec], published=[PRINTED]), spec)
    assert [(column.kind, column.title) for column in table.columns] == [
        ("measured", "against Other"),
        ("other", "against INCITE"),
    ]
    assert table.lines[0].cells[1].measurement.value == 63.5


def test_what_was_not_compared_says_why(results):
    results = judged(results, [])
    check = ask(results)
    assert (check["verdict"], check["reason"]) == (
        "undecided",
        "the answers of Ours at 50% were not compared",
    )
    results.records[-1] |= {"status": "oom", "reason": "not enough memory", "value": None}
    assert ask(results)["reason"] == "Ours at 50%: oom (not enough memory)"
    (line,) = build_table(results.unit([TABLE]), TABLE).lines
    assert line.cells[0].measurement.reason == "Ours at 50%: oom (not enough memory)"


def test_a_skipped_opponent_is_named(results):
    results.add("Ours", method="ours")
    results.add("Other", method="other", status="skipped", reason="too wide")
    results.experiments["e"]["judged"] = JUDGED
    assert ask(results)["reason"] == "Other at 50%: skipped (too wide)"
