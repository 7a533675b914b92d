"""Identities: equal content, equal name, whatever else differs."""

from __future__ import annotations

import math

import pytest

from reprune.plan.identity import canonical, digest, identify, stream_seed, without_defaults


def test_order_of_keys_does_not_count_and_every_value_does():
    content = {"a": {"x": 1, "y": [1, 2]}, "b": 0.5}
    assert digest(content) == digest({"b": 0.5, "a": {"y": [1, 2], "x": 1}})
    others = [
        {"a": {"x": 1, "y": [2, 1]}, "b": 0.5},
        {"a": {"x": 1, "y": [1, 2]}, "b": 0.6},
        {"a": {"x": 1, "y": [1, 2]}, "b": None},
        {"a": {"x": 1, "y": [1, 2]}},
    ]
    assert len({digest(c) for c in [content, *others]}) == 5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_has_no_identity(value):
    with pytest.raises(ValueError):
        canonical({"a": value})


def test_names_are_readable_and_stay_the_same():
    """Written out: a change of these literals makes every result of every user stale."""
    assert identify("Wanda-Tiny 50%", {"a": 1}) == "wanda-tiny-50-015abd7f5cc5"
    assert stream_seed("run", "block", 3) == 7883008460192046493


def test_streams_differ_by_every_part_and_fit_a_generator():
    seeds = {stream_seed(run, "block", index) for run in ("a", "b") for index in range(50)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_defaults_leave_no_trace():
    defaults = {"a": 1, "b": "x"}
    assert without_defaults({"a": 1, "b": "y"}, defaults) == {"b": "y"}
    assert without_defaults({"a": 1, "b": "y", "new": 0}, {**defaults, "new": 0}) == {"b": "y"}
