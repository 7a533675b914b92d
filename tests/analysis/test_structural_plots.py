"""Plots of structural methods: blocks chosen, singular values kept, recovery, speed, ratios asked and met."""

import numpy as np
import pandas as pd
import pytest
from structural_unit import BLOCKS, MATRICES, TARGETS

from reprune.analysis import palette
from reprune.analysis.plot_spectrum import ALL, LARGEST
from reprune.analysis.plots import draw, svg
from reprune.analysis.style import legend_lines

AT = "20% of parameters"
CUTTERS = ["ShortGPT", "LaCo", "LLM-Streamline-Layer", "GRASP"]
SPECS = {
    "layers": {"methods": CUTTERS, "target": AT},
    "spectrum": {"method": "GRASP", "target": AT},
    "training": {"methods": ["GRASP*", "LoRA after removal", "FFN after removal"], "target": AT},
    "throughput": {"protocol": "efficiency-grasp", "metric": "throughput", "target": AT},
    "curve": {
        "protocol": "perplexity-besa",
        "metric": "perplexity",
        "task": "c4",
        "x": "ratio_achieved",
        "reference": "Dense",
        "log_y": True,
    },
}


def spec(kind, **changed):
    return {"id": kind, "kind": kind, "title": kind, "experiment": "ratios", **SPECS[kind], **changed}


@pytest.fixture
def unit(structural):
    return structural


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [
        text.get_text() for text in figure.texts
    ]


@pytest.mark.parametrize("kind", SPECS)
def test_svg_is_the_same_bytes_twice(unit, kind):
    text = svg(unit, spec(kind))
    assert text == svg(unit, spec(kind)) and f">{kind}</text>" in text


@pytest.mark.parametrize("kind", ["layers", "spectrum", "training", "throughput"])
def test_a_plot_without_any_value_says_why(results, kind):
    unit = results.add("besa", status="skipped", reason="too wide", experiment="ratios").unit()
    asked = spec(kind, target=None, **({"method": "besa"} if kind == "spectrum" else {"methods": ["besa"]}))
    if kind == "throughput":
        assert "it has no such tasks" in svg(unit, asked)
    else:
        assert "too wide" in svg(unit, asked)


def test_layers_are_the_noted_choices_on_the_dense_models_blocks(unit):
    figure, data = draw(unit, spec("layers"))
    assert len(data) == len(CUTTERS) * BLOCKS
    for label in CUTTERS:
        row = data[data.label == label]
        notes = unit.notes[row.run_id.iloc[0]]
        assert row[row.chosen == 1].sort_values("order").block.tolist() == notes["chosen"]
    assert data[data.label == "LaCo"].similarity.tolist() == unit.notes[data.run_id.iloc[0]]["similarity"]
    curve, strips = figure.axes
    assert len(strips.patches) == len(data) and curve.get_xlim() == strips.get_xlim()
    assert curve.lines[0].get_ydata() == pytest.approx(1 - data.similarity[:BLOCKS].to_numpy())


def test_layers_shade_a_block_by_the_share_of_seeds_that_chose_it(results):
    for seed, blocks in enumerate(([3, 2], [3, 4])):
        notes = {"chosen": blocks, "similarity": np.linspace(0.7, 0.9, 6).tolist()}
        results.add("GRASP", {"c4": [1.0, 2.0]}, notes=notes, seed=seed, experiment="ratios", kind="low_rank")
    figure, data = draw(results.unit(), spec("layers", methods=["GRASP", "Gone"], target=None))
    assert data.chosen.tolist() == [0, 0, 0.5, 1, 0.5, 0]
    faces = [patch.get_facecolor() for patch in figure.axes[1].patches]
    assert len(set(faces)) == 3
    assert any("Not drawn: no row is called 'Gone'" in text for text in words(figure))


