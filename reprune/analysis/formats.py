"""Rounding for readers: as many digits as the error supports."""

from __future__ import annotations

import math
from typing import NamedTuple

SCIENTIFIC_FROM = 1e5
SIGNIFICANT = 4


class Number(NamedTuple):
    """A rounded value as text, its rounded error, and a common power of ten (None for none)."""

    value: str
    error: str | None = None
    exponent: int | None = None


def rounded(value: float, stderr: float | None = None, decimals: int | None = None) -> Number:
    """Round to two significant digits of the error; without one to ``decimals``, else to four digits.

    Values from 100,000 on get a power of ten.
    """
    exponent = None
    if abs(value) >= SCIENTIFIC_FROM:
        exponent = math.floor(math.log10(abs(value)))
        value, decimals = value / 10**exponent, 2
        stderr = None if stderr is None else stderr / 10**exponent
    if stderr:
        shown = places(stderr, 2)
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
    """``value`` with that many decimals and a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")
