"""Runs that were planned before translation models came in are still the same runs."""

from __future__ import annotations

from reprune.plan.plan import build_plan

EARLIER = {
    "dense-tiny-llama-dense-1e4769a387a7",
    "dense-tiny-llama-gqa-dense-3e2102be3e2d",
    "cofi-tiny-llama-gqa-20-of-parameters-f62e1647aebb",
    "grasp-tiny-llama-20-of-parameters-e588cf92f393",
    "grasp-tiny-llama-gqa-20-of-parameters-2f40ccc1d388",
}  # written out: with other names, what users have computed is computed again


def test_runs_of_earlier_versions_keep_their_names(root):
    assert set(build_plan({"scale": "smoke"}, root=root).runs) >= EARLIER
