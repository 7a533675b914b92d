"""Progress: at most every ten seconds, with the time left at the pace so far, and units per second."""

from __future__ import annotations

import io

import pytest

from reprune.records.progress import Progress, Rate


@pytest.fixture
def clock():
    """A clock that tests move: ``clock[0]`` is the time."""
    return [0.0]


@pytest.fixture
def told(clock):
    """Builds progress of a class; gives it with what it writes."""

    def build(cls):
        log = io.StringIO()
        return cls("train", "tokens", log, lambda: clock[0]), lambda: log.getvalue().splitlines()

    return build


def test_a_line_has_what_is_done_and_what_is_left(told, clock):
    say, lines = told(Progress)
    for clock[0], done in ((0, 0), (9, 3), (20, 4), (25, 5), (40, 8)):
        say(done, 12)
    assert lines() == [
        "train: 4/12 tokens, 20 s, about 40 s left",
        "train: 8/12 tokens, 40 s, about 20 s left",
    ]


def test_a_rate_is_told_with_it(told, clock):
    say, lines = told(Rate)
    for clock[0], done in ((5, 0), (25, 400)):  # what came before the first call is not counted
        say(done, 1000)
    assert lines() == ["train: 400/1000 tokens, 20 s, 20 tokens/s, about 30 s left"]


def test_the_rate_of_a_resumed_job_is_its_own(told, clock):
    say, lines = told(Rate)
    for clock[0], done in ((15, 600), (35, 700), (45, 900)):
        say(done, 1000)
    assert lines() == [
        "train: 700/1000 tokens, 20 s, 5 tokens/s, about 60 s left",
        "train: 900/1000 tokens, 30 s, 10 tokens/s, about 10 s left",
    ]


def test_nothing_done_yet_has_no_time_left(told, clock):
    say, lines = told(Rate)
    for clock[0], done in ((0, 600), (20, 600)):
        say(done, 1000)
    assert lines() == ["train: 600/1000 tokens, 20 s, 0 tokens/s"]
