"""Plain text at the end of a run, and the comparison of two runs."""

import io

import pytest

from reprune.analysis.compare import compare_records, main
from reprune.analysis.terminal import print_tables


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def printed(besa):
    stream = io.StringIO()
    print_tables([besa], stream)
    return stream.getvalue()


def test_tables_fit_a_terminal_and_lose_nothing_silently(printed):
    assert max(map(len, printed.splitlines())) <= 100
    assert "Not shown here: " in printed and "Peak memory (MB)" in printed
    assert "(other model)" in printed


def test_holes_errors_and_verdicts_are_visible(printed):
    assert "diverged [a]" in printed and "[a] diverged: loss is not finite" in printed
    assert "18.59 ± 1.00" in printed
    assert "+ holds      Dense < BESA" in printed
    assert "- fails      The learned" in printed
    assert "? undecided  BESA helps" in printed


def test_colour_only_on_a_terminal(besa, printed):
    stream = Terminal()
    print_tables([besa], stream)
    assert "\033[" in stream.getvalue() and "\033[" not in printed


@pytest.fixture
def files(besa, tmp_path):
    """Two copies of the records, and a function that changes the first."""
    paths = tmp_path / "new.csv", tmp_path / "reference.csv"
    records = besa.records.drop(columns="protocol_name")
    for path in paths:
        records.to_csv(path, index=False)

    def change(edit):
        frame = records.copy()
        edit(frame)
        frame.to_csv(paths[0], index=False)
        return paths

    return paths, change


def run(paths, tolerance=1e-6):
    stream = io.StringIO()
    return compare_records(*paths, stream, tolerance), stream.getvalue()


def test_equal_records_agree(files):
    code, text = run(files[0])
    assert code == 0
    assert "0  different" in text


def test_a_planted_change_is_found_and_measured(files, besa):
    def edit(frame):
        frame["stderr"] = 0.5
        frame.loc[5, "value"] += 1.0

    paths = files[1](edit)
    paths[1].write_text(paths[0].read_text())
    reference = besa.records.drop(columns="protocol_name").assign(stderr=0.5)
    reference.to_csv(paths[1], index=False)
    code, text = run(paths)
    assert code == 1
    assert "1  different" in text and "2 standard errors" in text
    assert besa.records.run_id[5] in text


def test_a_tiny_change_is_within_tolerance(files):
    def edit(frame):
        frame.loc[5, "value"] *= 1 + 1e-9

    assert run(files[1](edit))[0] == 0
    assert "1  within tolerance" in run(files[0])[1]
    assert run(files[0], tolerance=1e-12)[0] == 1


def test_missing_and_new_records_are_found(files):
    def edit(frame):
        frame.loc[5, "task"] = "renamed"

    code, text = run(files[1](edit))
    assert code == 1
    assert "1  missing" in text and "1  new" in text and "renamed" in text


def test_a_changed_status_is_a_difference(files, besa):
    lost = besa.records.index[besa.records.status == "diverged"][0]

    def edit(frame):
        frame.loc[lost, "status"] = "failed"

    code, text = run(files[1](edit))
    assert code == 1
    assert "failed, was diverged" in text


def test_costs_are_not_compared(files):
    def edit(frame):
        frame["compress_s"] = 999.0
        frame["peak_rss_mb"] = 1.0

    assert run(files[1](edit))[0] == 0


def test_command_line(files, capsys):
    assert main([str(path) for path in files[0]]) == 0
    assert "equal" in capsys.readouterr().out
