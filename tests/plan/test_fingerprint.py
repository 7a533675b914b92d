"""Fingerprints: code counts, wherever it is imported from; comments, docstrings and layout do not."""

from __future__ import annotations

import shutil

import pytest

from reprune.plan import code as prints_of
from reprune.plan import fingerprint as module
from reprune.plan.fingerprint import fingerprint

VIEWS = ("tabulate", "plot", "check_claims", "report")


@pytest.fixture
def code(root, tmp_path, monkeypatch):
    """A copy of the code; ``edit`` changes one file, ``stages`` and ``methods`` give all fingerprints."""
    for folder in ("reprune", "papers"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "ROOT", tmp_path)

    class Code:
        @staticmethod
        def edit(file, old, new):
            text = (tmp_path / file).read_text(encoding="utf-8")
            assert old in text
            (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")

        @staticmethod
        def append(file, text):
            with (tmp_path / file).open("a", encoding="utf-8") as stream:
                stream.write(text)

        @staticmethod
        def prints():
            stages = [file.stem for file in (tmp_path / "reprune" / "stages").glob("[a-z]*.py")]
            methods = sorted((tmp_path / "papers").glob("*/method.py"))
            return {stage: prints_of.stage_code.__wrapped__(stage) for stage in stages if stage != "job"} | {
                f"method {file.parent.name}": prints_of.method_code.__wrapped__(file) for file in methods
            }

        def changed(self, before):
            after = self.prints()
            return {name for name in before if before[name] != after[name]}

    return Code()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    n, _, m =", "    # why\n\n    n, _, m ="),
        ('"""Targets and method settings as', '"""Other words for'),
        ("kind: Any) -> Any:\n    if", 'kind: Any) -> Any:\n    """New."""\n    if'),
        ("def _convert(value: Any, kind: Any)", "def _convert(\n        value: Any,\n        kind: Any)"),
        ("def _convert(value: Any", "\n\n\ndef _convert(value: Any"),
    ],
)
def test_comments_docstrings_and_layout_leave_it(code, old, new):
    before = fingerprint("reprune.plan.settings")
    code.edit("reprune/plan/settings.py", old, new)
    assert fingerprint("reprune.plan.settings") == before


def test_text_that_is_no_docstring_counts(code):
    before = fingerprint("reprune.plan.settings")
    code.edit("reprune/plan/settings.py", "such as 0.5", "such as 0.25")
    assert fingerprint("reprune.plan.settings") != before


def test_one_method_is_the_code_of_its_own_runs_only(code):
    before = code.prints()
    code.append("papers/wanda/method.py", "\nEXTRA = 1\n")
    assert code.changed(before) == {"method wanda"}


def test_what_a_method_file_imports_lazily_counts_for_that_method(code):
    before = code.prints()
    code.append("papers/besa/masking.py", "\nEXTRA = 1\n")
    assert code.changed(before) == {"method besa"}
    before = code.prints()
    code.append("reprune/surgery/masks.py", "\nEXTRA = 1\n")
    assert (
        {"method wanda", "method magnitude"}
        <= code.changed(before)
        <= {
            f"method {name}"
            for name in ("besa", "cofi", "magnitude", "sheared_llama", "sparsegpt", "voita_heads", "wanda")
        }
    )


def test_what_is_imported_by_what_is_imported_counts(code):
    before = code.prints()
    code.append("reprune/models/folder.py", "\nEXTRA = 1\n")
    assert code.changed(before) == set(before) - {"collect", "calibrate", "mix", *VIEWS}


def test_the_analysis_leaves_all_that_is_computed(code):
    before = code.prints()
    for file in ("tables", "plots", "claims", "report"):
        code.append(f"reprune/analysis/{file}.py", "\nEXTRA = 1\n")
    assert code.changed(before) == set(VIEWS)


def test_the_plan_leaves_all_that_is_computed_apart_from_the_few_modules_stages_use(code):
    before = code.prints()
    for file in (
        "plan",
        "grid",
        "jobs",
        "code",
        "listing",
        "estimate",
        "settings",
        "source",
        "protocols",
        "inputs",
    ):
        code.append(f"reprune/plan/{file}.py", "\nEXTRA = 1\n")
    assert code.changed(before) == set()


def test_a_module_that_is_not_there_is_an_error():
    with pytest.raises(ModuleNotFoundError, match="no module reprune.nothing"):
        fingerprint("reprune.nothing")
