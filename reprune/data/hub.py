"""Data sets of the hub, or of a local folder that is named in place of one."""

from __future__ import annotations

from typing import Any

from reprune.data.packages import FetchError


def hub_rows(spec: dict[str, Any], name: str | None = None) -> Any:
    """The data set of ``spec``, as the hub library gives it.

    ``spec`` has its ``path`` and may have ``name``, ``revision``, ``data_files`` and ``split``; the argument
    ``name`` replaces the configuration's name. With ``format``, such as ``json``, the ``data_files`` are read
    by themselves: the library refuses a repository that holds a script, whatever else is in it.
    Raises :class:`FetchError` if it could not be read.
    """
    from datasets import load_dataset

    path, files = spec["path"], spec.get("data_files")
    if "format" in spec:
        path, files = spec["format"], f"hf://datasets/{path}/{files}"
    try:
        return load_dataset(
            path,
            name or spec.get("name"),
            data_files=files,
            split=spec.get("split", "train"),
            revision=spec.get("revision"),
        )
    except Exception as error:  # the hub library raises many kinds; all mean the same to a user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FetchError(
            f"hub data set {spec['path']} could not be read: {reason}; "
            "name a mirror folder, or connect to the hub once"
        ) from error
