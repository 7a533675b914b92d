"""How sequences that share beginnings are laid out so that every shared token is computed once.

A *layout* is a tree of tokens written down in one line. Sequences with a common beginning form a *block*:
its tokens are the nodes of their tree, parents before children, and a token may attend to its ancestors
alone. Blocks that share a long beginning (the examples of a few-shot prompt) form a *group*: the shared
*trunk* is computed once and its keys and values serve all of the group's blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

LONG = 64  # shared tokens from which a trunk of its own is worth a forward pass
SHORT = 8  # shared tokens from which two sequences belong into one block
WIDE = 512  # nodes beyond the shared beginning from which a block's attention would be mostly masked


@dataclass
class Block:
    """A tree of tokens below a trunk of ``offset`` tokens.

    ``tokens`` and ``parents`` have one entry per node, a parent of -1 means the trunk's end (or nothing).
    ``paths`` maps a sequence's number to its nodes, first to last.
    """

    offset: int
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)

    @property
    def chain(self) -> bool:
        """Whether no node has two children, so that attention is simply causal."""
        return self.parents == list(range(-1, len(self.tokens) - 1))

    def add(self, number: int, tokens: Sequence[int], shared: int, last: list[int]) -> list[int]:
        """Hang the sequence ``number`` in, the first ``shared`` nodes of path ``last`` being its own too."""
        path = last[:shared]
        for token in tokens[shared:]:
            self.parents.append(path[-1] if path else -1)
            self.depths.append(self.offset + len(path))
            path.append(len(self.tokens))
            self.tokens.append(token)
        self.paths[number] = path
        return path


@dataclass
class Group:
    """Blocks below one trunk; the trunk is empty where nothing long is shared."""

    trunk: tuple[int, ...]
    blocks: list[Block]

    @property
    def tokens(self) -> int:
        """How many tokens a forward pass over the group computes."""
        return len(self.trunk) + sum(len(block.tokens) for block in self.blocks)


def lay_out(sequences: Sequence[Sequence[int]]) -> list[Group]:
    """Groups that hold every sequence once; sequences are referred to by their place in the list."""
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    groups, single = [], []
    for run in _runs(sequences, order):
        if len(run) > 1 and _beyond(sequences, run) > WIDE:
            trunk = shared_length(sequences[run[0]], sequences[run[-1]])
            groups.append(Group(tuple(sequences[run[0]][:trunk]), list(_blocks(sequences, run, trunk))))
        else:
            single += run
    return [*groups, *(Group((), [block]) for block in _blocks(sequences, single, 0))]


def shared_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginnings."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))


def _runs(sequences: Sequence[Sequence[int]], order: list[int]) -> Iterator[list[int]]:
    """Neighbours in sorted order as long as each shares a long beginning with the next."""
    run: list[int] = []
    for number in order:
        if run and shared_length(sequences[run[-1]], sequences[number]) < LONG:
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _beyond(sequences: Sequence[Sequence[int]], run: list[int]) -> int:
    """The nodes that the sequences of a run add to the first one."""
    pairs = zip(run, run[1:], strict=False)
    return sum(len(sequences[b]) - shared_length(sequences[a], sequences[b]) for a, b in pairs)


def _blocks(sequences: Sequence[Sequence[int]], run: list[int], offset: int) -> Iterator[Block]:
    """Blocks below a trunk of ``offset`` tokens; a sequence joins its neighbour where that saves enough."""
    block, previous, path, first = Block(offset), None, [], 0
    for number in run:
        tokens = sequences[number][offset:]
        shared = shared_length(previous, tokens) if previous is not None else 0
        fits = len(block.tokens) + len(tokens) - shared <= first + WIDE
        near = shared >= SHORT or 2 * shared >= len(tokens)
        if block.tokens and not (near and fits):
            yield block
            block, path, shared = Block(offset), [], 0
        if not block.tokens:
            first = len(tokens)
        path = block.add(number, tokens, shared, path)
        previous = tokens
    if block.paths:
        yield block


def batches(blocks: Sequence[Block], limit: int) -> Iterator[list[Block]]:
    """Blocks in turn, as many to a forward pass as stay within ``limit`` tokens, at least one."""
    batch: list[Block] = []
    size = 0
    for block in blocks:
        if batch and size + len(block.tokens) > limit:
            yield batch
            batch, size = [], 0
        batch.append(block)
        size += len(block.tokens)
    if batch:
        yield batch
