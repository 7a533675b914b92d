"""BLEU in tables, checks and differences, by resampling sentences; examples in the report."""

import io

import numpy as np
import pandas as pd
import pytest
from test_report import SUMMARY, Tags

from reprune.analysis.bleu import bleu_of_means
from reprune.analysis.claims import check_claims
from reprune.analysis.compare import compare_records
from reprune.analysis.differences import difference_notes, differences, tidy_differences
from reprune.analysis.examples import example_lines, examples
from reprune.analysis.head_to_head import head_to_head
from reprune.analysis.measurements import Quantity, measure
from reprune.analysis.names import metric_noun
from reprune.analysis.notes import reading_notes
from reprune.analysis.paired import ALIKE, HIGHER, LOWER, compare_rows
from reprune.analysis.report import write_report
from reprune.analysis.significance import swap_test_of
from reprune.analysis.statistics import bootstrap, point
from reprune.analysis.table import build_table
from reprune.analysis.terminal import print_tables
from reprune.evaluation.bleu import bleu_stderr, corpus_bleu

ASKED = {"experiment": "e", "protocol": "translation-voita", "metric": "bleu"}
TABLE = {**ASKED, "id": "t", "title": "T", "suite": "translation", "tasks": ["test"]}
CHECK = {**ASKED, "tasks": ["test"], "left": "better", "right": "dense"}


def translations(quality, sentences=300, seed=0):
    """Made statistics: each word and each longer n-gram is right with a chance that falls with the order."""
    rng = np.random.default_rng(seed)
    length = rng.integers(5, 20, sentences)
    totals = np.stack([length - order for order in range(4)], axis=1)
    matches = rng.binomial(totals, quality ** np.arange(1, 5))
    return np.hstack([matches, totals, length[:, None], length[:, None]])


def improved(statistics, share, seed=5):
    """The same with that share of sentences translated without a fault."""
    right = np.random.default_rng(seed).random(len(statistics)) < share
    matches = np.where(right[:, None], statistics[:, 4:8], statistics[:, :4])
    return np.hstack([matches, statistics[:, 4:]])


BASE = translations(0.6)


def unit_of(results, **rows):
    for label, statistics in rows.items():
        results.add(label, counted={"test": statistics})
    return results.unit()


def ask(results, kind, **keys):
    claim = {"id": "c", "statement": "s", "source": "t", "checks": [{**CHECK, "kind": kind, **keys}]}
    return check_claims(results.unit(claims=[claim]))[0]["checks"][0]


def test_a_resamples_bleu_is_that_of_the_drawn_sentences():
    rng = np.random.default_rng(0)
    drawn = BASE[rng.integers(0, 300, 300)]
    assert bleu_of_means(drawn.mean(axis=0), 300)[0] == pytest.approx(corpus_bleu(drawn.sum(axis=0)))
    few = np.array([[3, 1, 0, 0, 5, 4, 3, 2, 5, 6]] * 2)
    assert bleu_of_means(few.mean(axis=0), 2)[0] == pytest.approx(corpus_bleu(few.sum(axis=0)))


def test_the_bootstraps_spread_is_the_recorded_error():
    values = BASE[None, None].astype(float)
    found = bootstrap([values], lambda m: m[:, 0, 0], 1, summary=bleu_of_means)
    assert found.estimate == pytest.approx(corpus_bleu(BASE.sum(axis=0)))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(bleu_stderr(BASE), rel=0.1)


def test_seeds_are_averaged_as_bleu_and_not_as_counts():
    seeds = np.stack([translations(0.4), translations(0.8, seed=1)])
    expected = np.mean([corpus_bleu(one.sum(axis=0)) for one in seeds])
    assert point([seeds[None].astype(float)], lambda m: m[:, 0, 0], bleu_of_means) == pytest.approx(expected)
    pooled = corpus_bleu(seeds.sum(axis=(0, 1)))
    assert abs(pooled - expected) > 1


