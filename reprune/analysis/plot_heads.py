"""Which attention heads are left in each row, coloured by their roles (Voita et al. 2019, Figure 8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
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
DEGREES = {
    "positional_share": ("positional", "maxima at one offset"),
    "syntactic_margin": ("syntactic", "lead over the best offset of a relation"),
}
"""What heads can be shaded by: the role whose colour is taken, and its measure in words."""
PALE, STEPS = "#fdf3e1", (0.0, 0.5, 1.0)
"""The shade of 0, which no removed head has, and the parts of the highest value that the legend shows."""
Paint = Callable[[Any], list[str]]


class Drawn(NamedTuple):
    """A row's encoder: its heads left, and a line for each head of the dense model."""

    row: Row
    kept: int
    heads: pd.DataFrame


def draw_heads(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel for each row, from the most heads to the fewest; returns it with its data.

    ``roles`` are those of the dense row ``reference`` unless it is ``own``: then those that were measured on
    each row's own model. With ``degree``, one of :data:`DEGREES`, heads are shaded by this measure of a role
    instead of coloured by the roles they have, from 0 to the highest that is drawn. A row with several seeds
    is drawn as its first one. Raises :class:`Undecided` if the roles of the reference are not known, or
    ``degree`` is no such measure.
    """
    (reference, *_) = unit.select(spec["experiment"], spec["reference"]) or [None]
    if reference is None:
        raise Undecided(f"no row is called '{spec['reference']}'")
    if "degree" in spec and spec["degree"] not in DEGREES:
        raise Undecided(f"degree is one of {', '.join(DEGREES)}, not '{spec['degree']}'")
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
            "degree": float(roles[spec["degree"]][layer, head]) if "degree" in spec else math.nan,
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
    figure = style.new_figure(
        spec["title"],
        _subtitle(spec),
        "\n".join([style.origin(unit, data.model, spec["protocol"], [spec["task"]]), *_seeds(drawn)])
        + "".join(f"\n{line}" for line in style.not_drawn(reasons)),
        LEGEND + pitch * -(-len(drawn) // columns),
    )
    paint, legend = _by_degree(spec["degree"], data) if "degree" in spec else _by_role()
    style.legend(figure, LEFT - 0.1, 0.08, {**legend, "Removed": palette.GRID})
    for index, one in enumerate(drawn):
        left = LEFT + (index % columns) * (width + GAP)
        axes = style.add_axes(figure, left, LEGEND + (index // columns) * pitch + TITLE, width, height)
        _panel(axes, one, _name(one, drawn), paint, "degree" not in spec, first=index % columns == 0)
    return figure


def _subtitle(spec: dict[str, Any]) -> str:
    where = "in each pruned model" if spec.get("roles") == OWN else "in the dense model"
    if "degree" in spec:
        return f"Encoder heads by layer; shade: {DEGREES[spec['degree']][1]} {where}"
    return f"Encoder heads by layer; roles {where}; numbers: more than one role"


def _by_role() -> tuple[Paint, dict[str, str]]:
    legend = {ROLES[role].capitalize(): shade for role, shade in palette.ROLES.items()}
    return lambda head: [palette.ROLES[role] for role in head.roles.split(";")], legend


def _by_degree(degree: str, data: pd.DataFrame) -> tuple[Paint, dict[str, str]]:
    """Shades from pale, at 0 and below and without a value, to the role's own colour at the highest."""
    role, _ = DEGREES[degree]
    ramp = LinearSegmentedColormap.from_list(role, [PALE, palette.ROLES[role]])
    top = max(0.0, float(data.degree.max())) or 1.0

    def shade(value: float) -> str:
        return to_hex(ramp(0.0 if math.isnan(value) else max(0.0, value) / top))

    return lambda head: [shade(head.degree)], {f"{top * part:.0%}": shade(top * part) for part in STEPS}


def _name(one: Drawn, drawn: list[Drawn]) -> str:
    """The row's label, with its target where other rows have the label too."""
    same = [other for other in drawn if other.row.label == one.row.label]
    return f"{one.row.label}, {one.row.target}" if len(same) > 1 else one.row.label


def _seeds(drawn: list[Drawn]) -> list[str]:
    several = any(len(one.row.runs) > 1 for one in drawn)
    return ["Rows with several seeds are drawn as their first one"] if several else []


def _panel(axes: Axes, one: Drawn, name: str, paint: Paint, numbered: bool, first: bool) -> None:
    for head in one.heads.itertuples():
        # A removed head is pale and smaller.
        side, shades = (0.88, paint(head)) if head.kept else (0.6, [palette.GRID])
        _square(axes, head, side, shades)
        if numbered and head.functions > 1:
            _number(axes, head)
    layers, heads = one.heads.layer.max() + 1, one.heads["head"].max() + 1
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


def _square(axes: Axes, head: Any, side: float, shades: list[str]) -> None:
    """A square of that ``side`` at a head's place, in equal stripes of its shades."""
    for i, shade in enumerate(shades):
        corner = head.head - side / 2 + i * side / len(shades), head.layer - side / 2
        axes.add_patch(Rectangle(corner, side / len(shades), side, facecolor=shade, edgecolor="none"))


def _number(axes: Axes, head: Any) -> None:
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
