"""Writing down what a checkpoint is, once it is saved: counted in its files, not taken from the method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.method import ModelFacts, Target
from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder
from reprune.records.files import write_json
from reprune.surgery.head_gates import retained_heads

Reports = dict[int, dict[str, dict[str, float]]]


def write_facts(
    file: Path, folder: ModelFolder, spec: dict[str, Any], told: dict[str, Any], reports: Reports
) -> None:
    """Measure the checkpoint in ``folder`` and write ``checkpoint.json``.

    ``spec`` has the run's ``target`` and the facts of the ``dense`` model, ``told`` what the stage knows
    (seconds, memory, notes), ``reports`` what the method told of layers, by block and name;
    a layer that is no longer there keeps its report.
    """
    structural = Target(**spec["target"]).structural
    facts = measure_checkpoint(folder, ModelFacts(**spec["dense"]) if structural else None)
    left = {(block, name): told for block, layers in reports.items() for name, told in layers.items()}
    layers = [{**vars(layer), **left.pop((layer.block, layer.layer), {})} for layer in facts.layers]
    layers += [{"block": block, "layer": name, **told} for (block, name), told in left.items()]
    if spec["dense"].get("decoder_layers"):
        told["notes"].setdefault("heads", {})["retained"] = _retained(folder)
    write_json(file, {**told, "hash": folder.hash(), **facts.summary(), "layers": layers})


def _retained(folder: ModelFolder) -> dict[str, int]:
    """How many heads of each kind of attention the saved translation model has."""
    return {kind: sum(heads) for kind, heads in retained_heads(load_model(folder.path)).items()}
