"""Which attention heads are left in each row, coloured by their roles (Voita et al. 2019, Figure 8)."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reprune.analysis import palette, style
from reprune.analysis.heads import ROLES, kept_heads, roles_in, roles_of
from reprune.analysis.names import counted
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

LEFT, ACROSS, CELL, GAP = 0.55, 6.9, 0.185, 0.3
"""Inches: the room for numbers of layers, the width of all panels, the side of a head, between panels."""
LEGEND, TITLE, FOOT = 0.3, 0.46, 0.2
OWN = "own"


class Drawn(NamedTuple):
    """A row's encoder: its heads left, and a line for each head of the dense model."""

    row: Row
    kept: int
    heads: pd.DataFrame


def draw_heads(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel for each row, from the most heads to the fewest; returns it with its data.

    ``roles`` are those of the dense row ``reference`` unless it is ``own``: then those that were measured on
    each row's own model. A row with several seeds is drawn as its first one. Raises :class:`Undecided` if
    the roles of the reference are not known.
    """
    (reference, *_) = unit.select(spec["experiment"], spec["reference"]) or [None]
    if reference is None:
        raise Undecided(f"no row is called '{spec['reference']}'")
    dense = roles_of(unit, reference, reference.runs[0], spec["protocol"], spec["task"])
    wanted = spec.get("rows")
    rows = [r for r in unit.rows(spec["experiment"]) if wanted is None or r.label in wanted]
    drawn, reasons = [], []
    for row in rows:
        try:
            drawn.append(_read(unit, spec, row, dense, row.label == reference.label))
        except Undecided as reason:
            reasons.append(str(reason))
    if not drawn:
        raise Undecided("; ".join(reasons))
    drawn.sort(key=lambda one: -one.kept)
    data = pd.concat([one.heads for one in drawn], ignore_index=True)
    return _figure(unit, spec, drawn, data, reasons), data


def _read(unit: Unit, spec: dict[str, Any], row: Row, dense: pd.DataFrame, is_dense: bool) -> Drawn:
    """The heads of a row's first run."""
    run, places = row.runs[0], list(dense.index)
    kept = set(places) if is_dense else kept_heads(unit, row, run)
    own = spec.get("roles") == OWN and bool(kept) and not is_dense
    roles = roles_of(unit, row, run, spec["protocol"], spec["task"]) if own else dense
    lines = [
        {
            "label": row.label,
            "model": row.model,
            "layer": layer,
            "head": head,
            "kept": (layer, head) in kept,
            "roles": ";".join(roles_in(roles, (layer, head))) if (layer, head) in kept else "",
            "functions": int(roles.functions[layer, head]) if (layer, head) in kept else 0,
            "run_id": run.run_id,
        }
        for layer, head in places
    ]
    return Drawn(row, len(kept), pd.DataFrame(lines))


def _figure(
    unit: Unit, spec: dict[str, Any], drawn: list[Drawn], data: pd.DataFrame, reasons: list[str]
) -> Figure:
    layers, heads = data.layer.max() + 1, data["head"].max() + 1
    width, height = heads * CELL, layers * CELL
    columns = max(1, int((ACROSS + GAP) // (width + GAP)))
    pitch = TITLE + height + FOOT
    own = spec.get("roles") == OWN
    figure = style.new_figure(
        spec["title"],
        f"Encoder heads by layer; roles {'found in each pruned model' if own else 'in the dense model'}; "
        "numbers: more than one role",
        "\n".join([style.origin(unit, data.model, spec["protocol"], [spec["task"]]), *_seeds(drawn)])
        + "".join(f"\n{line}" for line in style.not_drawn(reasons)),
        LEGEND + pitch * -(-len(drawn) // columns),
    )
    shades = {ROLES[role].capitalize(): shade for role, shade in palette.ROLES.items()}
    style.legend(figure, LEFT - 0.1, 0.08, {**shades, "Removed": palette.GRID})
    for index, one in enumerate(drawn):
        left = LEFT + (index % columns) * (width + GAP)
        axes = style.add_axes(figure, left, LEGEND + (index // columns) * pitch + TITLE, width, height)
        _panel(axes, one, _name(one, drawn), layers, heads, first=index % columns == 0)
    return figure


def _name(one: Drawn, drawn: list[Drawn]) -> str:
    """The row's label, with its target where other rows have the label too."""
    same = [other for other in drawn if other.row.label == one.row.label]
    return f"{one.row.label}, {one.row.target}" if len(same) > 1 else one.row.label


def _seeds(drawn: list[Drawn]) -> list[str]:
    several = any(len(one.row.runs) > 1 for one in drawn)
    return ["Rows with several seeds are drawn as their first one"] if several else []


def _panel(axes: Axes, one: Drawn, name: str, layers: int, heads: int, first: bool) -> None:
    for head in one.heads.itertuples():
        _head(axes, head)
    axes.set(xlim=(-0.5, heads - 0.5), ylim=(-0.5, layers - 0.5), xticks=[], yticks=[])
    axes.set_yticks(range(layers), range(1, layers + 1) if first else [""] * layers)
    axes.set_title(counted(one.kept, "head"), loc="left", fontsize=10, fontweight="bold", pad=16)
    axes.annotate(
        name,
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        fontsize=8,
        color=palette.MUTED,
    )
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    if first:
        axes.set_ylabel("Layer", fontsize=9)


def _head(axes: Axes, head: Any) -> None:
    """A square in equal stripes of its roles' colours; removed heads are pale and smaller."""
    if not head.kept:
        side = 0.6
        corner = head.head - side / 2, head.layer - side / 2
        axes.add_patch(Rectangle(corner, side, side, facecolor=palette.GRID, edgecolor="none"))
        return
    roles, side = head.roles.split(";"), 0.88
    for i, role in enumerate(roles):
        corner = head.head - side / 2 + i * side / len(roles), head.layer - side / 2
        shade = palette.ROLES[role]
        axes.add_patch(Rectangle(corner, side / len(roles), side, facecolor=shade, edgecolor="none"))
    if head.functions > 1:
        axes.text(
            head.head,
            head.layer - 0.03,
            str(head.functions),
            ha="center",
            va="center",
            fontsize=7.5,
            fontweight="bold",
            color=palette.PAPER,
        )
