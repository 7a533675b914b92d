"""A walk that was killed goes on at its next block and ends with the same files."""

from __future__ import annotations

import pytest


def entries(bench):
    return sorted(p.parent for p in (bench.place / "store").rglob("facts.json"))


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(bench, halve, stop_at):
    whole = bench.checkpoint(halve(), "whole", run="run-a")
    bench.walk("run-a").forget()
    with pytest.raises(KeyboardInterrupt):
        bench.checkpoint(halve(stop_at=stop_at), "killed", run="run-a")
    assert len(entries(bench)) == stop_at
    rest = halve(dense=True)
    resumed = bench.checkpoint(rest, "resumed", run="run-a")
    assert rest.seen.indices == list(range(stop_at, 3)), "only the remaining blocks are pruned"
    assert {p.name: p.read_bytes() for p in resumed.path.iterdir()} == {
        p.name: p.read_bytes() for p in whole.path.iterdir()
    }
    assert set(bench.reports) == {0, 1, 2} and bench.reports[0]


def test_a_damaged_entry_is_rebuilt_with_a_warning(bench, halve):
    whole = bench.checkpoint(halve(), "whole", run="run-a")
    damaged = entries(bench)[1] / "block.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.unlink()  # the checkpoint holds the same file under a second name
    damaged.write_bytes(bytes(data))
    again = halve()
    resumed = bench.checkpoint(again, "resumed", run="run-a")
    assert len(again.seen.indices) == 1 and resumed.hash() == whole.hash()
    (line,) = bench.warnings
    assert "block.safetensors is damaged; it is rebuilt" in line


def test_progress_of_another_run_or_code_is_not_used(bench, halve):
    bench.checkpoint(halve(), "a", run="run-a")
    other = halve()
    bench.checkpoint(other, "b", run="run-b")
    assert other.seen.indices == [0, 1, 2]
    walk = bench.walk("run-a")
    walk.key["code"] = "changed"
    third = halve()
    walk.prune_blocks(third, bench.windows)
    assert third.seen.indices == [0, 1, 2]


def test_earlier_seconds_are_counted_and_finished_progress_is_forgotten(bench, halve):
    with pytest.raises(KeyboardInterrupt):
        bench.checkpoint(halve(stop_at=2), "killed")
    walk = bench.walk()
    walk.prune_blocks(halve(), bench.windows)
    assert 0 < walk.earlier_seconds < 60
    walk.forget()
    assert entries(bench) == []