def test_layers_of_two_models_have_a_panel_each(results):
    for model, depth in (("small", 6), ("llama-7b", 9)):
        notes = {"chosen": [3], "similarity": np.linspace(0.8, 0.9, depth).tolist()}
        results.add("GRASP", {"c4": [1.0, 2.0]}, model=model, notes=notes, experiment="ratios", kind="layer")
    figure, data = draw(results.unit(), spec("layers", methods=["GRASP"], target=None))
    assert [axes.get_title(loc="left") for axes in figure.axes][::2] == [
        "SmolLM2-135M-Instruct (Q4_1 dequantised)",
        "llama-7b",
    ]
    assert data.model.value_counts().to_dict() == {"llama-7b": 9, "small": 6}


def test_spectrum_bins_by_hand(results):
    """Ten singular values, ranks 0, 1 and 9 kept: the fifth bin of 20 holds rank 2, the second rank 0."""
    kept = [{"block": 1, "layer": "mlp.up_proj", "size": 20, "kept": [0, 1, 19]}]
    kept += [{"block": 2, "layer": "mlp.up_proj", "size": 20, "kept": [0, 1, 2]}]
    results.add("GRASP", {"c4": [1.0, 2.0]}, notes={"spectrum": kept}, experiment="ratios", kind="low_rank")
    _, data = draw(results.unit(), spec("spectrum", target=None))
    shares = data[data.matrices == "up_proj"]
    assert shares.kept.tolist() == [1, 1, 0.5, *[0] * 16, 0.5]
    assert shares.overlap.iloc[0] == pytest.approx((2 / 4 + 1) / 2)
    largest = data[data.matrices == LARGEST]
    assert largest.kept.tolist() == [1, 1, 1, *[0] * 17] and largest.overlap.iloc[0] == 1


def test_spectrum_keeps_as_many_as_the_largest(unit):
    _, data = draw(unit, spec("spectrum"))
    assert set(data.matrices) == {ALL, LARGEST, *(name.split(".")[1] for name in MATRICES)}
    means = data.groupby("matrices").overlap.first()
    reported = unit.layers[unit.layers.run_id == data.run_id.iloc[0]].overlap.mean()
    assert means[ALL] == pytest.approx(reported)
    assert 0 < means[ALL] < means[LARGEST] == 1


def test_spectrum_has_a_panel_for_each_target(unit):
    figure, data = draw(unit, spec("spectrum", target=None))
    titles = [
        axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left").startswith("GRASP")
    ]
    assert len(titles) == data.target.nunique() == len(TARGETS)


def test_training_is_the_noted_losses_with_validation_at_both_ends(unit):
    figure, data = draw(unit, spec("training"))
    row = data[data.label == "GRASP*"]
    noted = unit.notes[row.run_id.iloc[0]]["recovery"]
    assert row.loss.dropna().tolist() == noted["losses"] and row.step.tolist() == list(range(241))
    ends = row[row.validation.notna()]
    assert ends.step.tolist() == [0, 240]
    assert ends.validation.tolist() == [noted["validation_before"], noted["validation_after"]]
    assert row.smoothed.iloc[120] == pytest.approx(row.loss.iloc[116:125].mean(), abs=0.05)
    assert set(data.label) == set(SPECS["training"]["methods"])
    markers = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len(markers) == 2 * 3


def test_a_short_training_is_not_smoothed(results):
    notes = {"recovery": {"kind": "lora", "trainable": 8, "losses": [3.0, 2.0, 2.5]}}
    notes["recovery"] |= {"validation_before": 3.5, "validation_after": 2.4}
    results.add("GRASP", {"c4": [1.0, 2.0]}, notes=notes, experiment="ratios", kind="low_rank")
    _, data = draw(results.unit(), spec("training", methods=["GRASP"], target=None))
    assert data.smoothed.tolist()[1:] == data.loss.tolist()[1:] == [3.0, 2.0, 2.5]


