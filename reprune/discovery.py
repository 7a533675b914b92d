"""Finding methods: every folder under the paper folders that has a ``method.py`` is a method."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from reprune.method import BlockMethod, Method, ModelMethod, StructuralMethod

SHAPES = (BlockMethod, ModelMethod, StructuralMethod)


class MethodFileError(Exception):
    """A ``method.py`` that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class MethodEntry:
    """A discovered method: its id (the folder's name), its file and its class."""

    id: str
    file: Path
    cls: type[Method]


def method_files(folders: list[Path]) -> dict[str, Path]:
    """Method id to file, for every ``<folder>/<id>/method.py``.

    Raises :class:`MethodFileError` if two folders hold methods of one name.
    """
    found: dict[str, Path] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("*/method.py"))):
        name = file.parent.name
        if name in found:
            raise MethodFileError(
                f"method '{name}' is in {found[name].parent} and in {file.parent}; rename one"
            )
        found[name] = file
    return found


def load_method(file: Path) -> MethodEntry:
    """Import a ``method.py`` and return its one method class.

    Raises :class:`MethodFileError` if it does not import or does not define exactly one.
    """
    name = f"papers.{file.parent.name}.method"
    if name not in sys.modules or Path(sys.modules[name].__file__ or "") != file:
        _import(name, file)
    found = [
        value
        for value in vars(sys.modules[name]).values()
        if isinstance(value, type) and issubclass(value, SHAPES) and value.__module__ == name
    ]
    if len(found) != 1:
        shapes = ", ".join(cls.__name__ for cls in SHAPES)
        raise MethodFileError(f"{file}: expected one subclass of {shapes}, found {len(found)}")
    return MethodEntry(file.parent.name, file, found[0])


def _import(name: str, file: Path) -> None:
    for root in (file.parents[2], Path(__file__).parents[1]):
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise MethodFileError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise MethodFileError(f"{file}: cannot be imported: {type(error).__name__}: {error}") from error
