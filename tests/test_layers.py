"""Imports point only down, planning is free of heavy libraries, and nothing runs code out of data."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    ("reprune.lazy", "reprune.method", "reprune.discovery", "reprune.models.counts", "reprune.models.sizes"),
    ("reprune.plan",),
    ("reprune.records",),
    ("reprune.data",),
    ("reprune.models",),
    ("reprune.surgery",),
    ("reprune.calibration",),
    ("reprune.training",),
    ("reprune.evaluation",),
    ("reprune.analysis",),
    ("reprune.stages",),
    ("reprune.cli",),
]
HEAVY = {"torch", "transformers", "pandas", "numpy", "datasets", "matplotlib", "pyarrow", "safetensors"}
CODE = sorted((ROOT / "reprune").rglob("*.py"))
PAPERS = sorted((ROOT / "papers").rglob("*.py"))


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module: str) -> int:
    return next(
        i
        for i, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    )


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(tree: ast.AST, within_checking: bool = True) -> Iterator[str]:
    """Every imported module, lazy ones too; names that are relative start with a dot."""
    for node in ast.iter_child_nodes(tree):
        checking = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        if checking and not within_checking:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if module in ("reprune", "papers"))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LazyModule":
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))
        yield from imports(node, within_checking)


def names(file: Path) -> list[str]:
    """Imports that count for the floors; `reprune/method.py` names the walk's types for checkers only."""
    return list(imports(parsed(file), within_checking=module_name(file) != "reprune.method"))


def test_imports_point_only_down():
    wrong = [
        f"{module} imports {name}"
        for file in CODE
        if (module := module_name(file)) != "reprune"
        for name in names(file)
        if name.startswith("reprune.") and floor(name) > floor(module)
    ]
    assert wrong == []


def test_the_library_knows_no_paper_and_papers_not_one_another():
    library = [f"{file}: {name}" for file in CODE for name in names(file) if name.split(".")[0] == "papers"]
    across = [
        f"{file}: {name}"
        for file in PAPERS
        for name in names(file)
        if name.startswith("papers.") and name.split(".")[1] != file.parent.name
    ]
    assert library + across == []


def test_no_relative_imports_which_fingerprints_do_not_follow():
    assert [f"{file}: {name}" for file in CODE + PAPERS for name in names(file) if name.startswith(".")] == []


@pytest.mark.parametrize("package", ["plan", "records"])
def test_lower_floors_never_import_heavy_libraries(package):
    found = [
        f"{file}: {name}"
        for file in (ROOT / "reprune" / package).glob("*.py")
        for name in names(file)
        if name.split(".")[0] in HEAVY
    ]
    assert found == []


def test_nobody_unpickles_or_trusts_code_of_a_model():
    for file in [*CODE, *PAPERS, *(ROOT / "workflow").rglob("*.py")]:
        tree = parsed(file)
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & set(imports(tree)), file
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"), file
            assert not (
                isinstance(node, ast.keyword)
                and node.arg == "trust_remote_code"
                and ast.unparse(node.value) != "False"
            ), file


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh process holds after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_planning_loads_no_heavy_library():
    plan = (
        "from reprune.plan.plan import build_plan; from reprune.plan.jobs import Jobs\n"
        "plan = build_plan({'scale': 'smoke'}); jobs = Jobs(plan)\n"
        "[jobs.compress(run) and [jobs.evaluate(run, g) for g in plan.runs[run].groups] for run in plan.runs]"
    )
    assert not loaded_by(plan) & HEAVY


def test_views_load_neither_torch_nor_transformers():
    views = ("collect", "tabulate", "plot", "check_claims", "report")
    assert not loaded_by("\n".join(f"import reprune.stages.{view}" for view in views)) & {
        "torch",
        "transformers",
    }
