"""Downstream measurements against lm-eval's own runs of the same task folders with its ``hf`` model."""

from __future__ import annotations

import gzip
import json
import math

import datasets
import pytest
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from reprune.data.tasks import build_task
from reprune.evaluation.downstream import average, declared, load_tasks, score
from reprune.evaluation.engine import RepruneLM
from reprune.evaluation.text import ProtocolError

WINDOW = 512  # room for the 256 tokens that lm-eval generates
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
METRICS = {  # lm-eval's metrics of every made task
    "boolq": ["acc"],
    "piqa": ["acc", "acc_norm"],
    "hellaswag": ["acc", "acc_norm"],
    "winogrande": ["acc"],
    "arc_easy": ["acc", "acc_norm"],
    "arc_challenge": ["acc", "acc_norm"],
    "nq_open": ["exact_match"],
}


@pytest.fixture(scope="module")
def entries(root):
    return yaml.safe_load((root / "config" / "tasks.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory, entries):
    """The folder of a made task; its examples are ``train`` made rows or the last ``held`` scored ones."""
    made = {}

    def build(name, rows=8, train=5, held=0):
        key = (name, rows, train, held)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(name) / "task"
            entry = entries[name]
            scored, shots = entry["scored"], entry["shots"]
            maker = entry["splits"][scored]["made"]["maker"]
            sources = {scored: {"made": {"maker": maker, "rows": rows, "seed": 1}}}
            if train:
                sources[shots] = {"made": {"maker": maker, "rows": train, "seed": 2}}
            if held:
                sources[shots] = {"held_out": {"of": scored, "rows": held}}
            build_task(name, entry, sources, {}, made[key])
        return made[key]

    return build


@pytest.fixture(scope="module")
def lm(tiny_folder):
    return RepruneLM(str(tiny_folder("tiny-llama-gqa")), max_length=WINDOW)


@pytest.fixture(scope="module")
def reference(tiny_folder):
    """lm-eval's model on the same checkpoint, one request at a time."""
    path = str(tiny_folder("tiny-llama-gqa"))
    return HFLM(path, dtype="float32", device="cpu", max_length=WINDOW, batch_size=1)


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def content(**changed):
    return {"name": "some", "seed": 1234, "limit": None, "chat_template": False, **changed}


def measured(lm, folder, metric="acc", shots=0, **changed):
    found = score(lm, folder, shots, content(**changed), lambda *_: None)
    return declared(found, metric, "protocol some")


def by_lm_eval(model, folder, shots=0, limit=None, chat_template=False):
    """lm-eval's own evaluation of every task in a folder: its results and its samples."""
    found = simple_evaluate(
        model,
        tasks=[yaml.safe_load(file.read_text())["task"] for file in sorted(folder.glob("*.yaml"))],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        num_fewshot=shots,
        limit=limit,
        apply_chat_template=chat_template,
        fewshot_random_seed=1234,
        bootstrap_iters=2,
    )
    (name,) = found["results"]
    return found["results"][name], found["samples"][name]


@pytest.mark.parametrize(
    "name, shots", [*((name, 0) for name in METRICS), ("boolq", 3), ("hellaswag", 3), ("nq_open", 3)]
)
def test_results_are_lm_evals(lm, reference, task_folder, name, shots):
    folder, metrics = task_folder(name), METRICS[name]
    limit = 2 if name == "nq_open" else None  # lm-eval's model writes 256 tokens for each, slowly
    result = measured(lm, folder, metrics[0], shots, limit=limit)
    expected, samples = by_lm_eval(reference, folder, shots, limit)
    (kind,) = {key.partition(",")[2] for key in expected if key.startswith(metrics[0])}
    found = {metrics[0]: (result["value"], result["stderr"]), **result["others"]}
    for metric in metrics:
        assert found[metric][0] == pytest.approx(expected[f"{metric},{kind}"], abs=1e-12), metric
        assert found[metric][1] == pytest.approx(expected[f"{metric}_stderr,{kind}"], abs=1e-12), metric
    assert result["variant"] == metrics[0] and result["n"] == len(samples) == (limit or 8)
    for item, sample in zip(result["items"], samples, strict=True):
        assert {key: item[key] for key in ("doc_hash", "prompt_hash", "target_hash")} == {
            key: sample[key] for key in ("doc_hash", "prompt_hash", "target_hash")
        }
        assert item["value"] == sample[metrics[0]]
        answers = [answer if isinstance(answer, str) else answer[0] for (answer,) in sample["resps"]]
        near = [answer if isinstance(answer, str) else pytest.approx(answer, abs=1e-4) for answer in answers]
        assert json.loads(item["responses"]) == near


def test_a_result_says_all_there_is_to_say(lm, task_folder):
    result = measured(lm, task_folder("arc_easy"))
    assert {key: result[key] for key in ("metric", "variant", "unit", "higher_is_better", "reason")} == {
        "metric": "accuracy",
        "variant": "acc",
        "unit": "share",
        "higher_is_better": True,
        "reason": None,
    }
    assert [item["item"] for item in result["items"]] == list(range(8))
    assert result["truncated"] == 0


@pytest.mark.parametrize("limit, n", [(3, 3), (8, 8), (20, 8), (None, 8)])
def test_the_limit_takes_the_first_items(lm, task_folder, limit, n):
    everything = measured(lm, task_folder("piqa"))
    result = measured(lm, task_folder("piqa"), limit=limit)
    assert result["n"] == n
    hashes = [item["doc_hash"] for item in everything["items"][:n]]
    assert [item["doc_hash"] for item in result["items"]] == hashes


class TestParts:
    """A task of several parts, such as MMLU's subjects, is measured over the items of all."""

    PARTS = ["anatomy", "virology"]

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory, entries):
        folder = tmp_path_factory.mktemp("mmlu")
        rows = [
            {"question": f"What is {i}?", "choices": ["a", "bb", "c", "dd"], "answer": i % 4, "subject": "x"}
            for i in range(9)
        ]
        sources, files = {}, {}
        for split, own in (("test", rows[:6]), ("dev", rows[6:])):
            files[split] = folder / f"{split}.jsonl.gz"
            files[split].write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in own).encode()))
            mirror = {"file": files[split].name, "reader": "jsonl", "rows": len(TestParts.PARTS) * len(own)}
            sources[split] = {"mirror": mirror}
        entry = {**entries["mmlu"], "parts": TestParts.PARTS}
        build_task("mmlu", entry, sources, files, folder / "task")
        return folder / "task"

    @pytest.mark.parametrize("limit, n", [(None, 12), (4, 8)])
    def test_items_are_numbered_through_and_the_limit_is_each_parts(self, lm, folder, limit, n):
        result = measured(lm, folder, shots=2, limit=limit)
        assert result["n"] == n and [item["item"] for item in result["items"]] == list(range(n))
        assert result["value"] == pytest.approx(sum(item["value"] for item in result["items"]) / n)

    def test_every_part_needs_its_examples(self, lm, folder):
        with pytest.raises(ProtocolError, match="mmlu_anatomy is asked for 4 examples .* its data has 3"):
            measured(lm, folder, shots=4)