@pytest.mark.parametrize(("share", "verdict"), [(0.1, "holds"), (0.0, "undecided")])
def test_a_planted_better_system_wins_and_a_copy_does_not(results, share, verdict):
    unit_of(results, dense=BASE, better=improved(BASE, share))
    found = ask(results, "greater")
    assert found["verdict"] == verdict
    (part,) = found["parts"]
    gain = corpus_bleu(improved(BASE, share).sum(axis=0)) - corpus_bleu(BASE.sum(axis=0))
    assert part["estimate"] == pytest.approx(gain)
    assert part["basis"] == "300 sentences, single run" and part["what"] == "BLEU of better minus dense"


def test_pairing_decides_what_two_errors_apart_would_not(results):
    better = BASE.copy()
    better[::3, 0] = np.minimum(BASE[::3, 0] + 1, BASE[::3, 4])  # one word more in every third sentence
    unit = unit_of(results, dense=BASE, better=better)
    found = compare_rows(
        unit, Quantity.of(ASKED, "test"), *(unit.select("e", n)[0] for n in ("better", "dense"))
    )
    apart = np.hypot(bleu_stderr(BASE), bleu_stderr(better))
    assert found.interval.estimate < 1.96 * apart and found.interval.low > 0 and found.word == HIGHER
    assert found.p < 0.05


@pytest.mark.parametrize(
    ("kind", "keys", "verdict"),
    [
        ("less", {"left": "dense", "right": "better"}, "holds"),
        ("greater", {"left": "dense", "right": "better"}, "fails"),
        ("not_less", {"left": "dense", "right": "better", "margin": 30.0}, "holds"),
        ("not_less", {"left": "dense", "right": "better", "margin": 0.5}, "fails"),
        ("within", {"margin": 30.0}, "holds"),
        ("within", {"left": "copy", "margin": 0.01}, "holds"),
        ("not_best", {"method": "dense", "others": ["better", "copy"]}, "holds"),
    ],
)
def test_checks_ask_of_bleu(results, kind, keys, verdict):
    unit_of(results, dense=BASE, better=improved(BASE, 0.1), copy=BASE)
    own = {"left": None, "right": None} if "method" in keys else {}
    check = {key: value for key, value in {**CHECK, **own, "kind": kind, **keys}.items() if value is not None}
    claim = {"id": "c", "statement": "s", "source": "t", "checks": [check]}
    assert check_claims(results.unit(claims=[claim]))[0]["checks"][0]["verdict"] == verdict


def test_other_sentences_are_not_compared(results):
    unit = unit_of(results, dense=BASE, other=BASE)
    items = unit.items
    items.loc[items.run_id.str.startswith("other"), "doc_hash"] += "x"
    found = compare_rows(
        unit, Quantity.of(ASKED, "test"), *(unit.select("e", n)[0] for n in ("other", "dense"))
    )
    assert "were not asked the same" in found.reason


def test_swaps_find_a_difference_and_none_between_copies():
    better = np.stack([improved(BASE, 0.1), BASE])[:, None].astype(float)
    same = np.stack([BASE, BASE])[:, None].astype(float)
    assert swap_test_of([better], bleu_of_means, 0, 2000) == pytest.approx(1 / 2001)
    assert swap_test_of([same], bleu_of_means, 0, 2000) == 1.0


def test_swaps_are_right_as_often_as_they_say():
    """Two systems of equal worth: p below 0.2 in about a fifth of the draws."""
    found = []
    for seed in range(150):
        pair = [translations(0.6, 60, 2 * seed), translations(0.6, 60, 2 * seed + 1)]
        pair[1][:, 8:] = pair[0][:, 8:]
        found.append(swap_test_of([np.stack(pair)[:, None].astype(float)], bleu_of_means, seed, 200))
    assert 0.1 < np.mean(np.array(found) < 0.2) < 0.3


def test_a_table_shows_bleu_with_its_error_and_signature(results):
    unit = unit_of(results, dense=BASE, better=improved(BASE, 0.1))
    (row, _) = unit.rows("e")
    found = measure(unit, row, Quantity.of(TABLE, "test"))
    assert found.value == pytest.approx(corpus_bleu(BASE.sum(axis=0)))
    assert (found.stderr, found.stderr_over, found.n) == (bleu_stderr(BASE), "sentences", 300)
    notes = reading_notes(unit, TABLE, build_table(unit, TABLE))
    assert any("± is the standard error over 300 sentences" in note for note in notes)
    assert "BLEU by sacrebleu: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0." in notes


