"""Every plot of a unit as SVG and PNG, with the numbers it shows as CSV."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from reprune.analysis.plot_allocation import draw_allocation
from reprune.analysis.plot_attention import draw_attention
from reprune.analysis.plot_curve import draw_curve
from reprune.analysis.plot_depth import draw_depth
from reprune.analysis.plot_heads import draw_heads
from reprune.analysis.plot_layers import draw_layers
from reprune.analysis.plot_loading import draw_loading
from reprune.analysis.plot_masks import draw_masks
from reprune.analysis.plot_pareto import draw_pareto
from reprune.analysis.plot_relations import draw_relations
from reprune.analysis.plot_retained import draw_retained
from reprune.analysis.plot_spectrum import draw_spectrum
from reprune.analysis.plot_throughput import draw_throughput
from reprune.analysis.plot_tokens import draw_tokens
from reprune.analysis.plot_training import draw_training
from reprune.analysis.samples import Undecided
from reprune.analysis.style import STYLE, new_figure, origin
from reprune.analysis.unit import Unit

KINDS: dict[str, Callable[[Unit, dict[str, Any]], tuple[Figure, pd.DataFrame]]] = {
    "curve": draw_curve,
    "allocation": draw_allocation,
    "depth": draw_depth,
    "pareto": draw_pareto,
    "layers": draw_layers,
    "spectrum": draw_spectrum,
    "training": draw_training,
    "throughput": draw_throughput,
    "tokens": draw_tokens,
    "loading": draw_loading,
    "masks": draw_masks,
    "heads": draw_heads,
    "attention": draw_attention,
    "relations": draw_relations,
    "retained": draw_retained,
}
DPI = 160


def draw(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """One plot and its data; where nothing can be drawn, an empty frame that says why."""
    try:
        return KINDS[spec["kind"]](unit, spec)
    except Undecided as reason:
        models = [row.model for row in unit.rows(spec["experiment"])]
        figure = new_figure(spec["title"], f"Nothing to draw: {reason}", origin(unit, models), body=0.05)
        return figure, pd.DataFrame({"reason": [str(reason)]})


def write_plots(unit: Unit, folder: Path) -> list[Path]:
    """Write ``<id>.svg``, ``.png`` and ``.csv`` for each plot; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for spec in unit.declared("plots"):
        with matplotlib.rc_context(STYLE):
            figure, data = draw(unit, spec)
            figure.savefig(folder / f"{spec['id']}.png", dpi=DPI, metadata={"Software": None})
        (folder / f"{spec['id']}.svg").write_text(svg(unit, spec), encoding="utf-8")
        data.to_csv(folder / f"{spec['id']}.csv", index=False)
        paths += [folder / f"{spec['id']}.{extension}" for extension in ("svg", "png", "csv")]
    return paths


def svg(unit: Unit, spec: dict[str, Any]) -> str:
    """A plot as SVG text, the same bytes for the same results: no date, ids from the plot's name."""
    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"{unit.name}/{spec['id']}"}):
        figure, _ = draw(unit, spec)
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()
