"""What the processor can do, read from the operating system: planning decides dtypes without torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def processor() -> tuple[str, frozenset[str]]:
    """The processor's name and its feature flags; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "", frozenset()
    fields = dict(line.split(":", 1) for line in reversed(text.splitlines()) if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return named.get("model name", ""), frozenset(named.get("flags", "").split())


def evaluation_dtype(asked: str) -> str:
    """``auto`` means bfloat16 only where the processor multiplies bfloat16 tiles (AMX).

    With vector instructions alone (avx512_bf16) bfloat16 was measured slower than float32
    (benchmarks/evaluation_dtype.py), so such processors evaluate in float32.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if "amx_bf16" in processor()[1] else "float32"
