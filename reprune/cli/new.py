"""`reprune new`: the folder of a new method, which prunes, passes the conformance suite and has a table."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from reprune.cli.text import ROOT, Refused, plan_of
from reprune.plan.plan import Plan
from reprune.plan.problems import display_path
from reprune.records.files import whole, write_text

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9_]*")


def new_method(name: str, folder: Path | None = None) -> Path:
    """Write ``folder/name`` with method.py, paper.yaml and README.md; returns it.

    Raises :class:`Refused` if the name cannot be used or is taken, or ``folder`` is none.
    """
    folder = folder or ROOT / "papers"
    complaint = _complaint(name, folder, plan_of())
    if complaint:
        raise Refused(complaint)
    with whole(folder / name) as temporary:
        temporary.mkdir()
        for template in sorted(TEMPLATES.glob("*.txt")):
            text = template.read_text(encoding="utf-8").replace("@name@", name)
            write_text(temporary / template.stem, text.replace("@Class@", _class(name)))
    return folder / name


def _complaint(name: str, folder: Path, plan: Plan) -> str | None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        return f"'{name}' cannot name a method: small letters, digits and underscores, a letter first"
    if (folder / name).exists():
        return f"{display_path(folder / name)} exists; choose another name"
    if name in plan.methods or name in plan.units:
        return f"'{name}' is a method or target already; choose another name"
    if name in _rules():
        return f"'{name}' is a rule of the workflow, so it cannot be a target; choose another name"
    return None if folder.is_dir() else f"no folder {display_path(folder)}"


def _rules() -> set[str]:
    """The names of the workflow's rules, which a paper's target must not take."""
    files = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return {rule for text in texts for rule in re.findall(r"^rule (\w+):", text, re.M)}


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def next_steps(folder: Path) -> list[str]:
    """What was written and what to do with it."""
    name, shown = folder.name, display_path(folder)
    own = folder.parent.resolve() == (ROOT / "papers").resolve()
    tested = "" if own else f"REPRUNE_METHODS={display_path(folder.parent)} "
    chosen = "" if own else f" papers='[papers,{display_path(folder.parent)}]'"
    return [
        f"{shown}/method.py   the algorithm: edit score()",
        f"{shown}/paper.yaml  the experiment and its table",
        f"{shown}/README.md   what a reader wants to know",
        "",
        "Next (docs/add-a-method.md explains each step):",
        f"  {tested}pytest tests/conformance -k {name}-",
        f"  snakemake --cores all {name} --config scale=smoke{chosen}",
        f"  snakemake --cores all {name}" + (f" --config{chosen}" if chosen else ""),
    ]
