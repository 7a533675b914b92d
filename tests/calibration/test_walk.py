"""Walking: what a method is handed, what it may change, and what the checkpoint holds."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from reprune.calibration.walk import MethodFault
from reprune.models.skeleton import find_blocks


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder.path, dtype=dtype).eval()


@torch.no_grad()
def block_states(model, windows):
    """Inputs and outputs of every block for all windows, two at a time as the walk does."""
    states = [([], []) for _ in find_blocks(model)[1]]
    for (inputs, outputs), block in zip(states, find_blocks(model)[1], strict=True):
        block.register_forward_hook(
            lambda _, args, output, i=inputs, o=outputs: (i.append(args[0]), o.append(output)) and None
        )
    for batch in windows.split(2):
        model(input_ids=batch, use_cache=False)
    return [(torch.cat(inputs), torch.cat(outputs)) for inputs, outputs in states]


def test_each_block_gets_what_the_pruned_blocks_before_it_give(bench, halve):
    """The checkpoint is float16: what a later block sees must come from the weights that are saved."""
    method = halve(dense=True)
    states = block_states(load(bench.checkpoint(method)), bench.windows)
    dense = block_states(load(bench.source), bench.windows)
    assert method.seen.indices == [0, 1, 2]
    for index in range(3):
        assert torch.equal(method.seen.inputs[index], states[index][0])
        assert torch.equal(method.seen.dense_inputs[index], dense[index][0])
    assert not torch.equal(states[2][0], dense[2][0])


def test_dense_inputs_are_only_made_when_asked_for(bench, halve):
    method = halve()
    bench.checkpoint(method)
    assert method.seen.dense_inputs == [None] * 3


def test_untouched_tensors_are_bit_identical_and_the_others_half_zero(bench, halve):
    checkpoint = bench.checkpoint(halve())
    before, after = (f.read(sorted(f.files)) for f in (bench.source, checkpoint))
    assert before.keys() == after.keys()
    for name in before:
        pruned = "_proj" in name and "v_proj" not in name
        assert after[name].dtype == torch.float16
        assert torch.equal(before[name], after[name]) != pruned, name
        if pruned:
            assert (after[name] == 0).float().mean() == pytest.approx(0.5, abs=0.01)
            expected = (before[name].float() * (1.003 if "down_proj" in name else 1)).half()
            assert torch.equal(after[name], expected.masked_fill(after[name] == 0, 0))


def test_the_checkpoint_is_an_ordinary_folder_that_equals_the_result_in_memory(bench, halve):
    kept = {}

    def keep(block):
        kept[block.index] = {n: layer.weight.half() for n, layer in block.linears.items()}

    checkpoint = bench.checkpoint(halve(fault=keep))
    model = load(checkpoint, torch.float16)
    for index, block in enumerate(find_blocks(model)[1]):
        for name, weight in kept[index].items():
            assert torch.equal(block.get_submodule(name).weight, weight)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == bench.source.config.tie_word_embeddings
    assert (checkpoint.path / "tokenizer.json").is_file()
    kept_weights = float((find_blocks(model)[1][2].mlp.up_proj.weight != 0).sum())
    assert bench.reports[2]["mlp.up_proj"] == {"kept": kept_weights}


def test_chance_comes_from_the_run_and_the_block(bench, halve):
    first, again, other = (
        bench.checkpoint(halve(), name, run).hash()
        for name, run in (("a", "run-a"), ("b", "run-a"), ("c", "run-b"))
    )
    assert first == again != other


def spoil_norm(block):
    block.module.input_layernorm.weight[0] += 0.5


def spoil_number(block):
    block.linears["mlp.up_proj"].weight[3, 4] = float("nan")


def overflow(block):
    block.linears["mlp.up_proj"].weight[3, 4] = 1e6  # finite in float32, not in the checkpoint's float16


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            spoil_norm,
            "block 0: input_layernorm.weight was changed; a method may change the weights of linear",
        ),
        (spoil_number, "block 0: mlp.up_proj.weight is not finite after pruning"),
        (overflow, "block 0: mlp.up_proj.weight is not finite after pruning"),
    ],
)
def test_a_method_that_breaks_the_rules_is_stopped(bench, halve, fault, message):
    with pytest.raises(MethodFault, match=message):
        bench.checkpoint(halve(fault=fault))


def test_a_model_method_goes_over_the_blocks_and_rewrites_them(bench):
    walk, target = bench.walk(), bench.place / "checkpoint"
    before = [block.linears["mlp.up_proj"].weight.clone() for block in walk.blocks()]
    for block in walk.rewrite():
        block.linears["mlp.up_proj"].weight.mul_(0)
    target.mkdir()
    walk.write_checkpoint(target)
    assert len(before) == 3 and all(weight.any() for weight in before)
    model = AutoModelForCausalLM.from_pretrained(target)
    for block in find_blocks(model)[1]:
        assert not block.mlp.up_proj.weight.any() and block.mlp.gate_proj.weight.any()


def test_a_method_that_stops_rewriting_half_way_is_a_fault(bench):
    walk, target = bench.walk(), bench.place / "checkpoint"
    next(blocks := walk.rewrite())
    next(blocks)
    target.mkdir()
    with pytest.raises(MethodFault, match="block 1 was left out"):
        walk.write_checkpoint(target)


def test_a_walk_that_changes_nothing_gives_the_very_files(bench):
    target = bench.place / "checkpoint"
    target.mkdir()
    assert bench.walk().write_checkpoint(target) == {}
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {
        p.name: p.read_bytes() for p in bench.source.path.iterdir()
    }


def test_progress_counts_blocks(bench, halve):
    said = []
    walk = bench.walk(say=lambda done, total: said.append((done, total)))
    walk.prune_blocks(halve(), bench.windows)
    assert said == [(1, 3), (2, 3), (3, 3)]
