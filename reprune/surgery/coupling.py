"""Which rows and columns of a model's weights go only together, found by watching the model run.

LLM-Pruner, section 3.1: from any neuron follow the dependencies until nothing new appears; what was visited
is one group. A neuron is here a feature at the input or the output of a module with weights. Between such
modules the model computes without weights: a mark set on an output feature (NaN, which no arithmetic loses)
shows at which input features it arrives, whatever the operations are called. Features so linked have to go
together, since the shapes at both ends must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reprune.models.attention import attention_as
from reprune.models.parts import put
from reprune.models.skeleton import find_blocks, first_inputs, hidden_state

IN, OUT = "in", "out"
ROWS = 64  # features marked in one pass, each in a sequence of its own
LENGTH = 2  # tokens of a sequence


class NotTraceable(Exception):
    """A model in which coupled structures cannot be found; the message names the module."""


@dataclass(frozen=True)
class Place:
    """One side of a layer: ``out`` are a linear layer's rows and bias, ``in`` its columns."""

    layer: str
    side: str


STREAM = Place("", OUT)  # the hidden state that the blocks read and write


@dataclass(frozen=True)
class Family:
    """Structures of one kind: heads of a layer, its intermediate channels, or the model's hidden channels.

    ``members`` has for every place the features, (units, width), that each structure holds there; places are
    in order of execution, those outside the blocks behind the others. ``block`` is the index of the block
    they all lie in, None if they run through many.
    """

    members: dict[Place, Tensor]
    block: int | None

    @property
    def units(self) -> int:
        """How many structures there are, each of which can be removed without the others."""
        return len(next(iter(self.members.values())))


def apart(family: Family) -> list[Family]:
    """Each place of ``family`` by itself, as if nothing held them together."""
    return [Family({place: own}, family.block) for place, own in family.members.items()]


def pieces(module: nn.Module, side: str) -> list[tuple[str, int]]:
    """The parameters of a module that have one entry a feature of ``side``, and in which dimension.

    Raises :class:`NotTraceable` for modules other than linear layers, embeddings and norms.
    """
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, nn.Linear):
        return [(name, 0) for name in own] if side == OUT else [("weight", 1)]
    if isinstance(module, nn.Embedding):
        return [("weight", 1)]
    if any(parameter.ndim != 1 for parameter in own.values()):
        raise NotTraceable(f"{type(module).__name__} is neither a linear layer, an embedding nor a norm")
    return [(name, 0) for name in own]


def width(module: nn.Module, side: str) -> int:
    """How many features a module has on one side."""
    name, dimension = pieces(module, side)[0]
    return getattr(module, name).shape[dimension]


@torch.no_grad()
def families(model: Any) -> list[Family]:
    """All structures of ``model`` that can be removed one by one: those of each block, then hidden channels.

    Raises :class:`NotTraceable` if the model has weights in modules of an unknown kind.
    """
    graph = _Graph()
    prefix, blocks = find_blocks(model)
    with attention_as(model, "eager"):
        hidden, arguments = first_inputs(model, list(blocks), _tokens(model, 1), 1)
        graph.add([STREAM], hidden.shape[-1])
        traces: dict[tuple, _Trace] = {}
        for index, block in enumerate(blocks):
            like = (type(block), tuple((name, p.shape) for name, p in block.named_parameters()))
            if like not in traces:  # blocks of one class and shape compute alike
                traces[like] = _trace_block(block, hidden, arguments[index])
            graph.take(traces[like], f"{prefix}.{index}.")
        graph.take(_trace_shell(model, prefix, blocks), "")
    return _sorted(_grouped(graph, model), prefix)


def _tokens(model: Any, rows: int) -> Tensor:
    return torch.zeros(rows, LENGTH, dtype=torch.int64, device=model.get_input_embeddings().weight.device)


@dataclass
class _Trace:
    """What was seen in a part of a model: its places with their widths, and which features are linked.

    ``passing`` are the layers whose outputs are features of their inputs, one by one, as a norm's.
    """

    widths: dict[Place, int] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)
    links: list[tuple[Place, Tensor, Place, Tensor]] = field(default_factory=list)


