"""Translation models in a plan: targets in heads, parallel text, recovery, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_project import PAPER

from reprune.discovery import load_method
from reprune.method import ModelFacts, Target
from reprune.plan import paths
from reprune.plan.estimate import compress_flops
from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing
from reprune.plan.problems import Problems
from reprune.plan.settings import read_target

HEADS = """\
from dataclasses import dataclass

from reprune.method import StructuralMethod, setting


@dataclass(frozen=True)
class Settings:
    steps: int = setting(10, "steps", minimum=1)


class Some(StructuralMethod):
    Settings = Settings
    kinds = ("heads",)
    requires_calibration = False
    requires_parallel = True

    @classmethod
    def parallel_work(cls, settings):
        return 100 * settings.steps
"""
TRAINED = "{method: some, label: trained, recovery: {kind: translate, steps: 20}}"
FACTS = ModelFacts("marian", 6, 128, 512, 8, 8, 16, 6000, True, 2_492_784, 2)


@pytest.fixture
def translated(project, experiment):
    """Plans the small paper on the tiny translator with these method entries, at 5 heads."""
    project.write("papers/some/method.py", HEADS)

    def plan(*entries, **keys):
        told = {"models": "[tiny-translator]", "targets": "[{heads: 5}]", "seeds": "[0]"}
        told["suites"] = "[translation-voita]"
        return experiment(**{**told, "methods": f"[{', '.join(entries)}]", **keys})

    return plan


@pytest.fixture
def complaints(project, translated):
    """What planning the same complains of."""

    def lines(*entries, **keys):
        with pytest.raises(Exception, match="paper.yaml|models.yaml") as caught:
            translated(*entries, **keys)
        return str(caught.value).splitlines()

    return lines


def rows(plan):
    return plan.units["mini"].experiments["main"]


def entry(text, method="some"):
    return f"{{method: {method}, label: other, recovery: {{{text}}}}}"


def test_a_target_in_heads_says_how_many_stay_or_leaves_it_to_the_method():
    problems = Problems()
    assert read_target({"heads": 10}, "x", problems) == Target("heads", n=10) == Target.of_heads(10)
    assert read_target({"heads": "learned"}, "x", problems) == Target.of_heads(0)
    assert (Target.of_heads(10).label, Target.of_heads(0).label) == ("10 heads", "learned heads")
    assert Target.of_heads(10).structural and Target.of_heads(10).sparsity == 0


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "many", "null", "[3]"])
def test_anything_else_is_no_number_of_heads(complaints, value):
    (line,) = complaints("some", targets=f"[{{heads: {value}}}]")
    assert line.startswith(f"{PAPER}:9: heads is ")
    assert "expected how many are to stay, such as 10, or 'learned'" in line


def test_parallel_text_of_several_files_is_called_by_how_their_names_begin(project, translated, tmp_path):
    for part in ("train", "val", "test"):
        (tmp_path / f"pairs_{part}.jsonl.gz").write_bytes(b"text")
    files = "{train: pairs_train.jsonl.gz, validation: pairs_val.jsonl.gz, test: pairs_test.jsonl.gz}"
    counts = "{train: 1, validation: 1, test: 1}"
    mirrored = f"    mirror: {{files: {files}, columns: [en, xx], pairs: {counts}, fit: stand-in}}\n"
    made = "    made: {pairs: {train: 400, validation: 24, test: 24}"
    project.edit("config/data.yaml", made, mirrored + made)
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [mirror, made]")
    translated("some")
    (text,) = project.plan(mirror=str(tmp_path)).parallel.values()
    assert (text.label, len(text.content["mirror"]["sha256"])) == ("mirror:pairs_*", 3)


def test_a_run_reads_the_parallel_text_of_its_model(translated):
    plan = translated("some", seeds="[0, 1]")
    first, second = plan.runs.values()
    pairs = first.parallel
    assert (pairs.name, pairs.kind, pairs.languages) == ("made-pairs", "made", ("en", "xx"))
    assert pairs is second.parallel is first.model.parallel and plan.parallel == {pairs.id: pairs}
    assert pairs.pairs == {"train": 400, "validation": 24, "test": 24}
    assert first.id.startswith("some-tiny-translator-5-heads-") and {r.seed for r in (first, second)} == {
        0,
        1,
    }
    job = json.loads(Jobs(plan).compress(first.id))
    assert job["target"] == {"kind": "heads", "sparsity": 0.0, "n": 5, "m": 0}
    assert job["dense"]["decoder_layers"] == 2
    assert f"  parallel text made-pairs: {pairs.label} ({pairs.fit})" in listing(plan, ["mini"], 1, Path())
    fetched = json.loads(Jobs(plan).parallel(pairs.id))
    assert fetched["what"] == "parallel" and list(fetched["content"]) == ["made"]


def test_other_pairs_are_another_model_and_another_run_and_another_note_is_not(project, translated):
    (before,) = translated("some").runs.values()
    made = 'seed: 17, fit: stand-in, note: "made at random by the harness"'
    project.edit("config/data.yaml", made, "seed: 17, fit: stand-in, note: changed")
    (noted,) = translated("some").runs.values()
    assert (noted.id, noted.model.id) == (before.id, before.model.id)
    project.edit("config/data.yaml", "seed: 17, fit: stand-in", "seed: 18, fit: stand-in")
    (other,) = translated("some").runs.values()
    assert other.id != before.id and other.model.id != before.model.id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{seed: 3, dropout: 0.0, ", "{seed: 4, dropout: 0.0, "),
        ("max_length: 32, steps: ", "max_length: 32, steps: 1"),
        ("vocab_size: 160, tied_embeddings: true", "vocab_size: 161, tied_embeddings: true"),
        ("  context: 64\n", "  context: 65\n"),
        ("  dtype: float32\n  context: 64", "  dtype: float16\n  context: 64"),
    ],
)
def test_what_a_model_is_trained_by_is_its_identity(project, translated, old, new):
    (before,) = translated("some").models
    project.edit("config/models.yaml", old, new)
    assert [*translated("some").models] != [before]


def test_the_job_that_trains_a_model_has_its_recipe_and_nothing_of_who_uses_it(project, translated):
    plan = translated("some")
    (model_id,) = plan.models
    job = json.loads(Jobs(plan).train_model(model_id))
    assert job["recipe"]["max_length"] == 32 and job["facts"]["decoder_layers"] == 2 and job["context"] == 64
    assert job["source"] == plan.models[model_id].parallel.label and plan.models[model_id].kind == "trained"
    assert json.loads(Jobs(translated(TRAINED)).train_model(model_id)) == job
    assert plan.missing == []


def test_work_on_pairs_is_counted(translated):
    short, long = (
        compress_flops(next(iter(translated(f"{{method: some, settings: {{steps: {n}}}}}").runs.values())))
        for n in (10, 30)
    )
    assert 0 < short < long


def test_unknown_parallel_text_and_none_to_train_on_are_errors(project, complaints):
    project.edit("config/models.yaml", "  parallel: made-pairs\n", "  parallel: made-pair\n")
    assert any("unknown parallel text 'made-pair'" in line for line in complaints("some"))
    project.edit("config/models.yaml", "  parallel: made-pair\n", "")
    assert any("trained on no parallel text; name it: parallel" in line for line in complaints("some"))


def test_methods_for_language_models_are_refused_with_a_reason_and_the_other_way_round(translated):
    plan = translated("dense", "magnitude", "wanda", "some")
    language = {"models": "[tiny-llama]", "suites": "[perplexity-wanda]"}
    found = {(row.method, row.model): row.reason for row in rows(plan)}
    found |= {(row.method, row.model): row.reason for row in rows(translated("some", **language))}
    assert found["dense", "tiny-translator"] is found["some", "tiny-translator"] is None
    for method in ("magnitude", "wanda"):
        assert found[method, "tiny-translator"] == "is for language models, not for translation models"
    assert found["some", "tiny-llama"] == "is for translation models"
    assert all(run.method.id in ("dense", "some") for run in plan.runs.values())


def test_a_recovery_goes_on_from_the_run_without_and_reads_the_same_text(translated):
    plan = translated("some", TRAINED)
    base, recovered = sorted(plan.runs.values(), key=lambda run: bool(run.recovery))
    how, data = recovered.recoveries[-1]
    assert recovered.base == base.id and data is base.parallel and how.file == "parallel"
    assert (how.steps, how.trained, how.start) == (20, "encoder", "pruned")
    job = json.loads(Jobs(plan).recover(recovered.id))
    assert (job["stage"], job["file"]) == ("translate", "parallel")
    assert job["recovery"]["steps"] == 20
    assert paths.trained_on_file("parallel", data.id) == paths.PARALLEL / f"{data.id}.parquet"


@pytest.mark.parametrize(
    "other",
    [
        "kind: translate, steps: 21",
        "kind: translate, steps: 20, trained: all",
        "kind: translate, steps: 20, trained: all, start: scratch",
        "kind: translate, steps: 20, average: 2",
    ],
)
def test_what_can_change_a_number_changes_the_identity(translated, other):
    plan = translated(TRAINED, entry(other))
    assert len({run.id for run in plan.runs.values() if run.recovery}) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "kind: translate, start: scratch",
            "start is 'scratch', but only the encoder is trained; use trained: all",
        ),
        ("kind: translate, trained: decoder", "'trained' of recovery is 'decoder'; expected"),
        ("kind: translate, scale: 0", "setting 'scale' of recovery is 0"),
        ("kind: translate, rank: 4", "has no setting 'rank'"),
        (
            "kind: lora",
            "recovery of kind 'lora' trains language models, tiny-translator is a translation model",
        ),
        ("kind: pretrain", "recovery of kind 'pretrain' trains language models, tiny-translator is a"),
    ],
)
def test_a_recovery_that_cannot_be_is_one_line(complaints, text, told):
    (line,) = complaints(entry(text))
    assert line.startswith(f"{PAPER}:") and told in line


def test_language_models_have_no_parallel_text_to_be_trained_on(complaints):
    (line,) = complaints(
        entry("kind: translate", "magnitude"), models="[tiny-llama]", suites="[perplexity-wanda]"
    )
    assert "tiny-llama is no translation model and has no parallel text to be trained on" in line


def test_a_dense_translation_model_is_not_trained_further(translated):
    plan = translated(entry("kind: translate", "dense"))
    (row,) = rows(plan)
    assert row.run is None and row.reason == "trains translation models without some of their heads"


@pytest.mark.parametrize(
    ("target", "nearest"),
    [(0, "1 heads"), (49, "48 heads"), (48, None), (1, None)],
)
def test_heads_in_an_order_need_a_number_that_the_encoder_has(root, target, nearest):
    method = load_method(root / "papers/head_order/method.py").cls
    refusal = method.supports(FACTS, Target.of_heads(target), method.Settings())
    assert (refusal and refusal.nearest) == nearest
    assert method.supports(FACTS, Target.unstructured(0.5), method.Settings()).reason.startswith(
        "serves only"
    )


def test_learned_gates_find_the_number_themselves(root):
    method = load_method(root / "papers/voita_heads/method.py").cls
    assert method.supports(FACTS, Target.of_heads(0), method.Settings()) is None
    assert method.supports(FACTS, Target.of_heads(5), method.Settings()).nearest == "learned heads"
    assert method.parallel_work(method.Settings(steps=3, batch_tokens=50)) == 150
