"""The layout of sequences against what it promises: everything is there, nothing shared is there twice."""

from __future__ import annotations

import random

import pytest

from reprune.evaluation.packing import LONG, SHORT, WIDE, Block, batches, lay_out, shared_length


def text(length, seed=0, words=1000):
    source = random.Random(seed)
    return [source.randrange(words) for _ in range(length)]


def nodes(sequences):
    """The number of nodes of the sequences' tree: their distinct beginnings."""
    return len({tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)})


def computed(sequences):
    return sum(group.tokens for group in lay_out(sequences))


def check(sequences):
    """All that holds of any layout; returns it."""
    groups = lay_out(sequences)
    found = [number for group in groups for block in group.blocks for number in block.paths]
    assert sorted(found) == list(range(len(sequences)))
    for group in groups:
        for block in group.blocks:
            check_block(block, group.trunk, sequences)
    assert nodes(sequences) <= sum(group.tokens for group in groups) <= sum(map(len, sequences))
    return groups


def check_block(block, trunk, sequences):
    assert block.offset == len(trunk)
    assert block.tokens, "a forward pass needs a token"
    assert len(block.tokens) == len(block.parents) == len(block.depths)
    for number, path in block.paths.items():
        assert [*trunk, *(block.tokens[node] for node in path)] == list(sequences[number])
        assert [block.parents[node] for node in path] == [-1, *path][: len(path)]
    used = set().union(*block.paths.values())
    assert used == set(range(len(block.tokens))), "every node belongs to a sequence"
    for node, parent in enumerate(block.parents):
        assert -1 <= parent < node
        assert block.depths[node] == (block.depths[parent] + 1 if parent >= 0 else block.offset)
    twins = set(zip(block.parents, block.tokens, strict=True))
    assert len(twins) == len(block.tokens), "what two sequences share is one node"
    assert block.chain == all(parent == node - 1 for node, parent in enumerate(block.parents))


def test_a_question_and_its_choices_are_one_tree():
    context = text(20)
    sequences = [context + [1, 2], context + [1, 3, 4], context + [5]]
    (group,) = check(sequences)
    (block,) = group.blocks
    assert not group.trunk and not block.chain
    assert len(block.tokens) == 20 + 2 + 2 + 1 == nodes(sequences)
    assert sorted(block.depths)[-6:] == [19, 20, 20, 21, 21, 22]


def test_sequences_that_share_nothing_are_chains_of_their_own():
    sequences = [text(10 + i, seed=i) for i in range(5)]
    groups = check(sequences)
    assert [len(group.blocks) for group in groups] == [1] * 5
    assert all(block.chain for group in groups for block in group.blocks)


@pytest.mark.parametrize("shared, blocks", [(SHORT - 1, 2), (SHORT, 1)])
def test_a_few_shared_tokens_are_not_worth_a_mask(shared, blocks):
    start = text(shared)
    assert len(check([start + text(40, seed=i) for i in (1, 2)])) == blocks


def test_short_sequences_join_if_half_of_the_second_is_shared():
    assert len(check([[1, 2, 3, 4], [1, 2, 5, 6]])) == 1
    assert len(check([[1, 2, 3, 4], [1, 2, 5, 6, 7]])) == 2


def test_duplicates_and_beginnings_of_others_cost_nothing():
    sequence = text(30)
    (group,) = check([sequence, sequence[:SHORT], sequence, sequence])
    assert group.tokens == 30 and group.blocks[0].chain


def test_choices_of_one_token_need_the_context_alone():
    """A sequence ends before its last token, which is only predicted."""
    context = text(50)
    assert computed([context] * 4) == 50


def test_no_sequences():
    assert lay_out([]) == [] and list(batches([], 10)) == []


class TestTrunks:
    def few_shot(self, length=300, questions=10):
        """``questions`` of three choices below one long prompt."""
        prompt = text(length)
        asked = [prompt + text(60, seed=1 + i) for i in range(questions)]
        return prompt, [
            question + text(3, seed=100 * i + c) for i, question in enumerate(asked) for c in (1, 2, 3)
        ]

    def test_a_long_prompt_is_computed_once(self):
        prompt, sequences = self.few_shot()
        (group,) = check(sequences)
        assert list(group.trunk) == prompt
        assert len(group.blocks) == 10
        assert group.tokens == nodes(sequences) == 300 + 10 * (60 + 9)

    def test_the_questions_keep_the_order_of_the_sorted_sequences(self):
        _, sequences = self.few_shot()
        (group,) = check(list(reversed(sequences)))
        assert group.tokens == nodes(sequences)

    def test_a_prompt_that_few_share_stays_in_the_block(self):
        prompt, sequences = self.few_shot(questions=1)
        (group,) = check(sequences)
        assert not group.trunk and group.tokens == nodes(sequences)

    def test_a_short_prompt_is_computed_again_where_blocks_would_grow_too_wide(self):
        _, sequences = self.few_shot(length=LONG - 1, questions=20)
        groups = check(sequences)
        assert not any(group.trunk for group in groups) and len(groups) > 1
        for group in groups:
            assert group.tokens <= LONG - 1 + 63 + WIDE

    def test_two_prompts_are_two_groups(self):
        _, first = self.few_shot()
        second = [[7] * 100 + text(200, seed=i) for i in range(5)]
        other = [text(9, seed=77)]
        groups = check(first + second + other)
        assert sorted(len(group.trunk) for group in groups) == [0, 100, 300]

    def test_a_sequence_that_is_the_whole_trunk_makes_no_empty_block(self):
        prompt, sequences = self.few_shot()
        (group,) = check([prompt, *sequences, prompt])
        assert list(group.trunk) == prompt
        assert sum(path == [] for block in group.blocks for path in block.paths.values()) == 2


@pytest.mark.parametrize("seed", range(60))
def test_random_sets_of_sequences(seed):
    """Trees of every shape: few or many words, beginnings taken from others, duplicates."""
    source = random.Random(seed)
    words = source.choice([1, 2, 3, 50])
    longest = source.choice([5, 40, 300])
    sequences = [[0]]
    for _ in range(source.randrange(1, 40)):
        old = source.choice(sequences)
        start = old[: source.randrange(len(old) + 1)]
        more = source.randrange(0 if start else 1, longest)
        sequences.append(start + [source.randrange(words) for _ in range(more)])
    source.shuffle(sequences)
    for blocks in [group.blocks for group in check(sequences)]:
        assert [block for batch in batches(blocks, 64) for block in batch] == blocks


def test_a_small_set_that_belongs_together_is_its_tree():
    """Where every neighbour shares enough and all fits, the layout is the smallest there is."""
    start = text(SHORT)
    source = random.Random(5)
    sequences = [start + [source.randrange(3) for _ in range(source.randrange(12))] for _ in range(60)]
    (group,) = check(sequences)
    assert group.tokens == nodes(sequences)


@pytest.mark.parametrize("left, right, shared", [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2], [1, 3, 2], 1)])
def test_shared_length(left, right, shared):
    assert shared_length(left, right) == shared_length(right, left) == shared


def test_batches_keep_to_the_limit_unless_one_block_is_larger():
    def block(size):
        made = Block(0)
        made.add(0, [1] * size, 0, [])
        return made

    sizes = [3, 4, 3, 20, 1, 9, 10, 11]
    found = [[len(block.tokens) for block in batch] for batch in batches([block(size) for size in sizes], 10)]
    assert found == [[3, 4, 3], [20], [1, 9], [10], [11]]
