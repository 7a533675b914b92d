"""Plots of trainings on a mixture: losses over tokens, shares and excess of domains, masks."""

from __future__ import annotations

import numpy as np
import pytest
from mixture_unit import PROPORTIONS, PRUNING_STEPS, REFERENCES, WANTED, masked, mixture_unit, training

from reprune.analysis.histories import CONTINUED, PRUNING
from reprune.analysis.plot_masks import target_dashes
from reprune.analysis.plots import draw, svg

CONTINUATIONS = ["Pruned + dynamic", "Pruned + constant"]
ROWS = ["Pruned", *CONTINUATIONS, "From scratch"]
BORDER = PRUNING_STEPS * 8 * 128
SPECS = {
    "tokens": {"methods": ROWS},
    "loading": {"methods": CONTINUATIONS},
    "masks": {"method": "Pruned"},
}


def spec(kind, **changed):
    return {"id": kind, "kind": kind, "title": kind, "experiment": "e", **SPECS[kind], **changed}


def words(figure):
    every = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text().replace("\n", " ") for text in every]


def noted(unit, label, name):
    return unit.notes[unit.select("e", label)[0].runs[0].run_id][name]


@pytest.mark.parametrize("kind", SPECS)
def test_svg_is_the_same_bytes_twice(mixed, kind):
    text = svg(mixed, spec(kind))
    assert text == svg(mixed, spec(kind)) and f">{kind}</text>" in text


@pytest.mark.parametrize("kind", SPECS)
def test_a_plot_without_any_training_says_why(results, kind):
    unit = results.add("Pruned", status="skipped", reason="too wide").unit()
    assert "Nothing to draw: Pruned at 50%: too wide" in svg(unit, spec(kind, methods=["Pruned"]))


def test_a_pruned_row_begins_with_its_pruning(mixed):
    _, data = draw(mixed, spec("tokens"))
    row = data[data.label == "Pruned + dynamic"]
    pruning, continued = (noted(mixed, "Pruned + dynamic", name) for name in ("pruning", "recovery"))
    measured = [*pruning["evaluations"], *continued["evaluations"]]
    assert row.loss.tolist() == pytest.approx([np.mean([*m["losses"].values()]) for m in measured])
    assert row[row.stage == PRUNING].tokens.max() == row[row.stage == CONTINUED].tokens.min() == BORDER
    assert row.tokens.max() == data[data.label == "From scratch"].tokens.max()
    assert set(data[data.label == "From scratch"].stage) == {CONTINUED}


def test_the_end_of_pruning_is_marked_where_training_goes_on(mixed):
    figure, _ = draw(mixed, spec("tokens"))
    open_marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    circles = [line for line in open_marks if line.get_markerfacecolor() == "#ffffff"]
    assert [line.get_xdata()[0] for line in circles] == [pytest.approx(BORDER / 1e6)] * 2
    assert any("open: the end of pruning" in text for text in words(figure))
    assert {*ROWS} <= set(words(figure))


def test_a_line_per_row_of_one_domain_on_log_axes(mixed):
    figure, data = draw(mixed, spec("tokens", domain="github", log_x=True, log_y=True))
    last = noted(mixed, "From scratch", "recovery")["evaluations"][-1]["losses"]["github"]
    assert data[data.label == "From scratch"].loss.iloc[-1] == last
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert min(min(line.get_xdata()) for line in axes.lines) > 0
    assert any("on GitHub" in text for text in words(figure))


def test_a_domain_that_no_mixture_has_draws_nothing(mixed):
    assert "Nothing to draw: no mixture has the domain 'law'" in svg(mixed, spec("tokens", domain="law"))


def test_shares_add_up_and_the_excess_is_above_the_losses_to_reach(mixed):
    figure, data = draw(mixed, spec("loading"))
    sums = data.groupby(["label", "stage", "step"]).weight.sum()
    assert sums.to_numpy() == pytest.approx(1.0)
    assert list(dict.fromkeys(data.domain)) == list(PROPORTIONS)
    assert (data.loss - data.domain.map(REFERENCES)).tolist() == pytest.approx(data.excess.tolist())
    constant = data[data.label == "Pruned + constant"]
    assert constant.groupby("domain").weight.nunique().eq(1).all()
    assert {"CommonCrawl", "Wikipedia", *CONTINUATIONS} <= set(words(figure))


