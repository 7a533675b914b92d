"""Rounding for readers: as many digits as the error supports."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

SCIENTIFIC_FROM = 1e5
SIGNIFICANT = 4
MINUS = "\N{MINUS SIGN}"


class Number(NamedTuple):
    """A rounded value as text, its rounded error, and a common power of ten (None for none)."""

    value: str
    error: str | None = None
    exponent: int | None = None


def rounded(value: float, stderr: float | None = None, decimals: int | None = None) -> Number:
    """Round to two significant digits of the error, but to no fewer than ``decimals``.

    Without an error to ``decimals``, else to four digits. Values from 100,000 on get a power of ten.
    """
    exponent = None
    if abs(value) >= SCIENTIFIC_FROM:
        exponent = math.floor(math.log10(abs(value)))
        value, decimals = value / 10**exponent, 2 if not stderr else None
        stderr = None if stderr is None else stderr / 10**exponent
    if stderr:
        shown = max(places(stderr, 2), decimals or 0)
        return Number(fixed(value, shown), fixed(stderr, shown), exponent)
    shown = places(value, SIGNIFICANT) if decimals is None else decimals
    return Number(fixed(value, shown), None, exponent)


def plain(number: Number) -> str:
    """``34.21 ± 0.85`` or ``(3.42 ± 0.21)×10⁵``."""
    text = number.value if number.error is None else f"{number.value} ± {number.error}"
    if number.exponent is None:
        return text
    power = "×10" + str(number.exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return (f"({text})" if number.error else text) + power


def duration(seconds: float) -> str:
    """``48 s``, ``12 min 5 s`` or ``1 h 2 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def places(value: float, significant: int) -> int:
    """Decimals that show ``significant`` digits of ``value``."""
    if not value:
        return 0
    return min(6, max(0, significant - 1 - math.floor(math.log10(abs(value)))))


def fixed(value: float, decimals: int) -> str:
    """``value`` with that many decimals and a true minus sign; zero has none."""
    text = f"{value:.{decimals}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", MINUS)


def signed(value: float, decimals: int) -> str:
    """``+1.2``, ``−0.3`` or ``0.0``."""
    text = fixed(value, decimals)
    return "+" + text if value > 0 and float(text) else text


def interval_text(low: float, high: float, decimals: int) -> str:
    """``[−1.2, 3.4]``."""
    return f"[{fixed(low, decimals)}, {fixed(high, decimals)}]"


def chance(p: float) -> str:
    """A p-value: ``0.039``, or ``<0.001``."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def tokens_unit(most: float) -> tuple[float, str]:
    """By what numbers of tokens up to ``most`` are divided on an axis, and its title."""
    units = ((1e9, "Tokens (billions)"), (1e6, "Tokens (millions)"), (1e3, "Tokens (thousands)"))
    return next((unit for unit in units if most >= unit[0]), (1.0, "Tokens"))


def aligned(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Lines with the cells of each column under each other, columns ``left`` to the left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