class TestShots:
    @pytest.mark.parametrize("pool", [{"train": 5}, {"train": 0, "held": 4}])
    def test_examples_are_none_of_the_scored_items(self, task_folder, tmp_path, pool):
        (task,) = load_tasks(task_folder("boolq", rows=12, **pool), 3, 1, tmp_path).values()
        task.build_all_requests()
        examples = {doc["passage"] for doc in task.fewshot_docs()}
        scored = {doc["passage"] for doc in task.eval_docs}
        assert not examples & scored
        prompts = {instance.args[0] for instance in task.instances}
        assert len(prompts) == len(scored) == 12 - pool.get("held", 0)
        for prompt in prompts:
            assert sum(passage in prompt for passage in examples) == 3
            assert sum(passage in prompt for passage in scored) == 1

    def test_the_seed_draws_them(self, lm, task_folder):
        folder = task_folder("boolq")
        hashes = [
            [item["prompt_hash"] for item in measured(lm, folder, shots=2, seed=seed)["items"]]
            for seed in (1, 1, 2)
        ]
        assert hashes[0] == hashes[1] != hashes[2]

    def test_more_than_there_are_is_one_line(self, lm, task_folder):
        with pytest.raises(ProtocolError) as caught:
            measured(lm, task_folder("boolq"), shots=6)
        assert str(caught.value) == (
            "task reprune_boolq is asked for 6 examples in the prompt, its data has 5; "
            "ask for fewer, or name a mirror that has its train split"
        )

    def test_the_scored_items_are_no_examples(self, lm, task_folder):
        with pytest.raises(
            ProtocolError, match="reprune_boolq would take its examples from the items it scores"
        ):
            measured(lm, task_folder("boolq", train=0), shots=2)