def test_panels_stand_side_by_side_on_one_scale_with_a_line_at_the_border(mixed):
    figure, _ = draw(mixed, spec("loading"))
    shares, excess = figure.axes[::2], figure.axes[1::2]
    assert len(shares) == len(excess) == 2
    for pair in (shares, excess):
        left, right = (axes.get_position() for axes in pair)
        assert left.y0 == right.y0 and left.x1 < right.x0
        assert pair[0].get_xlim() == pair[1].get_xlim() and pair[0].get_ylim() == pair[1].get_ylim()
    for axes in figure.axes:
        assert any(np.allclose(line.get_xdata(), BORDER / 1e6) for line in axes.lines)


def test_a_third_row_begins_a_new_line_and_what_runs_off_is_told(mixed):
    figure, _ = draw(mixed, spec("loading", methods=[*CONTINUATIONS, "From scratch"]))
    tops = [axes.get_position().y1 for axes in figure.axes[::2]]
    assert tops[0] == tops[1] > tops[2]
    assert any("first tenth run off the upper edge" in text for text in words(figure))


def test_a_row_without_losses_to_reach_has_its_shares_alone(results):
    history = training(np.random.default_rng(0), 80, 1.0)
    results.add("Pruned", {"c4": [1.0, 2.0]}, notes={"recovery": history})
    figure, data = draw(results.unit(), spec("loading", methods=["Pruned"]))
    assert data.excess.isna().all() and data.weight.sum() == pytest.approx(3.0)
    assert any("Not drawn: Pruned: no losses to reach" in text for text in words(figure))


def test_masks_are_the_noted_shares_targets_and_overlaps(mixed):
    figure, data = draw(mixed, spec("masks"))
    measured = noted(mixed, "Pruned", "pruning")["evaluations"]
    head = data[data.kind == "head"]
    assert head.step.tolist() == [m["step"] for m in measured]
    for name in ("sparsity", "wanted"):
        assert head[name].tolist() == [m[name]["head"] for m in measured]
    assert np.isnan(head.overlap.iloc[0])
    assert head.overlap.tolist()[1:] == [m["overlap"]["head"] for m in measured[1:]]
    closed, kept = figure.axes
    dashed = [line for line in closed.lines if line.get_linestyle() != "-"]
    assert len(dashed) == len(kept.lines) == len(WANTED) and set(WANTED) <= set(words(figure))


def test_dashes_of_equal_targets_take_turns(mixed):
    layer, *alike = target_dashes(draw(mixed, spec("masks"))[1]).values()
    assert layer == (0, (4, 4))
    assert alike == [(0, (4, 8)), (4, (4, 8)), (8, (4, 8))]


def test_one_target_over_all_masks_is_drawn_for_what_it_is_of(results):
    """As CoFiPruning: a target of the whole only, whose masks have no overlap."""
    pruning = masked(np.random.default_rng(0))
    for measured in pruning["evaluations"]:
        measured["sparsity"]["all"] = 0.5
        measured["wanted"] = {"all": 0.72}
    results.add("Pruned", {"c4": [1.0, 2.0]}, notes={"pruning": pruning})
    figure, data = draw(results.unit(), spec("masks"))
    assert data.groupby("kind").wanted.max().dropna().to_dict() == {"all": 0.72}
    assert data[data.kind == "all"].overlap.isna().all() and "all" in words(figure)


def test_several_rows_have_titles_of_their_own(results):
    for target in ("50%", "72%"):
        notes = {"pruning": masked(np.random.default_rng(0))}
        results.add("Pruned", {"c4": [1.0, 2.0]}, notes=notes, target=target)
    figure, _ = draw(results.unit(), spec("masks"))
    titles = [text for text in words(figure) if text.startswith("Pruned at ")]
    assert [title.split(",")[0] for title in titles] == ["Pruned at 50%", "Pruned at 72%"]
    assert len(figure.axes) == 4


def test_seeds_are_one_line_of_their_means(results):
    unit = mixture_unit(results, seeds=(0, 1))
    row = unit.select("e", "Pruned + dynamic")[0]
    _, data = draw(unit, spec("tokens"))
    ends = [unit.notes[run.run_id]["recovery"]["evaluations"][-1]["losses"].values() for run in row.runs]
    end = data[data.label == "Pruned + dynamic"].loss.iloc[-1]
    assert end == pytest.approx(np.mean([[*losses] for losses in ends]))
    _, masks = draw(unit, spec("masks"))
    assert not masks.duplicated(["kind", "step"]).any() and masks.run_id.iloc[0].count(";") == 1
