"""Plots: the same bytes twice, the numbers beside them, holes named, one colour per method."""

import numpy as np
import pandas as pd
import pytest

from reprune.analysis import palette
from reprune.analysis.labels import apart, with_targets
from reprune.analysis.plot_pareto import front
from reprune.analysis.plots import draw, svg, write_plots

CURVE = {
    "id": "curve",
    "kind": "curve",
    "title": "Curve",
    "experiment": "e",
    "x": "target_requested",
    "protocol": "perplexity-besa",
    "metric": "perplexity",
    "task": "c4",
}
BASE = np.random.default_rng(0).normal(3.0, 0.3, 12)


@pytest.fixture(scope="module")
def written(besa, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    return folder, write_plots(besa, folder)


def test_each_plot_has_svg_png_and_its_data(besa, written):
    folder, paths = written
    names = {
        f"{spec['id']}.{extension}" for spec in besa.declared("plots") for extension in ("svg", "png", "csv")
    }
    assert {path.name for path in paths} == names and len(names) == 12
    assert all(path.stat().st_size > 500 for path in paths)


def test_svg_is_the_same_bytes_twice_and_undated(besa, written):
    for spec in besa.declared("plots"):
        text = (written[0] / f"{spec['id']}.svg").read_text(encoding="utf-8")
        assert text == svg(besa, spec)
        assert "<dc:date>" not in text
        assert f">{spec['title']}</text>" in text


def test_curve_data_are_the_measured_values(besa, written):
    data = pd.read_csv(written[0] / "sparsity_sweep.csv")
    wanda = data[(data.label == "Wanda") & (data.x == 0.5)].iloc[0]
    record = besa.records[(besa.records.run_id == wanda.run_id) & (besa.records.task == "wikitext2")].iloc[0]
    assert wanda.value == pytest.approx(record.value, rel=1e-12)
    lost = data[data.status == "diverged"]
    assert list(lost.label) == ["Magnitude"]
    assert "Magnitude diverged" in (written[0] / "sparsity_sweep.svg").read_text(encoding="utf-8")


def test_allocation_is_one_minus_nonzeros_over_size(besa, written):
    data = pd.read_csv(written[0] / "allocation.csv")
    assert len(data) == 30 * 7
    layer = besa.layers[
        (besa.layers.run_id == data.run_id[0])
        & (besa.layers.block == 3)
        & (besa.layers.layer == "mlp.up_proj")
    ].iloc[0]
    shown = data[(data.block == 3) & (data.layer == "mlp.up_proj")].sparsity.iloc[0]
    assert shown == pytest.approx(1 - layer.nonzeros / layer["size"])


def test_depth_is_the_mean_over_windows_with_its_error(besa, written):
    data = pd.read_csv(written[0] / "block_error.csv")
    row = data[(data.label == "BESA") & (data.block == 7)].iloc[0]
    items = besa.items[(besa.items.run_id == row.run_id) & (besa.items.part == 7)].value
    assert row.value == pytest.approx(items.mean())
    assert row.stderr == pytest.approx(items.std() / 2)


@pytest.mark.parametrize("higher, expected", [(False, [1, 3]), (True, [1, 2])])
def test_pareto_front_is_what_nothing_cheaper_beats(higher, expected):
    points = pd.DataFrame({"x": [1, 2, 3, 4], "value": [10.0, 12.0, 8.0, 8.0]})
    assert list(front(points, higher).x) == expected


def test_a_curve_along_a_setting_and_along_the_calibration(results):
    for epochs in (1, 3):
        results.add("BESA", {"c4": BASE + 1 / epochs}, method="besa", settings={"epochs": epochs})
    content = {"c4-train-32x128-s0-0123456789ab": {"windows": 32}}
    unit = results.unit(calibrations=content)
    assert list(draw(unit, {**CURVE, "x": "settings.epochs"})[1].x) == [1, 3]
    assert list(draw(unit, {**CURVE, "x": "calibration.windows"})[1].x) == [32, 32]


def test_rows_of_their_own_labels_may_be_points_of_one_line(results):
    for depth in (0.0, 0.5, 1.0):
        results.add(f"at {depth}", {"c4": BASE + depth}, method="m", settings={"only_depth": depth})
    results.add("Dense", {"c4": BASE}, method="dense")
    spec = {**CURVE, "x": "settings.only_depth", "join": "One block cut", "reference": "Dense"}
    figure, data = draw(results.unit(), spec)
    assert list(data.label) == ["at 0.0", "at 0.5", "at 1.0", "Dense"]
    assert len(figure.axes[0].containers) == 1
    assert [text.get_text() for text in figure.axes[0].texts] == ["One block cut", "Dense"]
    assert figure.axes[0].get_xlabel() == "Only depth"


def test_a_curve_along_the_steps_of_recovery_begins_without_any(results):
    trained = {"recovery": {"kind": "lora"}}
    results.add("untuned", {"c4": BASE + 1})
    for steps in (10, 20):
        results.add(f"{steps}", {"c4": BASE}, notes={"recovery": {"steps": steps}}, **trained)
    results.add("40", status="skipped", reason="training ends after step 30", **trained)
    figure, data = draw(results.unit(), {**CURVE, "x": "recovery_steps", "join": "LoRA"})
    assert list(data.x.astype(float).fillna(-1)) == [0, 10, 20, -1]
    assert figure.axes[0].get_xlabel() == "Recovery steps"


def test_each_model_has_a_panel(results):
    for model in ("small", "llama-7b"):
        for share in (0.3, 0.5):
            results.add("Wanda", {"c4": BASE + share}, model=model, target=f"{share:.0%}", requested=share)
    figure, _ = draw(results.unit(), CURVE)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "SmolLM2-135M-Instruct (Q4_1 dequantised)",
        "llama-7b",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        CURVE,
        {**CURVE, "kind": "pareto", "x": "compress_s"},
        {"id": "a", "kind": "allocation", "title": "A", "experiment": "e", "method": "besa"},
        {
            "id": "d",
            "kind": "depth",
            "title": "D",
            "experiment": "e",
            "protocol": "block-error",
            "metric": "relative_error",
            "methods": ["besa"],
        },
    ],
)
def test_a_plot_without_any_value_says_why(results, spec):
    unit = results.add("besa", status="skipped", reason="too wide").unit(plots=[spec])
    assert "too wide" in svg(unit, spec) or "no row of besa" in svg(unit, spec)