class TestChatTemplates:
    def test_one_that_is_missing_is_one_line(self, lm, task_folder):
        with pytest.raises(
            ProtocolError, match="asks for a chat template and the model's tokenizer has none; "
        ):
            measured(lm, task_folder("piqa"), chat_template=True)

    @pytest.mark.parametrize("shots", [0, 2])
    def test_prompts_are_lm_evals(self, lm, reference, task_folder, monkeypatch, shots):
        for model in (lm, reference):
            monkeypatch.setattr(model.tokenizer, "chat_template", TEMPLATE)
        result = measured(lm, task_folder("piqa"), shots=shots, chat_template=True)
        _, samples = by_lm_eval(reference, task_folder("piqa"), shots, chat_template=True)
        hashes = [item["prompt_hash"] for item in result["items"]]
        assert hashes == [sample["prompt_hash"] for sample in samples]
        plain = measured(lm, task_folder("piqa"), shots=shots)
        assert hashes != [item["prompt_hash"] for item in plain["items"]]


def test_a_metric_that_the_task_has_not_is_one_line(lm, task_folder):
    with pytest.raises(ProtocolError) as caught:
        measured(lm, task_folder("boolq"), "acc_norm")
    assert str(caught.value) == "protocol some asks for acc_norm; lm-eval measures acc"


def test_prompts_longer_than_the_window_are_counted(tiny_folder, task_folder):
    short = RepruneLM(str(tiny_folder()), max_length=64)
    result = measured(short, task_folder("boolq"), shots=3)
    assert result["truncated"] == 2 * 8, "two choices of eight questions"
    assert measured(short, task_folder("winogrande"), limit=2)["truncated"] == 0, "counted for each task"


def test_values_that_are_not_finite_are_a_result(tiny_model, tiny_folder, task_folder):
    model = tiny_model()
    model.lm_head.weight.data.fill_(math.nan)
    broken = RepruneLM(model, tokenizer=str(tiny_folder()))
    result = measured(broken, task_folder("arc_easy"))
    assert (result["value"], result["stderr"], result["others"]) == (None, None, {"acc_norm": (None, None)})
    assert result["reason"] == "8 of 8 items have log-likelihoods that are not finite"
    assert [item["value"] for item in result["items"]] == [None] * 8
    assert "NaN" in result["items"][0]["responses"]


def test_progress_is_told(lm, task_folder):
    said = []
    score(lm, task_folder("piqa"), 0, content(), lambda *told: said.append(told))
    assert said and said[-1][0] == said[-1][1] > 0


class TestAverage:
    def result(self, value, stderr, n):
        return {"value": value, "stderr": stderr, "n": n}

    def test_worked_example(self):
        results = [self.result(0.5, 0.03, 100), self.result(0.7, 0.04, 400), self.result(0.3, 0.0, 10)]
        value, stderr, n = average(results)
        assert (value, n) == (pytest.approx(0.5), 510), "every task counts the same"
        assert stderr == pytest.approx(0.05 / 3)

    def test_a_task_of_one_item_leaves_no_error(self):
        assert average([self.result(0.5, 0.1, 9), self.result(1.0, None, 1)]) == (0.75, None, 10)
