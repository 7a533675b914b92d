"""Tables of counts in a plan: rows without runs, handed on with the shapes that methods tell."""

from __future__ import annotations

import json

import pytest
from small_project import MINI, PAPER, THIN

from reprune.models.counts import Shape, parameters
from reprune.plan.jobs import Jobs

TABLE = """\
tables:
- id: size
  title: Size
  kind: counts
  tokens: 64
  tasks: [params, macs]
  rows:
  - {label: Dense, model: llama-7b}
  - {label: Thin, model: llama-7b, method: thin, target: {parameters: 0.2}, settings: {}, published_as: []}
"""
TELLS = """
    @classmethod
    def shape(cls, facts, target, settings):
        from dataclasses import replace

        from reprune.models.counts import Shape

        return replace(Shape.of(facts), hidden_size=round(facts.hidden_size * (1 - target.sparsity)))
"""
WRONG = {  # what is wrong: old text, new text, line and message
    "model": (
        "model: llama-7b}",
        "model: llama-7}",
        ":11: unknown model 'llama-7'; did you mean 'llama-7b'?",
    ),
    "method": ("method: thin", "method: thick", ":12: unknown method 'thick'; did you mean 'thin'?"),
    "a method that takes nothing out": (
        "method: thin",
        "method: wanda",
        ":12: llama-7b cannot be counted: method 'wanda' refuses it: serves only unstructured, n:m targets",
    ),
    "target": (
        "{parameters: 0.2}",
        "{parameters: 2}",
        ":12: parameters is 2; expected a number between 0 and",
    ),
    "setting": ("settings: {}", "settings: {a: 1}", ":12: method 'thin' has no settings, found 'a'"),
    "a method without a target": (
        "target: {parameters: 0.2}, settings: {}, ",
        "",
        ":12: tables.0.rows.1: 'target' is a dependency of 'method'",
    ),
    "a target without a method": (
        "{label: Dense, model: llama-7b}",
        "{label: Dense, model: llama-7b, target: {parameters: 0.2}}",
        ":11: tables.0.rows.0: 'method' is a dependency of 'target'",
    ),
    "key": (
        "  tokens: 64",
        "  tokens: 64\n  token: 64",
        ":9: unknown key 'token' in tables.0; did you mean 'tokens'?",
    ),
    "no tokens": ("  tokens: 64\n", "", ":5: tables.0: 'tokens' is a required property"),
    "task": ("[params, macs]", "[param, macs]", ":9: tables.0.tasks.0 is 'param'; did you mean 'params'?"),
    "kind": ("kind: counts", "kind: count", ":7: tables.0.kind is 'count'; did you mean 'counts'?"),
    "another kind of table": ("  kind: counts\n", "", ":5: tables.0: 'experiment' is a required property"),
}


@pytest.fixture
def counted(project):
    """The small paper with a table of counts and a method that tells what it leaves."""
    project.write("papers/thin/method.py", THIN + TELLS)
    project.write(PAPER, MINI.replace("experiments:", f"{TABLE}experiments:"))
    return project


def info(plan, unit):
    return json.loads(Jobs(plan).collect(unit))["info"]


def test_rows_are_handed_on_with_their_shapes(counted):
    dense, thin = info(counted.plan(), "mini")["counts"]["size"]
    assert (dense["method"], dense["target"], dense["published_as"]) == ("dense", "dense", ["Dense"])
    assert parameters(Shape.read(dense["shape"])) == dense["dense"] == 6_738_415_616
    assert (thin["target"], thin["target_kind"], thin["published_as"]) == (
        "20% of parameters",
        "low_rank",
        [],
    )
    assert Shape.read(thin["shape"]).hidden_size == 3277


def test_nothing_is_fetched_or_run_for_them(counted):
    with_table = counted.plan()
    counted.write(PAPER, MINI)
    without = counted.plan()
    assert with_table.runs.keys() == without.runs.keys()
    assert with_table.models.keys() == without.models.keys() and with_table.missing == []


def test_their_models_have_names_in_print(counted):
    told = info(counted.plan(), "mini")
    assert told["published_names"] == {"tiny-llama": None, "llama-7b": "LLaMA-7B"}
    assert told["model_titles"]["llama-7b"] == "LLaMA-7B"


def test_they_belong_to_the_usual_experiments(counted):
    more = "  later: {title: L, on_request: true, targets: [{sparsity: 0.5}], methods: [dense], "
    counted.edit(PAPER, "experiments:\n", f"experiments:\n{more}suites: [perplexity-wanda]}}\n")
    plan = counted.plan()
    assert [len(plan.units[unit].views["tables"]) for unit in ("mini", "mini_later")] == [1, 0]
    assert [list(info(plan, unit)["counts"]) for unit in ("mini", "mini_later")] == [["size"], []]


def test_a_paper_without_usual_experiments_is_refused(counted):
    counted.edit(PAPER, "    title: Main\n", "    title: Main\n    on_request: true\n")
    assert counted.complaints() == [f"{PAPER}:5: a table of counts needs an experiment made by default"]


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(counted, what):
    old, new, message = WRONG[what]
    counted.edit(PAPER, old, new)
    (line,) = counted.complaints()
    assert line.startswith(f"{PAPER}{message}"), line


def test_a_method_that_tells_no_shape_is_refused(counted):
    counted.write("papers/thin/method.py", THIN)
    (line,) = counted.complaints()
    assert line == (
        f"{PAPER}:12: llama-7b cannot be counted: method 'thin' does not tell from the configuration what it "
        "leaves"
    )


def test_a_model_of_another_form_is_refused(counted):
    """Its parameters are not what its widths say, so it has biases, say, or other norms."""
    counted.edit(PAPER, "{label: Dense, model: llama-7b}", "{label: Dense, model: tiny-llama}")
    counted.edit("config/models.yaml", "parameters: 184000", "parameters: 184064")
    (line,) = counted.complaints()
    assert line.startswith(
        f"{PAPER}:11: tiny-llama cannot be counted: a model of LLaMA's form with these wid"
    )