@dataclass
class _Graph:
    """Features numbered through all places, and the pairs of them that are linked."""

    starts: dict[Place, int] = field(default_factory=dict)
    widths: dict[Place, int] = field(default_factory=dict)
    size: int = 0
    links: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, places: list[Place], features: int) -> None:
        """Number the features of ``places``, which are the same ones at each of them."""
        for place in places:
            self.starts[place], self.widths[place] = self.size, features
        self.size += features

    def take(self, trace: _Trace, prefix: str) -> None:
        """Take over a trace, whose layers are called ``prefix`` and their name in it."""

        def full(place: Place) -> Place:
            return Place(prefix + place.layer, place.side) if place.layer else place

        for place, features in trace.widths.items():
            if place.layer not in trace.passing:
                self.add([full(place)], features)
            elif place.side == OUT:
                self.add([full(Place(place.layer, IN)), full(place)], features)
        for source, a, target, b in trace.links:
            self.links.append((self.starts[full(source)] + a, self.starts[full(target)] + b))

    def components(self) -> Tensor:
        """(size,) the number of the connected component that each feature belongs to."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ends = tuple(torch.cat(side).cpu().numpy() for side in zip(*self.links, strict=True))
        linked = coo_array((torch.ones(len(ends[0])).numpy(), ends), shape=(self.size, self.size))
        return torch.from_numpy(connected_components(linked, directed=False)[1])


@dataclass
class _Marks:
    """One run: feature ``features[i]`` of ``source`` is marked in sequence ``i`` of the batch.

    ``arrived`` has (sequences, features) for every place reached, in order of execution.
    """

    source: Place | None
    features: Tensor
    arrived: dict[Place, Tensor] = field(default_factory=dict)

    def note(self, place: Place, values: Tensor) -> None:
        """See which features of ``values``, (…, width), carry a mark in which sequence."""
        rows = values.reshape(len(self.features), -1, values.shape[-1])
        self.arrived[place] = rows.isnan().any(dim=1)

    def give(self, place: Place, like: Tensor, features: int) -> Tensor:
        """(sequences, tokens, features) zeros, marked if ``place`` is the source."""
        values = torch.zeros(len(self.features), LENGTH, features, device=like.device)
        if place == self.source:
            values[torch.arange(len(self.features)), :, self.features] = float("nan")
        return values


Run = Callable[[_Marks], None]


def _trace_block(block: nn.Module, hidden: Tensor, arguments: Mapping[str, Any]) -> _Trace:
    """The places of a block, linked with each other and with the hidden state it reads and writes."""

    def run(marks: _Marks) -> None:
        output = block(marks.give(STREAM, hidden, hidden.shape[-1]), **arguments)
        marks.note(STREAM, hidden_state(output))

    return _trace(_weighted(block), hidden.shape[-1], run)


def _trace_shell(model: Any, prefix: str, blocks: nn.ModuleList) -> _Trace:
    """What lies around the blocks: embeddings and final norm; the output head, whose outputs must stay."""
    ends = [_StreamEnds(block) for block in blocks]
    hidden = width(model.get_input_embeddings(), OUT)
    head = model.get_output_embeddings()
    put(model, prefix, nn.ModuleList(ends))

    def run(marks: _Marks) -> None:
        for end in ends:
            end.marks = marks
        tokens = _tokens(model, len(marks.features))
        model(input_ids=tokens, use_cache=False)

    try:
        return _trace(_weighted(model), hidden, run, last=head)
    finally:
        put(model, prefix, blocks)


class _StreamEnds(nn.Module):
    """Stands for a block: notes the hidden state that comes in, and gives one as if from the last block."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._stand_for = [block]  # in a list, so that its weights are not found here
        self.marks: _Marks | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_stand_for"][0], name)

    def forward(self, hidden: Tensor, **arguments: Any) -> Tensor:
        if STREAM not in self.marks.arrived:  # the first block
            self.marks.note(STREAM, hidden)
        return self.marks.give(STREAM, hidden, hidden.shape[-1])


def _weighted(owner: nn.Module) -> dict[str, nn.Module]:
    """The modules with weights of their own, by name."""
    return {
        name: module
        for name, module in owner.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }


