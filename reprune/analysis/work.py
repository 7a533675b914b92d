"""What an efficiency protocol timed or counted, in words."""

from __future__ import annotations

from typing import Any

from reprune.analysis.names import counted

BY_THE_CLOCK = {"throughput", "throughput_dense", "latency"}


def work_in_words(entry: dict[str, Any]) -> str | None:
    """``2 sequences, 4 new tokens each after a prompt of 4``; None for a task of another suite."""
    kind = entry.get("kind")
    if kind == "generate":
        return (
            f"{counted(entry['batch'], 'sequence')}, {counted(entry['new_tokens'], 'new token')} each "
            f"after a prompt of {entry['prompt']}"
        )
    if kind == "forward":
        return f"one pass over {counted(entry['batch'], 'sequence')} of {counted(entry['length'], 'token')}"
    if kind == "size":
        return f"counted; multiply-accumulates of a sequence of {counted(entry['length'], 'token')}"
    return None


def clock_notes(spec: dict[str, Any]) -> list[str]:
    """Why a table of times does not compare its rows."""
    if spec["metric"] not in BY_THE_CLOCK:
        return []
    return [
        "Each row was timed for itself, and a machine's other work slows down one more than another: what "
        "compares rows is the speed-up, taken in turns with dense."
    ]
