"""What the commands share: an error for the user, and columns."""

from __future__ import annotations

from pathlib import Path

from reprune.plan.plan import Plan, build_plan

ROOT = Path(__file__).parents[2]


class Refused(Exception):
    """A command that cannot be done; the message is the one line to show."""


def plan_of(scale: str | None = None) -> Plan:
    """The plan at ``scale`` (None: as ``config/config.yaml`` says). Raises ConfigError."""
    return build_plan({} if scale is None else {"scale": scale}, ROOT)


def columns(rows: list[tuple[str, ...]], indent: int = 0) -> list[str]:
    """Lines with the cells of each column aligned on the left; columns without any text are left out."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (
            " " * indent
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        ).rstrip()
        for row in rows
    ]


def counted(count: int, noun: str) -> str:
    """``1 table``, ``2 tables``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
