"""Where a number came from: commit, versions, machine, peak memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reprune.plan.hardware import processor
from reprune.plan.identity import canonical

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "lm-eval")
ROOT = Path(__file__).parents[2]


def now() -> str:
    """The present time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout and whether tracked files differ from it; None outside a checkout."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None, None
    return head, bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> str:
    """Canonical JSON of the versions that can move a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return canonical(found)


def provenance() -> dict[str, Any]:
    """The record columns commit, dirty, versions and created."""
    head, dirty = commit()
    return {"commit": head, "dirty": dirty, "versions": versions(), "created": now()}


def peak_rss_mb() -> float:
    """The process's largest resident memory so far, in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def machine() -> dict[str, Any]:
    """Processor, usable cores and memory of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": processor()[0] or platform.processor(), "cores": cores, "memory_gb": round(pages / 1e9, 1)}