def test_differences_that_are_real(results):
    unit = unit_of(results, dense=BASE, better=improved(BASE, 0.1), copy=BASE)
    found = differences(unit, TABLE)
    words = {(c.left.label, c.right.label): c.word for c in found.found.values()}
    assert words == {("better", "dense"): HIGHER, ("copy", "dense"): ALIKE, ("copy", "better"): LOWER}
    notes = " ".join(difference_notes(found))
    assert "Points of BLEU on the same sentences" in notes and "questions" not in notes
    assert "the translations of each sentence swapped at random" in notes
    assert found.decimals == 2 and set(tidy_differences(TABLE, found).unit) == {"points"}


def test_two_rows_side_by_side(results):
    unit = unit_of(results, dense=BASE, better=improved(BASE, 0.1))
    lines = head_to_head(unit, "better", "dense")
    (line,) = [line for line in lines if line.strip().startswith("Test set")]
    assert line.split()[2] == "300" and line.endswith("higher")
    assert "same sentences" in " ".join(lines)


def example(item, hypothesis):
    told = {"protocol": "translation-voita@1", "task": "test", "item": item}
    return {
        **told,
        "source": f"source {item} <b>",
        "reference": f"reference {item}",
        "hypothesis": hypothesis,
    }


@pytest.fixture
def shown(results):
    for label, words in (("dense", ["a", "b"]), ("pruned", ["a", ""]), ("other", ["c", "b"])):
        noted = {"examples": [example(item, text) for item, text in zip((0, 30), words, strict=True)]}
        results.add(label, counted={"test": BASE}, notes=noted)
    return results.unit(tables=[TABLE])


def test_equal_texts_stand_together(shown):
    first, second = examples(shown)
    assert {text: [row.label for row in rows] for text, rows in first.written.items()} == {
        "a": ["dense", "pruned"],
        "c": ["other"],
    }
    assert (second.source, second.reference, list(second.written)) == (
        "source 30 <b>",
        "reference 30",
        ["b", ""],
    )


def test_the_report_and_its_text_show_them(shown, tmp_path):
    write_report([shown], SUMMARY, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert page.count("source 0 &lt;b&gt;") == 1 and "<h3>Examples</h3>" in page
    assert "dense and pruned at 50%</dt><dd>a</dd>" in page.replace("dense at 50%", "dense")
    stream = io.StringIO()
    print_tables([shown], stream)
    lines = stream.getvalue().splitlines()
    at = lines.index(next(line for line in lines if line.startswith("Examples: Test set")))
    assert lines[at + 1 : at + 4] == [" 1 source 0 <b>", " = reference 0", " > a"]
    assert all(len(line) <= 100 for line in lines)


def test_a_unit_without_examples_has_no_such_section(results, tmp_path):
    unit = unit_of(results, dense=BASE)
    assert example_lines(unit, 100) == [] == examples(unit)
    write_report([unit], SUMMARY, tmp_path / "report.html")
    assert "Examples" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_speed_is_not_compared_with_a_reference(results, tmp_path):
    unit = unit_of(results, dense=BASE)
    records = unit.records.drop(columns="protocol_name")
    for name, speed in (("new", 100.0), ("old", 50.0)):
        timed = records.assign(metric="tokens_per_second", value=speed, variant=None)
        pd.concat([records, timed]).to_csv(tmp_path / name, index=False)
    assert compare_records(tmp_path / "new", tmp_path / "old", io.StringIO()) == 0


@pytest.mark.parametrize(
    ("metric", "noun"), [("bleu", "BLEU"), ("chrf", "chrF"), ("copy_bleu", "BLEU of the source itself")]
)
def test_names_inside_a_sentence(metric, noun):
    assert metric_noun(metric) == noun
