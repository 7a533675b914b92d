"""A comparison as a small drawing: its interval beside the value it must pass."""

from __future__ import annotations

from typing import Any

from reprune.analysis.evidence import WITHIN

WIDTH, HEIGHT, PAD = 168, 16, 6


def reach(parts: list[dict[str, Any]]) -> tuple[float, float]:
    """The range that holds every estimate, interval and threshold of ``parts``, so that they share it."""
    known = [part for part in parts if part["estimate"] is not None]
    values = [part[key] for part in known for key in ("estimate", "low", "high") if part[key] is not None]
    values += [limit for part in known for limit in _limits(part)]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _limits(part: dict[str, Any]) -> list[float]:
    """The values that bound what a part asks for."""
    return [part["threshold"], -part["threshold"]] if part["bound"] == WITHIN else [part["threshold"]]


def interval_svg(part: dict[str, Any], low: float, high: float) -> str:
    """An inline SVG of one part on the axis from ``low`` to ``high``; empty where there is no estimate."""
    if part["estimate"] is None or low == high:
        return ""

    def at(value: float) -> str:
        return f"{PAD + (value - low) / (high - low) * (WIDTH - 2 * PAD):.1f}"

    middle = HEIGHT / 2
    limits = "".join(
        f'<line class="limit" x1="{at(limit)}" x2="{at(limit)}" y1="1" y2="{HEIGHT - 1}"/>'
        for limit in _limits(part)
    )
    bar = (
        ""
        if part["low"] is None
        else (
            f'<line class="bar" x1="{at(part["low"])}" x2="{at(part["high"])}" y1="{middle}" y2="{middle}"/>'
        )
    )
    return (
        f'<svg class="interval {part["verdict"]}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" aria-hidden="true">'
        f"{limits}{bar}"
        f'<circle cx="{at(part["estimate"])}" cy="{middle}" r="3.2"/></svg>'
    )
