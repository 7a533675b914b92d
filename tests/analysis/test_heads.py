"""Heads and their roles in plots and claims: what is drawn is what was noted, and tests decide exactly."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from heads_unit import BASELINES, BLEU_AT, DENSE, LEVELS, TASK, WORDS, heads_unit, keep, record
from matplotlib.colors import to_hex, to_rgb
from scipy.stats import hypergeom, permutation_test, spearmanr

from reprune.analysis import palette
from reprune.analysis.check_heads import chance_of_more, ranks_agree
from reprune.analysis.checks import KINDS as CHECKS
from reprune.analysis.evidence import FAILS, HOLDS, UNDECIDED
from reprune.analysis.measurements import fact
from reprune.analysis.plots import draw, svg
from reprune.analysis.trained import QUANTITIES
from reprune.analysis.wording import basis, figures, sentence

LAMBDAS = {count: f"λ = {level:g}" for count, level in LEVELS.items() if count < 48}
ROLES = {"protocol": "head-roles-voita", "task": TASK}
BLEU = {"protocol": "translation-voita", "task": TASK, "metric": "bleu"}
SPECS = {
    "heads": {**ROLES, "reference": "Dense", "rows": ["Dense", *LAMBDAS.values()]},
    "attention": {**ROLES, "method": "Dense"},
    "relations": {**ROLES, "method": "Dense"},
    "retained": {**BLEU, "reference": "Dense", "series": {"pruned": [*LAMBDAS.values()]}},
}


def spec(kind, **changed):
    return {"id": kind, "kind": kind, "title": kind, "experiment": "e", **SPECS[kind], **changed}


def check(kind, **more):
    asked = {"kind": kind, "experiment": "e", "protocol": "head-roles-voita", "tasks": [TASK], **more}
    return lambda unit: CHECKS[kind](unit, asked), asked


@pytest.fixture
def pruned(results):
    return heads_unit(results)


@pytest.mark.parametrize("kind", SPECS)
def test_svg_is_the_same_bytes_twice(pruned, kind):
    text = svg(pruned, spec(kind))
    assert text == svg(pruned, spec(kind)) and f">{kind}</text>" in text


@pytest.mark.parametrize("kind", SPECS)
def test_a_plot_without_anything_to_draw_says_why(results, kind):
    unit = results.add("Dense", method="dense", status="skipped", reason="no model").unit()
    text = svg(unit, spec(kind, series={"all": ["Dense"]}) if kind == "retained" else spec(kind))
    assert "Nothing to draw: Dense: no model" in text


def test_heads_are_drawn_where_they_are_kept_from_many_to_few(pruned):
    figure, data = draw(pruned, spec("heads"))
    assert [axes.get_title(loc="left") for axes in figure.axes][:3] == ["48 heads", "30 heads", "17 heads"]
    for count, label in LAMBDAS.items():
        own = data[data.label == label].pivot(index="layer", columns="head", values="kept").to_numpy()
        assert own.tolist() == keep(count, 0) and own.sum() == count


def test_colours_are_of_the_dense_model_unless_they_are_to_be_its_own(pruned):
    dense, own = (draw(pruned, spec("heads", **more))[1] for more in ({}, {"roles": "own"}))
    at = {"label": LAMBDAS[6], "layer": 1, "head": 3}
    found = [d[(d[list(at)] == list(at.values())).all(axis=1)].iloc[0] for d in (dense, own)]
    assert [(row.roles, row.functions) for row in found] == [("positional", 1), ("positional;syntactic", 2)]


def test_a_shade_tells_how_nearly_a_head_has_a_role(pruned):
    figure, data = draw(pruned, spec("heads", degree="positional_share"))
    dense = data[data.label == "Dense"]
    top = dense.loc[dense.degree.idxmax()]
    squares = [patch for patch in figure.axes[0].patches if patch.get_width() > 0.7]
    shades = {(round(p.get_y() + 0.44), round(p.get_x() + 0.44)): to_hex(p.get_facecolor()) for p in squares}
    assert len(shades) == 48 and shades[top.layer, top["head"]] == palette.ROLES["positional"]
    order = dense.sort_values("degree")
    light = [sum(to_rgb(shades[place])) for place in zip(order.layer, order["head"], strict=True)]
    assert light == sorted(light, reverse=True), "the darker the more"
    assert not [text for axes in figure.axes for text in axes.texts if text.get_text().isdigit()]


def test_an_unknown_degree_is_told_with_those_there_are(pruned):
    asked = spec("heads", degree="positional")
    assert "degree is one of positional_share, syntactic_margin, not 'positional'" in svg(pruned, asked)


def test_a_pruned_model_whose_roles_were_not_measured_is_not_drawn_with_its_own(results):
    unit = heads_unit(results, measured=False)
    assert draw(unit, spec("heads"))[1].label.nunique() == len(LEVELS)
    figure, data = draw(unit, spec("heads", roles="own"))
    assert set(data.label) == {"Dense", LAMBDAS[0]}
    assert any("no roles of heads were measured" in text.get_text() for text in figure.texts)


def test_a_map_for_each_role_has_the_kept_weights(pruned):
    figure, data = draw(pruned, spec("attention"))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "Positional: layer 2, head 4\n93% of maxima at one offset",
        "Syntactic: layer 3, head 3\n31 points above the best offset",
        "Nearest to rare words: layer 1, head 2\nat the rarest token in 28% of sentences",
        "Unknown: layer 6, head 8\nconfidence 0.42",
    ]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == WORDS
    (run,) = pruned.select("e", "Dense")[0].runs
    ((_, told),) = pruned.notes[run.run_id]["measured"].items()
    drawn = data[data.role == "rare"].weight.to_numpy().reshape(len(WORDS), -1)
    assert drawn.tolist() == told[TASK]["example"]["maps"][2]["weights"]


def test_a_relation_has_its_best_head_and_its_baseline(pruned):
    _, data = draw(pruned, spec("relations"))
    row = data.set_index("relation").loc["dobj_dependent"]
    assert (row.accuracy, row.baseline, row.layer, row["head"]) == (0.78, BASELINES["dobj"], 2, 2)
    assert row.syntactic and not data.set_index("relation").loc["dobj_head"].syntactic


def test_bleu_stands_over_the_heads_that_are_left(pruned):
    _, data = draw(pruned, spec("retained"))
    assert data.x.tolist() == [30, 17, 11, 6, 2, 0] and data.stderr.tolist() == [0.35] * 6
    assert (data.stderr_over.nunique(), data.series.unique().tolist()) == (1, ["pruned"])


def test_heads_left_are_a_fact_of_a_row(results):
    unit = heads_unit(results, seeds=(0, 1))
    (row,) = unit.select("e", f"λ = {LEVELS[11]:g}")
    assert fact(unit, row, "encoder_heads") == 11
    (dense,) = unit.select("e", "Dense")
    assert fact(unit, dense, "encoder_heads") is None


def test_a_row_with_more_heads_is_not_held_against_one_with_fewer(pruned):
    asked = {**BLEU, "tasks": [TASK], "left": LAMBDAS[17], "no_more": "encoder_heads"}

    def reason(right):
        (part,) = check("greater", **asked, right=right)[0](pruned)
        assert part.verdict == UNDECIDED
        return part.reason

    more = f"{LAMBDAS[17]} has more than {LAMBDAS[6]}, encoder heads: 17 against 6"
    assert reason(LAMBDAS[6]) == more
    assert reason("Dense") == "Encoder heads: not known of λ = 0.02 or Dense"
    assert "has more" not in reason(LAMBDAS[30]), "it is compared, and sentences are missing"


def test_what_a_suite_measured_beside_is_a_fact(results):
    (row,) = heads_unit(results).select("e", LAMBDAS[17])
    record(results, row.runs[0].run_id, BLEU_AT, "copy_bleu", 2.5, suite="translation")
    unit = results.unit()
    assert fact(unit, row, "copy_bleu") == 2.5 and fact(unit, row, "shuffled_bleu") is None


@pytest.mark.parametrize(("kind", "lead"), [("cross", 0.25), ("decoder", 0.125)])
def test_leads_of_kinds_of_attention_are_shares_of_their_own_heads(kind, lead):
    gates = {"encoder": [[1.0] * 8] * 3, "decoder": [[1.0] * 8], "cross": [[1.0] * 8]}
    last = {"open": {"encoder": 12, "decoder": 5, "cross": 6}, "gates": gates}
    told = {"row": None, "stages": [SimpleNamespace(name="gates", measured=[last])]}
    run = SimpleNamespace(**told, stage=lambda name: told["stages"][0])
    assert QUANTITIES[f"{kind}_lead"].of(run) == lead
    assert QUANTITIES["cross_over_decoder"].of(run) == 0.125


def test_heads_left_stand_over_a_setting(results):
    unit = heads_unit(results, seeds=(0, 1))
    wanted = {**spec("retained", setting="penalty")}
    figure, data = draw(unit, {k: v for k, v in wanted.items() if k not in (*BLEU, "reference")})
    assert dict(zip(data.x, data.value, strict=True)) == {LEVELS[count]: count for count in LAMBDAS}
    assert figure.axes[0].get_xscale() == "log" and set(data.stderr) == {0.0}


def test_the_chance_of_labels_among_the_kept_is_hypergeometric():
    labelled, kept = np.arange(48) < 7, np.arange(48) % 3 == 0
    found, above, below = chance_of_more(labelled, kept.astype(float), np.random.default_rng(0))
    expected = hypergeom(48, 7, 16)
    assert found == 3 and above == pytest.approx(expected.sf(2), abs=0.02)
    assert below == pytest.approx(expected.cdf(3), abs=0.02)


def test_heads_with_roles_that_are_left_last_are_enriched(pruned):
    ask, asked = check("enriched", method=LAMBDAS[17], than="Dense")
    (part,) = ask(pruned)
    assert part.verdict == HOLDS and part.estimate == pytest.approx(100 * (7 / 17 - 7 / 48))
    told, p = part.reason.split("p = ")
    assert told == "7 of 17 kept, 7 of 48 in all, permutation test, "
    assert float(p) == pytest.approx(hypergeom(48, 7, 17).sf(6), abs=1e-3)
    assert sentence(pruned, asked) == (
        "Heads with a role in Dense are a larger share of those that λ = 0.02 keeps than of all"
    )


def test_enrichment_may_fail_or_stay_open(pruned, monkeypatch):
    unlabelled = [(layer, head) for layer in range(6) for head in range(8) if (layer, head) not in DENSE]
    notes = pruned.notes[pruned.select("e", LAMBDAS[17])[0].runs[0].run_id]["heads"]

    def keeping(places):
        notes["kept"] = {"encoder": [[(la, h) in places for h in range(8)] for la in range(6)]}
        (part,) = check("enriched", method=LAMBDAS[17], than="Dense")[0](pruned)
        return part

    assert keeping(unlabelled[:30]).verdict == FAILS
    assert keeping([*unlabelled[:5], next(iter(DENSE))]).verdict == UNDECIDED
    empty = keeping([])
    assert empty.verdict == UNDECIDED and "no head is left" in empty.reason


@pytest.mark.parametrize("kind", ["enriched", "kept_are_higher"])
def test_seeds_that_keep_the_same_heads_are_no_more_evidence_than_one(results, tmp_path, kind, monkeypatch):
    monkeypatch.setattr("heads_unit.keep", lambda count, seed: keep(count, 0))
    metric = {"metric": "rare_share"} if kind == "kept_are_higher" else {}
    ask, _ = check(kind, method=LAMBDAS[30], than="Dense", **metric)
    (three,) = ask(heads_unit(results, seeds=(0, 1, 2)))
    (one,) = ask(heads_unit(type(results)(tmp_path / "one")))
    assert (three.seeds, one.seeds) == (3, 1) and three.estimate == pytest.approx(one.estimate)
    assert three.reason.split("p = ")[1] == one.reason.split("p = ")[1]


@pytest.mark.parametrize(
    ("metric", "count", "verdict"), [("positional_share", 6, HOLDS), ("rare_share", 30, UNDECIDED)]
)
def test_heads_that_are_kept_have_more_of_what_is_not_chance(pruned, metric, count, verdict):
    ask, asked = check("kept_are_higher", metric=metric, method=LAMBDAS[count], than="Dense")
    (part,) = ask(pruned)
    items = pruned.items[(pruned.items.metric == metric) & pruned.items.run_id.str.startswith("dense")]
    kept = np.array(keep(count, 0))[items["item"].astype(int), items["part"].astype(int)]
    expected = permutation_test(
        (items.value[kept], items.value[~kept]),
        lambda own, other: own.mean() - other.mean(),
        n_resamples=5_000,
        alternative="greater",
        rng=1,
    )
    assert part.estimate == pytest.approx(100 * (items.value[kept].mean() - items.value[~kept].mean()))
    assert float(part.reason.split("= ")[1]) == pytest.approx(expected.pvalue, abs=0.02)
    assert (part.verdict, part.items, part.unit) == (verdict, 48, "points")
    told = f"is higher for those that {LAMBDAS[count]} keeps than for those that it removes"
    assert sentence(pruned, asked).endswith(told)


def test_the_chance_of_the_greatest_lead_is_counted():
    values, lead = np.array([1.0, 2, 3, 10]), np.array([-1, -1, -1, 3]) / 3
    estimate, above, below = chance_of_more(values, lead, np.random.default_rng(0))
    assert (estimate, below) == (8.0, 1.0) and above == pytest.approx(1 / 4, abs=0.02)
    nothing, above, below = chance_of_more(values, lead - lead, np.random.default_rng(0))
    assert (nothing, above, below) == (0.0, 1.0, 1.0), "of patterns that are each other's opposite"


def test_of_no_head_nothing_is_compared(pruned):
    (part,) = check("kept_are_higher", metric="confidence", method=LAMBDAS[0], than="Dense")[0](pruned)
    assert part.verdict == UNDECIDED and "all heads, or none" in part.reason


@pytest.mark.parametrize("kind", ["enriched", "kept_are_higher"])
def test_of_a_row_that_was_not_made_the_reason_is_told(results, kind):
    results.add("Gone", method="voita_heads", kind="heads", status="skipped", reason="no such model")
    asked = {"metric": "confidence"} if kind == "kept_are_higher" else {}
    (part,) = check(kind, method="Gone", than="Dense", **asked)[0](heads_unit(results))
    assert part.verdict == UNDECIDED and "no such model" in part.reason


def test_roles_per_head_rise_as_heads_go(pruned):
    ask, asked = check("heads_greater", metric="functions", left=LAMBDAS[6], right="Dense")
    (part,) = ask(pruned)
    counts = {
        place: sum(told.get(role, 0) for role in ("positional", "syntactic", "rare"))
        for place, told in DENSE.items()
    }
    left = [counts[la, h] + 1 for la, row in enumerate(keep(6, 0)) for h, kept in enumerate(row) if kept]
    assert part.estimate == pytest.approx(sum(left) / 6 - sum(counts.values()) / 48)
    assert part.verdict == HOLDS and part.low > 0 and part.items == 6
    assert sentence(pruned, asked) == "Roles per head, mean over heads, is higher for λ = 0.1 than for Dense"
    (back,) = check("heads_greater", metric="functions", left="Dense", right=LAMBDAS[6])[0](pruned)
    assert back.verdict == FAILS


def test_a_head_that_several_seeds_keep_counts_once(results, monkeypatch):
    monkeypatch.setattr("heads_unit.keep", lambda count, seed: keep(count, 0))
    unit = heads_unit(results, seeds=(0, 1, 2))
    (part,) = check("heads_greater", metric="functions", left=LAMBDAS[6], right="Dense")[0](unit)
    assert part.items == 6 and part.low > 0


def test_positional_heads_are_confident(pruned):
    ask, asked = check("role_above_median", metric="confidence", method="Dense", role="positional")
    (part,) = ask(pruned)
    items = pruned.items[(pruned.items.metric == "confidence") & pruned.items.run_id.str.startswith("dense")]
    assert part.verdict == HOLDS and part.items == 3
    assert part.estimate == pytest.approx(0.84 - np.median(items.value))
    assert sentence(pruned, asked).endswith("whose role is positional is above the median head's")
    (gone,) = check("role_above_median", metric="confidence", method=LAMBDAS[2], role="rare")[0](pruned)
    assert gone.verdict == UNDECIDED and "no head's role is rare words" in gone.reason


def test_a_first_layer_head_points_at_the_rarest_token_above_chance(pruned):
    more = {"metric": "rare_share", "chance": "rare_chance", "layer": 0, "method": "Dense"}
    ask, asked = check("above_chance", at_least=2, **more)
    (part,) = ask(pruned)
    assert part.verdict == HOLDS and part.estimate == pytest.approx(6.2) and part.low > 5
    assert "rarest token pointed at of the best head in layer 1 of Dense" in figures(part) + part.what
    assert "in layer 1 of Dense is more than 2 times that of chance" in sentence(pruned, asked)
    (second,) = check("above_chance", at_least=2, **{**more, "layer": 1})[0](pruned)
    assert second.verdict in (FAILS, UNDECIDED)


def test_what_was_not_measured_is_undecided(results):
    unit = heads_unit(results, measured=False)
    (part,) = check("heads_greater", metric="functions", left=LAMBDAS[6], right="Dense")[0](unit)
    assert part.verdict == UNDECIDED and "no roles of heads were measured" in part.reason


def test_gates_polarise_if_more_are_open_or_closed_at_the_end(results):
    shares = {"A": (0.1, 0.95), "B": (0.1, 0.6), "C": (0.9, 0.85)}
    for label, told in shares.items():
        evaluations = [{"polarised": {"encoder": share}} for share in told]
        results.add(label, method="voita_heads", notes={"gates": {"evaluations": evaluations}})
    unit = results.add("D", method="voita_heads").unit()

    def verdicts(label):
        asked = {"kind": "gates_polarise", "experiment": "e", "method": label, "at_least": 0.8}
        return [part.verdict for part in CHECKS["gates_polarise"](unit, asked)]

    assert [verdicts(label) for label in "ABC"] == [[HOLDS, HOLDS], [FAILS, HOLDS], [HOLDS, FAILS]]
    assert verdicts("D") == [UNDECIDED]


def scored(results, *scores):
    """A unit with a row for each of ``scores``, what its run held the heads of two layers worth."""
    for name, own in zip(("Relevance", "Confidence"), scores, strict=True):
        notes = {"heads": {"scores": own}} if own else {}
        results.add(name, method="head_order", kind="heads", target="2 heads", notes=notes)
    return results.unit(unit="voita_heads", title="Voita et al.")


AGREE = {"kind": "scores_agree", "experiment": "e", "left": "Relevance", "right": "Confidence", "after": 1}
RISING = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]


def test_the_mean_rank_correlation_is_scipys():
    left, right = np.random.default_rng(3).random((2, 5, 8))
    expected = np.mean([spearmanr(own, other).statistic for own, other in zip(left, right, strict=True)])
    estimate, above, below = ranks_agree(left, right, np.random.default_rng(0))
    assert estimate == pytest.approx(expected)
    assert above + below == pytest.approx(1, abs=0.01)


def test_the_chance_of_a_perfect_order_is_counted():
    estimate, above, below = ranks_agree(
        np.array([[1.0, 2, 3]]), np.array([[5.0, 6, 9]]), np.random.default_rng(0)
    )
    assert estimate == pytest.approx(1) and below == pytest.approx(1)
    assert above == pytest.approx(1 / 6, abs=0.02), "one of the six orders"


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [(RISING, HOLDS), (RISING[::-1], FAILS), ([0.8, 0.1, 6.4, 0.4, 1.6, 0.2, 3.2], UNDECIDED)],
)
def test_scores_agree_behind_the_first_layers(results, confidence, verdict):
    unit = scored(results, [RISING, RISING], [RISING[::-1], confidence])
    (part,) = CHECKS["scores_agree"](unit, AGREE)
    assert part.verdict == verdict and "p = " in part.reason
    asked = "Relevance and Confidence put the heads of a layer in like orders behind layer 1"
    assert (sentence(unit, AGREE), part.items) == (asked, 1) and basis(AGREE, part).startswith("1 layer, ")


def test_scores_that_were_not_noted_leave_agreement_undecided(results):
    (part,) = CHECKS["scores_agree"](scored(results, [RISING, RISING], None), AGREE)
    assert part.verdict == UNDECIDED and "no scores of heads were noted" in part.reason
