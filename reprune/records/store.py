"""A store of finished pieces of work, keyed by all that determines them and verified when read.

It lies outside the workflow's declared outputs, which are deleted when a job fails: an evaluated suite or
a pruned block survives a killed job here.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprune.plan.identity import canonical, digest
from reprune.records.files import read_json, whole, write_json

ENTRY, COST = "entry.json", "cost.json"


class Store:
    """Folders of files under ``root``, one per key. A damaged or foreign entry counts as absent."""

    def __init__(self, root: Path, warn: Callable[[str], None] | None = None) -> None:
        self.root = root
        self._warn = warn or (lambda message: print(message, file=sys.stderr))

    def get(self, key: dict[str, Any]) -> Path | None:
        """The entry's folder if it is there and every file is as it was written, else None."""
        folder = self._folder(key)
        if not folder.is_dir():
            return None
        complaint = self._complaint(folder, key)
        if complaint is None:
            return folder
        self._warn(f"store entry {folder.name}: {complaint}; it is rebuilt")
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def put(self, key: dict[str, Any], write: Callable[[Path], None]) -> Path:
        """Make the entry: ``write`` fills an empty folder, which then appears whole."""
        folder = self._folder(key)
        with whole(folder) as temporary:
            temporary.mkdir(parents=True)
            write(temporary)
            files = {file.name: sha256(file) for file in sorted(temporary.iterdir())}
            write_json(temporary / ENTRY, {"key": key, "files": files})
        return folder

    def made(self, key: dict[str, Any], write: Callable[[Path], None]) -> Path:
        """The entry, made now if it is not there; a second job that asks meanwhile waits for the first."""
        with self._alone(key):
            return self.get(key) or self.put(key, write)

    def shared(self, key: dict[str, Any], write: Callable[[Path], None]) -> tuple[Path, float]:
        """The entry as :meth:`made`, and the seconds that making it took less those that this call took.

        Added to the time of a caller, they make it what the caller would have taken alone.
        """
        asked = time.monotonic()

        def timed(place: Path) -> None:
            start = time.monotonic()
            write(place)
            write_json(place / COST, {"seconds": time.monotonic() - start})

        folder = self.made(key, timed)
        return folder, read_json(folder / COST)["seconds"] - (time.monotonic() - asked)

    @contextmanager
    def _alone(self, key: dict[str, Any]) -> Iterator[None]:
        """Hold the entry's lock, which the system frees if the job dies."""
        folder = self._folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def drop(self, key: dict[str, Any]) -> None:
        """Remove an entry that is no longer needed."""
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def _folder(self, key: dict[str, Any]) -> Path:
        name = digest(key, 24)
        return self.root / name[:2] / name

    def _complaint(self, folder: Path, key: dict[str, Any]) -> str | None:
        try:
            entry = read_json(folder / ENTRY)
            if canonical(entry["key"]) != canonical(key):
                return "belongs to another key"
            for name, expected in entry["files"].items():
                if sha256(folder / name) != expected:
                    return f"{name} is damaged"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"unreadable ({error})"
        return None


def sha256(file: Path) -> str:
    """The SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