def _trace(modules: dict[str, nn.Module], stream: int, run: Run, last: nn.Module | None = None) -> _Trace:
    """Mark every output of ``modules`` and of the hidden state in turn, and see where it arrives.

    ``stream`` is the hidden size; the outputs of ``last`` are not followed.
    """
    trace = _Trace()
    first = _run_marked(modules, run, _Marks(None, torch.zeros(1, dtype=torch.int64)))
    sources = {STREAM: stream}
    for name in [place.layer for place in first if place.layer]:
        module = modules[name]
        trace.widths |= {Place(name, side): width(module, side) for side in (IN, OUT)}
        if not isinstance(module, nn.Linear):
            trace.passing.add(name)
        if module is last:
            del trace.widths[Place(name, OUT)]
        else:
            sources[Place(name, OUT)] = width(module, OUT)
    for source, features in sources.items():
        for marked in torch.arange(features).split(ROWS):
            for target, reached in _run_marked(modules, run, _Marks(source, marked)).items():
                rows, columns = reached.nonzero(as_tuple=True)
                trace.links.append((source, marked[rows], target, columns))
    return trace


def _run_marked(modules: dict[str, nn.Module], run: Run, marks: _Marks) -> dict[Place, Tensor]:
    with _probed(modules, marks):
        run(marks)
    return marks.arrived


@contextmanager
def _probed(modules: dict[str, nn.Module], marks: _Marks) -> Iterator[None]:
    """Let modules note the marks that arrive and give marks or nothing, instead of computing."""
    for name, module in modules.items():
        module.forward = _probe(name, module, marks)
    try:
        yield
    finally:
        for module in modules.values():
            del module.forward


def _probe(name: str, module: nn.Module, marks: _Marks) -> Callable[..., Tensor]:
    compute, embeds = module.forward, isinstance(module, nn.Embedding)
    tokens, size = len(marks.features) * LENGTH, width(module, OUT)

    def forward(*values: Tensor, **named: Any) -> Tensor:
        if embeds:
            marks.arrived[Place(name, IN)] = torch.zeros(0, 0)
            return marks.give(Place(name, OUT), module.weight, size)
        if values[0].numel() != tokens * width(module, IN):
            return compute(*values, **named)  # a norm of each head passes marks on by itself
        marks.note(Place(name, IN), values[0])
        return marks.give(Place(name, OUT), values[0], size).reshape(*values[0].shape[:-1], size)

    return forward


def _grouped(graph: _Graph, model: Any) -> list[dict[Place, list[list[int]]]]:
    """Components that lie in the same places with the same widths, each place with its features by unit."""
    components = graph.components().tolist()
    units: dict[int, dict[Place, list[int]]] = {}
    for place in _places(graph, model):
        first = graph.starts[place]
        for feature, component in enumerate(components[first : first + graph.widths[place]]):
            units.setdefault(component, {}).setdefault(place, []).append(feature)
    found: dict[tuple, dict[Place, list[list[int]]]] = {}
    for unit in units.values():
        family = found.setdefault(tuple((place, len(own)) for place, own in unit.items()), {})
        for place, own in unit.items():
            family.setdefault(place, []).append(own)
    return list(found.values())


def _places(graph: _Graph, model: Any) -> Iterator[Place]:
    """The places that hold weights, each dimension of a parameter once, even if it is tied or a norm's."""
    seen = set()
    for place in graph.starts:
        if not place.layer:
            continue
        module = model.get_submodule(place.layer)
        key = {(id(getattr(module, name)), dimension) for name, dimension in pieces(module, place.side)}
        if not (isinstance(module, nn.Embedding) and place.side == IN) and not key & seen:
            seen |= key
            yield place


def _sorted(found: list[dict[Place, list[list[int]]]], prefix: str) -> list[Family]:
    """Families by their block, those of no single block last, units by their first feature."""
    families = []
    for members in found:
        order = sorted(range(len(next(iter(members.values())))), key=next(iter(members.values())).__getitem__)
        tensors = {place: torch.tensor(own)[order] for place, own in members.items()}
        families.append(Family(tensors, _block_of(members, prefix)))
    return sorted(families, key=lambda family: (family.block is None, family.block or 0))


def _block_of(places: Mapping[Place, Any], prefix: str) -> int | None:
    """The index of the block in which all places lie, or None."""
    indices = {
        place.layer.removeprefix(f"{prefix}.").partition(".")[0]
        if place.layer.startswith(f"{prefix}.")
        else ""
        for place in places
    }
    return int(indices.pop()) if len(indices) == 1 and indices != {""} else None