def test_a_method_has_one_colour_and_labels_differ_by_line(results):
    assert palette.colour("besa") != palette.colour("wanda")
    assert palette.colour("someone_new") == palette.colour("someone_new")
    for label in ("BESA (row)", "BESA (layer)"):
        for share in (0.3, 0.5):
            results.add(label, {"c4": BASE + share}, method="besa", target=f"{share:.0%}", requested=share)
    lines = draw(results.unit(), CURVE)[0].axes[0].get_lines()
    drawn = [line for line in lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"]
    assert {line.get_color() for line in drawn} == {palette.colour("besa"), palette.colour("besa", 1)}
    assert len({line.get_linestyle() for line in drawn}) == 2


def test_known_methods_have_colours_of_their_own():
    assert len(set(palette.COLOURS.values())) == len(palette.COLOURS)
    assert set(palette.COLOURS) == set(palette.MARKERS)


def test_labels_are_kept_apart_in_their_order():
    placed = apart([0.5, 0.5, 0.52, 0.9], [0.06] * 4)
    assert np.diff(placed[:3]).min() >= 0.06 - 1e-6
    assert placed[3] == 0.9
    one, two = apart([0.5, 0.5], [0.06, 0.12])
    assert two - one == pytest.approx(0.09)


@pytest.mark.parametrize(
    "targets, names",
    [
        (["dense", "50%"], ["a", "b"]),
        (["30%", "50%"], ["a 30%", "b 50%"]),
        (["20% of parameters", "30% of parameters"], ["a 20%", "b 30%"]),
        (["20% of parameters", "2:4"], ["a 20% of parameters", "b 2:4"]),
    ],
)
def test_names_have_their_target_where_it_tells_rows_apart(targets, names):
    data = pd.DataFrame({"label": ["a", "b"], "target": targets})
    assert with_targets(data).name.tolist() == names
