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
        pace = self._pace(done, total, now - self._start)
        self._print(f"{self.label}: {done:.0f}/{total} {self.unit}, {pace}")

    def _pace(self, done: float, total: int, elapsed: float) -> str:
        return f"{elapsed:.0f} s, about {elapsed * (total - done) / done:.0f} s left"

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        if self._log is not None:
            print(line, file=self._log, flush=True)


class Rate(Progress):
    """Prints ``label: 5120/51200 tokens, 41 s, 125 tokens/s, about 369 s left``.

    The first call says what was done before, by a job that was ended: the pace is that of what follows.
    """

    _before: float | None = None

    def __call__(self, done: float, total: int) -> None:
        if self._before is None:
            self._before, self._start = done, self._clock()
            self._last = self._start
        super().__call__(done, total)

    def _pace(self, done: float, total: int, elapsed: float) -> str:
        rate = (done - self._before) / elapsed
        left = f", about {(total - done) / rate:.0f} s left" if rate else ""
        return f"{elapsed:.0f} s, {rate:.0f} {self.unit}/s{left}"


def opened_log(path: str) -> TextIO:
    """A log file, its folder made."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("w", encoding="utf-8")
