"""Configuration errors: collected, then shown all at once, each on one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


class ConfigError(Exception):
    """All problems of a configuration; its text has one line per problem."""


@dataclass
class Problems:
    """Collects problems so that a user sees every one of them in a single run."""

    lines: list[str] = field(default_factory=list)

    def add(self, where: str, message: str) -> None:
        line = f"{where}: {message}"
        if line not in self.lines:
            self.lines.append(line)

    def raise_if_any(self) -> None:
        """Raises :class:`ConfigError` if anything was added."""
        if self.lines:
            raise ConfigError("\n".join(self.lines))


def nearest(name: object, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest valid name, then all of them."""
    known = sorted(map(str, choices))
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def misspelt(word: str, choices: Iterable[str]) -> bool:
    """Whether ``word`` looks like one of ``choices`` and is none of them."""
    known = list(choices)
    return (
        word.isidentifier()
        and word not in known
        and bool(difflib.get_close_matches(word, known, n=1, cutoff=0.75))
    )


def display_path(path: Path) -> str:
    """``path`` as a user would write it: relative to the working directory where possible."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
