"""Where the data of each downstream task comes from: a source for every split that a protocol needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprune.plan.identity import identify
from reprune.plan.inputs import ORDER, Inputs
from reprune.plan.problems import Problems, nearest
from reprune.plan.source import Source

HELD_OUT = "held_out"


@dataclass(frozen=True)
class TaskData:
    """The splits of one task with their chosen sources.

    ``entry`` is what lm-eval's definition needs, ``sources`` maps a split to {kind: specification},
    ``label``, ``fit``, ``note`` and ``rows`` speak of the split that is scored, ``shots`` of the other one.
    ``missing`` says why the task cannot be had.
    """

    id: str
    name: str
    title: str
    label: str
    fit: str
    note: str
    rows: int
    entry: dict[str, Any]
    sources: dict[str, dict[str, Any]]
    files: dict[str, Path]
    shots: dict[str, Any] | None = None
    missing: str | None = None

    @property
    def role(self) -> str:
        (spec,) = self.sources[self.entry["scored"]].values()
        return f"{self.title}, {spec.get('as', self.entry['scored'])} split"

    @property
    def packages(self) -> list[str]:
        """The packages that hold a split, each once."""
        found = [s["package"]["package"] for s in self.sources.values() if "package" in s]
        return list(dict.fromkeys(found))


@dataclass
class Tasks:
    """Resolves tasks of ``config/tasks.yaml`` by name for one configuration."""

    source: Source
    inputs: Inputs
    problems: Problems

    def resolve(self, name: str, shots: int, where: str) -> TaskData | None:
        """The data of task ``name``; with ``shots`` also the split that few-shot examples are drawn from."""
        if name not in self.source.data:
            self.problems.add(where, f"unknown task '{name}'; {nearest(name, self.source.data)}")
            return None
        entry = self.source.data[name]
        if shots and "shots" not in entry:
            self.problems.add(where, f"task '{name}' has no examples to put into a prompt; set shots: 0")
            return None
        splits = [entry["scored"], *([entry["shots"]] if shots else [])]
        chosen, missing = {}, []
        for split in splits:
            kind, reasons = self._first(name, split)
            if kind is None:
                missing.append(f"{split} split: " + "; ".join(reasons))
            else:
                chosen[split] = kind
        data = self._data(name, entry, chosen, missing)
        if shots and data.shots and shots > data.shots["rows"]:
            self.problems.add(
                where,
                f"task '{name}' is asked for {shots} examples in the prompt, {data.shots['source']} "
                f"has {data.shots['rows']}",
            )
        return data

    def _first(self, name: str, split: str) -> tuple[str | None, list[str]]:
        sources = self.source.data[name]["splits"].get(split, {})
        kinds = [kind for kind in ORDER if kind in sources and kind in self.inputs.order]
        held = HELD_OUT in sources and "package" in self.inputs.order
        if held:
            kinds = [kind for kind in kinds if kind != "hub"]  # the same numbers with and without the hub
        kind, reasons = self.inputs.first_of(kinds, sources, f"tasks.{name}.{split}")
        none = f"config/tasks.yaml has it from none of {', '.join(self.inputs.order)}"
        return (HELD_OUT, []) if held and kind is None else (kind, reasons or [none])

    def _data(self, name: str, entry: dict, chosen: dict[str, str], missing: list[str]) -> TaskData:
        sources, files, labels = {}, {}, {}
        for split, kind in chosen.items():
            spec, labels[split], file = self.inputs.located(entry["splits"][split], kind)
            sources[split] = {kind: spec}
            if file is not None:
                files[split] = file
        scored, pool = entry["scored"], entry.get("shots")
        kept = {key: entry[key] for key in ("lm_eval", "columns", "scored", "parts") if key in entry}
        told = entry["splits"][scored].get(chosen.get(scored), {})
        held = chosen.get(pool) == HELD_OUT and entry["splits"][pool][HELD_OUT]["rows"]
        return TaskData(
            identify(name, {**kept, "sources": sources}),
            name,
            entry["title"],
            labels.get(scored, "none"),
            told.get("fit", "none"),
            told.get("note", ""),
            _rows(entry, scored, told) - (held or 0),
            kept,
            sources,
            files,
            self._pool(entry, pool, chosen, labels),
            f"{name}: " + "; ".join(missing) if missing else None,
        )

    def _pool(self, entry: dict, pool: str | None, chosen: dict, labels: dict) -> dict[str, Any] | None:
        """What is told about the split that few-shot examples come from, if it was asked for."""
        if pool not in chosen or pool == entry["scored"]:
            return None
        told = entry["splits"][pool][chosen[pool]]
        return {
            "source": labels[pool],
            "fit": told["fit"],
            "note": told.get("note", ""),
            "rows": _rows(entry, pool, told),
        }


def _rows(entry: dict, split: str, told: dict) -> int:
    return told.get("rows") or entry["splits"].get(split, {}).get("rows", 0)
