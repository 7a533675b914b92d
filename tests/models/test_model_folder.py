"""Tensors by name out of safetensors, in one file or several."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from reprune.models.folder import INDEX, SINGLE, ModelFolder, ModelFolderError, write_index

TENSORS = {
    "model.layers.1.w": torch.tensor([1.0, 2.0]),
    "model.layers.10.w": torch.tensor([3.0]),
    "lm_head.w": torch.tensor([[4.0]], dtype=torch.float16),
}


@pytest.fixture(params=["single", "shards"])
def folder(tmp_path, request):
    if request.param == "single":
        save_file(TENSORS, tmp_path / SINGLE)
    else:
        for i, (name, tensor) in enumerate(TENSORS.items()):
            save_file({name: tensor}, tmp_path / f"{i}.safetensors")
        write_index(tmp_path, {name: f"{i}.safetensors" for i, name in enumerate(TENSORS)})
    (tmp_path / "config.json").write_text("{}")
    return ModelFolder(tmp_path)


def test_tensors_are_read_by_name_in_the_dtype_asked_for(folder):
    assert set(folder.files) == set(TENSORS)
    read = folder.read(["lm_head.w", "model.layers.10.w"])
    assert {name: tensor.tolist() for name, tensor in read.items()} == {
        "lm_head.w": [[4.0]],
        "model.layers.10.w": [3.0],
    }
    assert read["lm_head.w"].dtype == torch.float16
    assert folder.read(["lm_head.w"], torch.float32)["lm_head.w"].dtype == torch.float32


def test_what_is_read_does_not_hang_on_the_file(folder):
    tensor = folder.read(["model.layers.1.w"])["model.layers.1.w"]
    tensor += 1
    assert torch.equal(folder.read(["model.layers.1.w"])["model.layers.1.w"], TENSORS["model.layers.1.w"])


def test_a_prefix_ends_at_its_dot(folder):
    assert folder.names_below("model.layers.1.") == ["model.layers.1.w"]


def test_a_truncated_file_is_named_with_what_to_do(folder):
    file = next(iter(folder.files.values()))
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ModelFolderError) as caught:
        ModelFolder(folder.path).read(list(TENSORS))
    assert str(caught.value).startswith(f"{file}: damaged or cut short")
    assert str(caught.value).endswith("delete the folder and run again")


def test_a_file_that_the_index_names_and_is_not_there_is_named(tmp_path):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(ModelFolderError, match="gone.safetensors: damaged or cut short"):
        ModelFolder(tmp_path).read(["a"])


def test_links_give_all_files_or_all_but_the_weights(folder, tmp_path_factory):
    """Without Snakemake's time stamp, which a later job would touch in both folders at once."""
    names = {p.name for p in folder.path.iterdir()}
    (folder.path / ".snakemake_timestamp").touch()
    everything, companions = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    folder.link_into(everything)
    folder.link_companions(companions)
    assert {p.name for p in everything.iterdir()} == names
    assert [p.name for p in companions.iterdir()] == ["config.json"]


def test_the_hash_is_of_the_weights(folder):
    before = folder.hash()
    (folder.path / "config.json").write_text('{"a": 1}')
    assert ModelFolder(folder.path).hash() == before
    name, file = next(iter(folder.files.items()))
    changed = {n: t for n, t in TENSORS.items() if folder.files[n] == file} | {name: TENSORS[name] + 1}
    save_file(changed, file)
    assert ModelFolder(folder.path).hash() != before