def test_throughput_panels_are_what_the_protocol_varies(unit):
    figure, data = draw(unit, spec("throughput", methods=["Dense", "ShortGPT", "GRASP"]))
    batch, length = "Sequences at once, 8 new tokens each", "New tokens each, 4 at once"
    assert [axes.get_xlabel() for axes in figure.axes] == [batch, length]
    sizes = data.groupby("axis")["size"].unique()
    assert list(sizes[batch]) == [4, 8, 16, 32] and list(sizes[length]) == [8, 16, 32, 64]
    shown = data[(data.label == "GRASP") & (data.axis == batch) & (data["size"] == 8)].iloc[0]
    record = unit.records[
        (unit.records.run_id == shown.run_id)
        & (unit.records.task == "batch-2x")
        & (unit.records.metric == "throughput")
    ].iloc[0]
    assert (shown.value, shown.stderr, shown.stderr_over) == (record.value, record.stderr, "repeats")
    assert [len(axes.patches) for axes in figure.axes] == [12, 12]


def test_speedups_leave_dense_out_and_name_what_was_not_timed(unit):
    figure, data = draw(unit, spec("throughput", metric="speedup"))
    assert "Dense" not in set(data.label)
    assert any("Not drawn: LaCo at 20% of parameters" in text for text in words(figure))
    assert "LaCo" in set(data[data.status == "missing"].label)


def test_a_legend_goes_on_in_the_next_line():
    names = [f"{label} at 20% of parameters" for label in ("LLM-Streamline-Layer", "ShortGPT", "GRASP")]
    lines = legend_lines(names, 0.7)
    assert sum(lines, []) == names and len(lines) == 2
    assert legend_lines(["a very " + "long " * 40], 0.7) == [["a very " + "long " * 40]]


def test_a_curve_along_the_achieved_ratio_is_in_percent_with_ticks_of_its_own(unit):
    figure, data = draw(unit, spec("curve"))
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Parameters removed (%)"
    assert data[data.label == "ShortGPT"].x.tolist() == pytest.approx([21.2, 31.2, 41.2, 51.2])
    assert len(axes.get_xticks()) < 12
    names = [text.get_text().replace("\n", " ") for text in axes.texts]
    assert {"GRASP", "GRASP*", "LaCo", "Dense", "LoRA after removal"} <= set(names)


def test_a_curve_along_the_target_says_what_is_asked_for(unit, besa, results):
    def title(of, **more):
        return draw(of, spec("curve", x="target_requested", **more))[0].axes[0].get_xlabel()

    assert title(unit) == "Target, parameters removed"
    assert title(besa, experiment="sweep") == "Target sparsity"
    results.add("Wanda", {"c4": [1.0, 2.0]}, experiment="ratios")
    results.add("GRASP", {"c4": [1.0, 2.0]}, experiment="ratios", kind="low_rank")
    assert title(results.unit()) == "Target"


def test_recovered_rows_have_a_line_of_their_own(unit):
    figure, data = draw(unit, spec("curve", x="target_requested"))
    ranks = palette.ranks(data)
    assert (ranks["GRASP"], ranks["GRASP*"]) == (0, 1)
    styles = {
        line.get_color(): line.get_linestyle()
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 4 and line.get_linestyle() != "None"
    }
    assert styles[palette.colour("grasp", 0)] == "-" != styles[palette.colour("grasp", 1)]


def test_labels_on_a_shade_are_legible_and_shades_fade_to_the_grid():
    assert (palette.on("#ffffff"), palette.on("#224bb2")) == (palette.INK, palette.PAPER)
    assert (palette.faded("#224bb2", 1), palette.faded("#224bb2", 0)) == ("#224bb2", palette.GRID)


def test_data_of_every_plot_can_be_written_as_a_table(unit):
    for kind in SPECS:
        data = draw(unit, spec(kind))[1]
        assert isinstance(data, pd.DataFrame) and len(data) and data.run_id.astype(str).str.len().min() > 0
