"""The record: one tidy row per metric value, with everything needed to walk back from it."""

from __future__ import annotations

from typing import Any

COLUMNS = (
    "run_id",
    "papers",
    "model",
    "method",
    "settings",
    "target_kind",
    "target_requested",
    "ratio_achieved",
    "ratio_basis",
    "ratio_nonembedding",
    "recovery",
    "seed",
    "suite",
    "protocol",
    "task",
    "metric",
    "unit",
    "variant",
    "value",
    "stderr",
    "n",
    "higher_is_better",
    "status",
    "reason",
    "params",
    "nonzeros",
    "bytes",
    "compress_s",
    "recover_s",
    "evaluate_s",
    "peak_rss_mb",
    "dtype",
    "threads",
    "batch_size",
    "calibration",
    "data_source",
    "model_hash",
    "data_hash",
    "code",
    "commit",
    "dirty",
    "versions",
    "created",
)
STATUSES = ("ok", "skipped", "diverged", "failed", "oom")
ITEM_COLUMNS = ("run_id", "protocol", "task", "metric", "item", "part", "value") + (
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "responses",
)


def record(**values: Any) -> dict[str, Any]:
    """A full row: every column, null where nothing was given.

    Raises KeyError for a column that does not exist and ValueError for an unknown status.
    """
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise KeyError(f"no record column {', '.join(sorted(unknown))}")
    if values.get("status") not in STATUSES:
        raise ValueError(f"status is {values.get('status')!r}; one of {', '.join(STATUSES)}")
    return {column: values.get(column) for column in COLUMNS}
