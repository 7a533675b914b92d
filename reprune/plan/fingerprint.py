"""Fingerprints of code: a hash over a module and every project module it imports, found statically.

Snakemake notices a changed script but not a changed module that the script imports; every compute rule
carries such a fingerprint as a parameter. Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("reprune", "papers")
# Bookkeeping that cannot move a number: an edit here must not cost hours of recomputation.
NEUTRAL = frozenset(
    f"reprune.{name}"
    for name in ("stages.job", "records.progress", "records.provenance", "plan.hardware", "plan.paths")
)


def fingerprint(*modules: str, files: tuple[Path, ...] = ()) -> str:
    """12 hex characters for ``modules`` (dotted names) and ``files``, with all they import."""
    found: dict[str, str] = {}
    for file in files:
        _visit(str(file), file, found)
    for module in modules:
        path = _locate(module)
        if path is None:
            raise ModuleNotFoundError(f"no module {module} below {ROOT}")
        _visit(module, path, found)
    text = "\n".join(f"{name} {found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _visit(name: str, path: Path, found: dict[str, str]) -> None:
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else f"{path.parent.name}/{path.name}"
    if name in found:
        return
    found[name], imports = _summary(path, path.stat().st_mtime_ns)
    for module in imports:
        target = None if module in NEUTRAL else _locate(module)
        if target is not None:
            _visit(module, target, found)


@cache
def _summary(path: Path, modified: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    imports = tuple(sorted(_imports(tree)))
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest(), imports


def _imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    unread = {id(inner) for node in ast.walk(tree) if _is_checking(node) for inner in ast.walk(node)}
    for node in (node for node in ast.walk(tree) if id(node) not in unread):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LazyModule":
            names.update(a.value for a in node.args if isinstance(a, ast.Constant))
    return {name for name in names if name.split(".")[0] in PACKAGES}


def _is_checking(node: ast.AST) -> bool:
    """Whether a branch is for type checkers alone: nothing in it runs."""
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            body[:1] = [] if len(body) > 1 else [ast.Pass()]
    return tree


def _locate(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
