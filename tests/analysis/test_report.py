"""The report: complete, self-contained, the same for the same results."""

import re
from html.parser import HTMLParser

import pytest
from mixture_unit import PROPORTIONS, mixture_unit
from structural_unit import structural_unit

from reprune.analysis.forest import interval_svg, reach
from reprune.analysis.report import write_report

SUMMARY = {
    "title": "Pruning papers on one small model",
    "scale": "local",
    "created": "2026-11-22 13:40 UTC",
    "machine": {"cpu": "a processor", "cores": 2, "memory_gb": 23.5},
    "commit": "0a1b2c3",
    "dirty": False,
    "versions": {"torch": "2.13.0"},
    "seconds": 2531.0,
    "command": "snakemake --cores all",
}


@pytest.fixture(scope="module")
def page(besa, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report([besa], SUMMARY, path)
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects tags that load something, and checks that tags are closed in order."""

    VOID = {"meta", "br", "path", "use", "line", "circle", "rect", "image", "link", "img"}

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag in ("link", "script", "iframe", "object") or "src" in attributes:
            self.loads.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]


def test_the_page_fetches_nothing(page):
    tags = Tags()
    tags.feed(page)
    assert tags.loads == [] and tags.open == []
    for fetch in ('src="http', "<link", "<script", "@import", "url(http"):
        assert fetch not in page


def test_every_run_is_there_with_its_command(besa, page):
    runs = {
        row["run_id"]
        for experiment in besa.info["experiments"].values()
        for row in experiment["rows"]
        if row["run_id"]
    }
    assert len(runs) == 20
    assert all(f"<code>{run}</code>" in page for run in runs)
    assert "<dt>Runs</dt><dd>20</dd>" in page
    assert page.count("<code>snakemake --cores all besa</code>") == 21


def test_header_tells_what_ran_where_and_how_long(page):
    for part in (
        "SmolLM2-135M-Instruct (Q4_1 dequantised)",
        "42 min 11 s",
        "a processor, 2 cores",
        "<code>0a1b2c3</code>",
        "scale local",
        "2026-11-22 13:40 UTC",
    ):
        assert part in page, part
    assert "uncommitted" not in page


def test_verdicts_are_counted_and_explained_only_where_needed(page):
    tally = re.findall(r'<span class="(\w+)"><b>(\d+)</b>', page)
    assert tally == [("holds", "4"), ("fails", "1"), ("undecided", "1")]
    assert "With few calibration windows the penalty has not settled." in page
    assert "The windows are few and short." not in page
    assert "Magnitude is not in the paper&#39;s own table." in page


def test_links_inside_the_page_lead_somewhere(page):
    tags = Tags()
    tags.feed(page)
    for target in re.findall(r'href="#([^"]+)"', page):
        assert target in tags.ids, target


def test_plots_take_the_page_s_colours_and_its_tables_are_there(page):
    assert page.count("<svg") > 4
    assert "var(--ink)" in page.split("<svg", 1)[1]
    assert "#22282e" not in page.split("</style>", 1)[1]
    assert page.count('<figure class="table') == 3
    assert "records.parquet" in page


def test_text_from_papers_is_escaped(results, page, tmp_path):
    unit = results.add("<i>w</i>", {"c4": [1.0, 2.0]}).unit(
        summary="<script>alert(1)</script>", substitutions=["Scale `local` & more."]
    )
    write_report([unit], {**SUMMARY, "title": "<b>x</b>", "dirty": True}, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    for raw in ("<b>x</b>", "<script", "<i>w</i>"):
        assert raw not in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "Scale <code>local</code> &amp; more." in text
    assert "with uncommitted changes" in text
    assert "Dense &lt; BESA &lt; {Wanda, SparseGPT}" in page


def test_the_same_results_give_the_same_page(besa, page, tmp_path):
    write_report([besa], SUMMARY, tmp_path / "again.html")
    again = (tmp_path / "again.html").read_text(encoding="utf-8")
    assert re.sub(r'href="[^"#]+parquet"', "", again) == re.sub(r'href="[^"#]+parquet"', "", page)


def test_several_units_stand_in_one_report_and_shared_runs_count_once(results, tmp_path):
    one = results.add("wanda", {"c4": [1.0, 2.0]}).unit()
    other = results.add("dense", {"c4": [1.0, 2.0]}).unit(unit="arena")
    write_report([one, other], SUMMARY, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<dt>Runs</dt><dd>2</dd>" in text
    assert 'id="besa-unit"' in text and 'id="arena-unit"' in text


def test_an_interval_is_drawn_to_scale():
    part = {"estimate": 1.0, "low": 0.5, "high": 1.5, "threshold": 0.0, "verdict": "holds"}
    part["bound"] = "above"
    assert reach([part]) == (0.0, 1.5)
    drawing = interval_svg(part, 0.0, 2.0)
    assert 'x1="45.0" x2="123.0"' in drawing and 'cx="84.0"' in drawing and 'x1="6.0" x2="6.0"' in drawing
    assert interval_svg({**part, "estimate": None}, 0.0, 2.0) == ""
    both = {**part, "bound": "within", "threshold": 2.0}
    assert reach([both]) == (-2.0, 2.0)
    assert interval_svg(both, -2.0, 2.0).count('class="limit"') == 2


def test_plots_and_recovery_of_structural_methods_are_in_the_report(results, tmp_path):
    unit = structural_unit(results)
    spec = {"kind": "layers", "id": "l", "title": "Blocks", "experiment": "ratios", "methods": ["GRASP"]}
    unit.paper["plots"] = [{**spec, "target": "20% of parameters"}]
    write_report([unit], SUMMARY, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "1 − cosine (log scale)" in text
    assert "kind lora, rank 128" in text and "notes.json" in text


def test_trainings_on_a_mixture_are_in_the_report(results, tmp_path):
    at = {"experiment": "e", "title": "Title"}
    methods = ["Pruned + dynamic", "Pruned + constant"]
    check = {"kind": "history_ratio", "quantity": "excess_spread", "at_most": 0.7, "experiment": "e"}
    check |= {"left": methods[0], "right": methods[1]}
    unit = mixture_unit(
        results,
        tables=[{**at, "id": "shares", "kind": "shares", "tasks": list(PROPORTIONS)}],
        plots=[
            {**at, "id": "tokens", "kind": "tokens", "methods": methods},
            {**at, "id": "loading", "kind": "loading", "methods": methods},
            {**at, "id": "masks", "kind": "masks", "method": "Pruned"},
        ],
        claims=[{"id": "c", "statement": "s", "source": "t", "checks": [check]}],
    )
    write_report([unit], SUMMARY, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and len(set(tags.ids)) == len(tags.ids)
    for told in (
        "At the start",
        "Share of the data",
        "Excess loss",
        "Overlap",
        "times that of Pruned + constant",
    ):
        assert told in text
