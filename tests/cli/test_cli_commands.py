"""The command line: what each command tells, one line for each error, and torch left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reprune.cli import main, show
from reprune.plan.plan import build_plan


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]):
    """Runs a command that must succeed; its output."""

    def run(*arguments: str) -> str:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Runs a command that must be refused with exit code 2; its one line."""

    def run(*arguments: str) -> str:
        try:
            code = main(list(arguments))
        except SystemExit as stopped:
            code = stopped.code
        output = capsys.readouterr()
        assert (code, output.out) == (2, "")
        assert output.err.count("\n") == 1
        return output.err

    return run


def test_papers_shows_titles_contents_and_commands(told):
    text = told("papers")
    assert "BESA: Pruning Large Language Models" in text
    assert "3 tables · 3 plots" in text
    assert "on request · 1 table" in text and "snakemake --cores all besa_ablations" in text


def test_papers_shows_every_paper_and_method_once(told, root: Path):
    heads = [line.split()[0] for line in told("papers").splitlines() if line and line[0] not in " A"]
    assert heads == sorted(
        folder.name
        for folder in (root / "papers").iterdir()
        if list(folder.glob("paper.yaml")) + list(folder.glob("method.py"))
    )


def test_methods_has_one_line_for_each(told):
    lines = told("methods").splitlines()
    assert lines[0].split() == ["method", "targets", "calibration", "what", "it", "does"]
    assert {line.split()[0] for line in lines[1:]} == set(build_plan({}).methods)


def test_methods_of_one_lists_its_settings(told):
    text = told("methods", "besa")
    assert "sparsity_step  float = 0.01" in text and "0.001 to 0.5" in text
    assert "wanda | magnitude | sparsegpt" in text
    assert "optimizer of the logits" in text


def test_a_method_without_settings_says_so(told):
    assert "no settings" in told("methods", "dense")


def test_show_lists_runs_with_their_settings_and_calibration(told):
    text = told("show", "besa_ablations", "--scale", "local")
    assert "layer-wise" in text and "granularity layer" in text
    assert "c4-train 8 x 128, seed 0" in text
    assert "perplexity-besa@" in text
    assert "run it: snakemake --cores all besa_ablations\n" in text


def test_show_names_the_scale_in_the_command(told):
    text = told("show", "besa", "--scale", "smoke")
    assert "run it: snakemake --cores all besa --config scale=smoke\n" in text


def test_show_prints_the_report_of_a_finished_run(told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(show, "ROOT", tmp_path)
    folder = tmp_path / "results" / "smoke" / "besa"
    folder.mkdir(parents=True)
    (folder / "report.txt").write_text("\nthe tables\n")
    assert told("show", "besa", "--scale", "smoke").endswith("scale=smoke\n\nthe tables\n")


def test_a_skipped_combination_has_its_reason(told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(show, "plan_of", lambda scale=None: build_plan({"papers": ["papers", str(tmp_path)]}))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "paper.yaml").write_text(
        "id: odd\ntitle: t\nsummary: s\nexperiments:\n  e:\n    title: t\n    targets: [{pattern: '2:4'}]\n"
        "    methods: [besa]\n    suites: [perplexity-arena]\n"
    )
    text = told("show", "odd")
    assert "serves only unstructured targets" in text
    assert any(line.startswith("  besa") and line.endswith("skipped") for line in text.splitlines())


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("methods", "wnda"), "did you mean 'wanda'?"),
        (("show", "bsea"), "did you mean 'besa'?"),
        (("show", "besa", "--scale", "smok"), "did you mean 'smoke'?"),
        (("new", "besa"), "exists"),
        (("compare", "nowhere"), "no file nowhere"),
        (("shwo",), "invalid choice: 'shwo'"),
        (("show",), "required: UNIT"),
    ],
)
def test_a_mistake_is_answered_in_one_line(refused, arguments: tuple[str, ...], expected: str):
    assert expected in refused(*arguments)


def test_no_command_shows_the_help(told):
    assert "papers" in told() and "doctor" in told()


@pytest.mark.parametrize("command", ["papers", "methods", "methods besa", "show besa", "new besa"])
def test_commands_do_not_import_torch(root: Path, command: str):
    code = f"import sys; from reprune.cli import main; main({command.split()}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_reader_that_has_enough_is_no_error(root: Path):
    done = subprocess.run(
        f"{sys.executable} -c 'import sys; from reprune.cli import main; "
        'sys.exit(main(["methods"]))\' | true',
        shell=True,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
