"""Progress of long work on the console and in the log: what is done, the time it took, the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

EVERY_S = 10.0


class Progress:
    """Prints ``label: 12/30 blocks, 41 s, about 60 s left`` at most every ten seconds.

    The estimate is the pace of this very job so far: total / done × elapsed.
    """

    def __init__(
        self, label: str, unit: str, log: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.unit, self._log, self._clock = label, unit, log, clock
        self._start = self._last = clock()

    def __call__(self, done: float, total: int) -> None:
        now = self._clock()
        if now - self._last < EVERY_S or not done:
            return
        self._last = now
        elapsed = now - self._start
        left = elapsed * (total - done) / done
        self._print(f"{self.label}: {done:.0f}/{total} {self.unit}, {elapsed:.0f} s, about {left:.0f} s left")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        if self._log is not None:
            print(line, file=self._log, flush=True)


def opened_log(path: str) -> TextIO:
    """A log file, its folder made."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("w", encoding="utf-8")
