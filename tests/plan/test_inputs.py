"""Which source an input comes from, and what its identity is made of."""

from __future__ import annotations

import pytest

CALIBRATED = "{method: wanda, calibration: {corpus: c4-train}}"


@pytest.fixture
def local(project):
    """Plans the paper on real corpora; returns the source of each by name."""
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [mirror, package, hub]")
    text = (project.root / "config/scales/smoke.yaml").read_text()
    for line in [line for line in text.splitlines() if ": made-" in line and "calibration" not in line]:
        project.edit("config/scales/smoke.yaml", line + "\n", "")
    project.edit("config/scales/smoke.yaml", "corpora: ", "corpora: {} ")
    project.edit("papers/mini/paper.yaml", "wanda]", CALIBRATED + "]")

    def corpora(**config):
        return {c.name: c for c in project.plan(**config).corpora.values()}

    return corpora


def test_the_mirror_comes_before_the_package_and_only_where_it_has_the_file(local, tmp_path):
    assert {c.kind for c in local().values()} == {"package"}
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "wikitext2_raw_test.jsonl.gz").write_bytes(b"text")
    found = local(mirror=str(mirror))
    assert {name: c.kind for name, c in found.items()} == {"c4-train": "package", "wikitext2-test": "mirror"}
    assert found["wikitext2-test"].label == "mirror:wikitext2_raw_test.jsonl.gz"
    assert found["wikitext2-test"].fit == "equal"


def test_the_environment_names_a_mirror_and_its_results_stay_apart(local, tmp_path, project, monkeypatch):
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("REPRUNE_MIRROR", str(tmp_path / "mirror"))
    plan = project.plan()
    assert plan.mirror == tmp_path / "mirror" and plan.out == "smoke-mirror"


def test_a_corpus_is_another_when_its_bytes_are_others_and_the_same_wherever_it_lies(local, tmp_path):
    ids = []
    for place, text in (("a", b"text"), ("b", b"text"), ("c", b"other")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "wikitext2_raw_test.jsonl.gz").write_bytes(text)
        ids.append(local(mirror=str(tmp_path / place))["wikitext2-test"].id)
    assert ids[0] == ids[1] != ids[2]


def test_a_package_is_another_when_its_hash_is_another_but_not_its_note(local, project):
    before = local()["c4-train"].id
    project.edit("config/data.yaml", 'note: "web pages, training cut"', "note: changed")
    assert local()["c4-train"].id == before
    project.edit("config/data.yaml", "sha256: 550c", "sha256: 660c")
    assert local()["c4-train"].id != before


def test_what_is_in_the_hub_cache_is_not_missing_offline(project, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    project.edit("papers/mini/paper.yaml", "[tiny-llama]", "[llama-7b]")
    project.edit("papers/mini/paper.yaml", "[dense, magnitude, wanda]", "[dense]")
    (line,) = project.plan().missing
    assert line.startswith("llama-7b: hub model huggyllama/llama-7b is not in the hub cache")
    snapshot = tmp_path / "hub" / "models--huggyllama--llama-7b" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert project.plan().missing == []


def test_a_mirror_may_hold_hub_models_and_a_model_may_be_a_folder(project, tmp_path, tiny_folder):
    models = tmp_path / "mirror" / "models"
    models.mkdir(parents=True)
    (models / "huggyllama--llama-7b").symlink_to(tiny_folder())
    project.edit(
        "config/models.yaml",
        "source: {random: {seed: 2, max_position_embeddings: 512}}",
        f"source: {{folder: {tiny_folder('tiny-llama-gqa')}}}",
    )
    project.edit("papers/mini/paper.yaml", "[tiny-llama]", "[llama-7b, tiny-llama-gqa]")
    plan = project.plan(mirror=str(tmp_path / "mirror"))
    assert plan.missing == []
    found = {m.name: (m.label, plan.inputs.model_folder(m)) for m in plan.models.values()}
    assert found == {
        "llama-7b": ("mirror:models/huggyllama--llama-7b", models / "huggyllama--llama-7b"),
        "tiny-llama-gqa": (f"folder:{tiny_folder('tiny-llama-gqa').name}", tiny_folder("tiny-llama-gqa")),
    }


def test_a_model_folder_that_is_not_there_is_missing(project):
    project.edit(
        "config/models.yaml",
        "source: {random: {seed: 1, max_position_embeddings: 512}}",
        "source: {folder: /no/model}",
    )
    assert project.plan().missing == ["tiny-llama: /no/model has no config.json"]
