"""Protocols of what is timed: a scale divides their sizes, and what is counted stays as it is."""

from __future__ import annotations

import pytest

from reprune.plan.estimate import evaluate_flops

SUITES = "[efficiency-grasp]"
GENERATE = {"kind": "generate", "batch": 32, "prompt": 4, "new_tokens": 32}


def suite_of(plan):
    """The only suite of the first run."""
    (suite,) = next(iter(plan.runs.values())).suites
    return suite


@pytest.fixture
def undivided(project, experiment):
    """The protocol at its own sizes, on a model whose context is long enough for them."""
    text = (project.root / "config/scales/smoke.yaml").read_text()
    kept = [line for line in text.splitlines() if "efficiency-grasp" not in line]
    project.write("config/scales/smoke.yaml", "\n".join(kept))
    return suite_of(experiment(suites=SUITES))


def test_the_protocols_own_sizes_are_the_papers_axes(undivided):
    assert (undivided.protocol, undivided.suite) == ("efficiency-grasp@1", "efficiency")
    tasks = undivided.content["tasks"]
    assert tasks["generate"] == GENERATE
    batches = [tasks[name]["batch"] for name in ("generate", "batch-2x", "batch-4x", "batch-8x")]
    lengths = [tasks[name]["new_tokens"] for name in ("generate", "length-2x", "length-4x", "length-8x")]
    assert batches == lengths == [32, 64, 128, 256]
    changed = {name: spec for name, spec in tasks.items() if spec["kind"] == "generate"}
    assert all(len(GENERATE.items() ^ spec.items()) in (0, 2) for spec in changed.values())


def test_a_scale_divides_what_is_timed_and_says_so_in_the_name(undivided, project, experiment):
    line = "\nprotocols:\n  efficiency-grasp: {repeats: 3, divide: {batch: 100, new_tokens: 16}}\n"
    project.edit("config/scales/smoke.yaml", "\nprotocols:\n", line)
    small = suite_of(experiment(suites=SUITES))
    assert small.protocol.startswith("efficiency-grasp@1+")
    assert small.content["repeats"] == 3
    tasks = small.content["tasks"]
    assert tasks["generate"] == {"kind": "generate", "batch": 1, "prompt": 4, "new_tokens": 2}
    assert (tasks["batch-8x"]["batch"], tasks["length-8x"]["new_tokens"]) == (2, 16)
    assert tasks["size"] == undivided.content["tasks"]["size"]
    assert small.tokens < undivided.tokens


def test_counts_are_never_divided(undivided, project, experiment):
    line = "\nprotocols:\n  efficiency-grasp: {divide: {length: 16}}\n"
    project.edit("config/scales/smoke.yaml", "\nprotocols:\n", line)
    tasks = suite_of(experiment(suites=SUITES)).content["tasks"]
    assert (tasks["size"]["length"], tasks["prefill"]["length"]) == (64, 16)


def test_some_tasks_alone_can_be_asked_for(experiment):
    plan = experiment(suites="[{protocol: efficiency-grasp, tasks: [size, generate]}]")
    assert list(suite_of(plan).content["tasks"]) == ["size", "generate"]
    assert evaluate_flops(next(iter(plan.runs.values()))) > 0


def test_what_does_not_fit_into_the_context_is_a_problem(project):
    project.edit("papers/mini/paper.yaml", "[perplexity-wanda]", SUITES)
    project.edit("config/protocols/efficiency-grasp.yaml", "new_tokens: 256}", "new_tokens: 10000}")
    assert project.complaints() == [
        "config/protocols/efficiency-grasp.yaml:20: task 'length-8x' takes 629 tokens, "
        "the model's context is 512"
    ]


@pytest.mark.parametrize(
    "old, new, message",
    [
        (", new_tokens: 32}", "}", "tasks.generate: 'new_tokens' is a required property"),
        ("kind: forward", "kind: forwards", "tasks.prefill.kind is 'forwards'; did you mean 'forward'?"),
        (
            "{kind: size, length: 64}",
            "{kind: size, lenght: 64, length: 64}",
            "unknown key 'lenght' in tasks.size; did you mean 'length'?",
        ),
        ("repeats: 10", "repeats: 0", "repeats: 0 is less than the minimum of 1"),
    ],
)
def test_a_protocol_that_cannot_be_measured_is_refused(project, old, new, message):
    project.edit("config/protocols/efficiency-grasp.yaml", old, new)
    (line,) = project.complaints()
    assert message in line


def test_a_scale_cannot_give_it_another_suites_size(project):
    project.edit("config/scales/smoke.yaml", "efficiency-grasp: {repeats: 2", "efficiency-grasp: {limit: 2")
    (line,) = project.complaints()
    assert "protocol 'efficiency-grasp' has no size 'limit'; it has repeats, divide" in line
