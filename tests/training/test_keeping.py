"""The state of a training: found again as it was kept, by the same key alone, when it is due."""

from __future__ import annotations

import pytest
import torch

from reprune.records.store import Store
from reprune.training.keeping import TENSORS, Keeper

KEY = {"run": "a", "data": "b"}
STATE = {"weight": torch.arange(6.0).view(2, 3).T, "step": torch.tensor(3.0)}
FACTS = {"losses": [1.5, 0.1 + 0.2], "weights": {"cc": 1 / 3}}


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def clock():
    """A clock that tests move: ``clock[0]`` is the time."""
    return [0.0]


@pytest.fixture
def keeper(tmp_path, warnings, clock):
    def build(**changed):
        return Keeper(Store(tmp_path / "store", warnings.append), {**KEY, **changed}, clock=lambda: clock[0])

    return build


def test_what_is_kept_is_found_exactly_and_dropped_for_good(keeper):
    assert keeper().latest() is None
    keeper().save(STATE, FACTS)
    tensors, facts = keeper().latest()
    assert facts == FACTS and tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    keeper().drop()
    keeper().drop()
    assert keeper().latest() is None


def test_a_state_of_other_settings_or_data_is_not_found(keeper):
    keeper().save(STATE, FACTS)
    assert keeper(run="c").latest() is keeper(data="c").latest() is keeper(code="c").latest() is None


def test_a_new_state_replaces_the_one_before(keeper):
    keeper().save(STATE, FACTS)
    keeper().save({"weight": torch.zeros(1)}, {"losses": []})
    tensors, facts = keeper().latest()
    assert list(tensors) == ["weight"] and facts == {"losses": []}


def test_a_damaged_state_is_not_used(keeper, tmp_path, warnings):
    keeper().save(STATE, FACTS)
    (file,) = (tmp_path / "store").rglob(TENSORS)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert keeper().latest() is None
    (line,) = warnings
    assert f"{TENSORS} is damaged" in line


def test_a_state_is_due_some_time_after_the_last_one(keeper, clock):
    kept = keeper()
    assert not kept.due()
    clock[0] = 599.0
    assert not kept.due()
    clock[0] = 600.0
    assert kept.due()
    kept.save(STATE, FACTS)
    assert not kept.due()


def test_the_seconds_of_earlier_jobs_add_up(keeper, clock):
    for spent in (40.0, 2.0):
        kept = keeper()
        kept.latest()
        clock[0] += spent
        kept.save(STATE, FACTS)
    last = keeper()
    assert last.earlier_seconds == 0 and last.latest() and last.earlier_seconds == 42
