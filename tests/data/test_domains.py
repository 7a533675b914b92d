"""The domains of the configuration: official proportions, and parts that have nothing in common."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from reprune.data.corpora import load_source

ROOT = Path(__file__).parents[2]
DATA = yaml.safe_load((ROOT / "config" / "data.yaml").read_text(encoding="utf-8"))
DOMAINS = ("cc", "github", "book", "stackexchange", "wiki", "arxiv", "c4")
MIRROR = os.environ.get("REPRUNE_MIRROR")  # read here: a fixture takes it away from tests


def parts_of(domain):
    """The corpora of a domain, its training part first."""
    return [DATA["corpora"][domain[part]] for part in ("train", "held_out")]


def test_redpajama_has_the_official_domains_and_proportions():
    domains = DATA["mixtures"]["redpajama"]["domains"]
    assert tuple(domains) == DOMAINS
    assert [d["weight"] for d in domains.values()] == [0.67, 0.045, 0.045, 0.02, 0.045, 0.025, 0.15]


@pytest.mark.parametrize("mixture", DATA["mixtures"])
def test_whatever_source_a_domain_comes_from_its_parts_are_different(mixture):
    for domain in DATA["mixtures"][mixture]["domains"].values():
        train, held_out = parts_of(domain)
        assert set(train) == set(held_out)
        for kind in set(train) - {"role"}:
            specs = [{k: v for k, v in c[kind].items() if k != "note"} for c in (train, held_out)]
            assert specs[0] != specs[1], (domain, kind)


def test_the_parts_of_made_domains_share_no_document():
    for domain in DATA["mixtures"]["made"]["domains"].values():
        train, held_out = (
            load_source("made", {k: v for k, v in c["made"].items() if k not in ("fit", "note")}, None)
            for c in parts_of(domain)
        )
        assert len(train) == 60 and len(held_out) == 12 and not set(train) & set(held_out)


def test_the_protocol_by_domain_scores_the_held_out_parts():
    file = ROOT / "config" / "protocols" / "domains-sheared-llama.yaml"
    tasks = yaml.safe_load(file.read_text(encoding="utf-8"))["corpora"]
    domains = DATA["mixtures"]["redpajama"]["domains"]
    assert {task: spec["corpus"] for task, spec in tasks.items()} == {
        name: domain["held_out"] for name, domain in domains.items()
    }
    assert {spec["join"] for spec in tasks.values()} == {"separator"}


@pytest.mark.shared
@pytest.mark.skipif(not MIRROR, reason="REPRUNE_MIRROR names no folder")
@pytest.mark.parametrize("name", DOMAINS)
def test_the_mirror_has_both_parts_of_every_domain(name):
    train, held_out = (
        load_source("mirror", c["mirror"], Path(MIRROR) / c["mirror"]["file"])
        for c in parts_of(DATA["mixtures"]["redpajama"]["domains"][name])
    )
    assert min(sum(map(len, texts)) for texts in (train, held_out)) > 30_000  # characters
    assert len(set(train) & set(held_out)) <= 1  # GitHub's sample has one file twice
