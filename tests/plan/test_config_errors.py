"""A wrong configuration: every problem at once, each one line with its place and the nearest valid name."""

from __future__ import annotations

import pytest
from small_project import MINI, PAPER

IN_PAPER = {  # what is wrong: old text, new text, line and message
    "method": (
        "magnitude,",
        "magnitud,",
        ":10: unknown method 'magnitud'; did you mean 'magnitude'? known: dense, magnitude, wanda",
    ),
    "paper id": ("id: mini", "id: mino", ":1: id is 'mino', the folder is 'mini'"),
    "model": ("[tiny-llama]", "[tiny-lama]", ":7: unknown model 'tiny-lama'; did you mean 'tiny-llama'?"),
    "protocol": (
        "[perplexity-wanda]",
        "[perplexity-wand]",
        ":11: unknown protocol 'perplexity-wand'; did you mean 'perplexity-wanda'?",
    ),
    "task": (
        "[perplexity-wanda]",
        "[{protocol: perplexity-wanda, tasks: [wikitext]}]",
        ":11: protocol 'perplexity-wanda' has no task 'wikitext'; did you mean 'wikitext2'?",
    ),
    "symbol": (
        "targets: [{sparsity: 0.5}]",
        "targets: $sweeps",
        ":9: targets is '$sweeps', which the scale does not define; did you mean 'sweep'?",
    ),
    "setting": (
        "wanda]",
        "{method: wanda, settings: {metrics: wanda}}]",
        ":10: method 'wanda' has no setting 'metrics'; did you mean 'metric'?",
    ),
    "no settings": (
        "[dense,",
        "[{method: dense, settings: {a: 1}},",
        ":10: method 'dense' has no settings, found 'a'",
    ),
    "choice": (
        "wanda]",
        "{method: wanda, settings: {metric: wandas}}]",
        ":10: setting 'metric' of 'wanda' is 'wandas'; expected did you mean 'wanda'?",
    ),
    "type": (
        "wanda]",
        "{method: wanda, settings: {metric: 3}}]",
        ":10: setting 'metric' of 'wanda' is 3; expected a value of type str",
    ),
    "pattern": ("{sparsity: 0.5}", "{pattern: '4:2'}", ":9: pattern is '4:2'; expected n:m with 0 < n < m"),
    "key of an experiment": (
        "    seeds:",
        "    seed:",
        ":8: unknown key 'seed' in experiments.main; did you mean 'seeds'?",
    ),
    "seeds of a method": (
        "wanda]",
        "{method: wanda, seeds: $dear}]",
        ":10: seeds is '$dear', which the scale does not define; known: ",
    ),
    "key of a method": (
        "wanda]",
        "{method: wanda, setings: {}}]",
        ":10: unknown key 'setings' in experiments.main.methods.2; did you mean 'settings'?",
    ),
    "key of a paper": (
        "summary: For",
        "venu: ICLR\nsummary: For",
        ":3: unknown key 'venu' in top level; did you mean 'venue'?",
    ),
    "key twice": (
        "summary: For tests.",
        "summary: For tests.\ntitle: Again",
        ":4: key 'title' is written twice",
    ),
    "label": ("wanda]", "wanda, wanda]", ":10: label 'wanda' is used twice; give one a `label`"),
    "a date that is none": ("id: mini", "id: mini\nvenue: 2024-13-45", ":2: not YAML: '2024-13-45': month"),
    "a tag": ("id: mini", "id: mini\nvenue: !!python/name:a.b x", ":2: not YAML: could not determine a"),
    "a list as key": ("id: mini", "id: mini\n[a]: 3", ":2: not YAML: a key must be a single word"),
    "no models": ("[tiny-llama]", "[]", ":7: experiments.main.models: [] "),
    "methods": ("[dense, magnitude, wanda]", "every", ":10: experiments.main.methods: 'every' is not "),
    "broken YAML": ("[tiny-llama]", "[tiny-llama", ":8: not YAML: "),
    "long calibration": (
        "wanda]",
        "{method: wanda, calibration: {length: 513}}]",
        ":10: calibration windows of 513 tokens are longer than the context of tiny-llama",
    ),
    "corpus": (
        "wanda]",
        "{method: wanda, calibration: {corpus: c4-trains}}]",
        ":10: unknown corpus 'c4-trains'; did you mean 'c4-train'?",
    ),
    "sampler": (
        "wanda]",
        "{method: wanda, calibration: {sampler: crop}}]",
        ":10: experiments.main.methods.2.calibration.sampler is 'crop'; ",
    ),
    "rows for windows": (
        "wanda]",
        "{method: wanda, calibration: {rows: 8}}]",
        ":10: the sampler 'document_crop' takes windows, not rows",
    ),
    "windows for rows": (
        "methods: [dense, magnitude, wanda]",
        "calibration: $grasp_calibration\n    methods: [{method: wanda, calibration: {windows: 8}}]",
        ":11: the sampler 'rows' takes rows, not windows",
    ),
    "no amount": (
        "wanda]",
        "{method: wanda, calibration: {sampler: rows}}]",
        ":10: a calibration by 'rows' needs corpus, rows and length",
    ),
    "calibration for targets": (
        "targets: [{sparsity: 0.5}]",
        "targets: $grasp_calibration",
        ":9: targets is '$grasp_calibration', which the scale does not define; ",
    ),
    "target of an entry": (
        "wanda]",
        "{method: wanda, targets: [{parameters: 2}]}]",
        ":10: parameters is 2; expected a number between 0 and 1",
    ),
    "symbol of an entry": (
        "wanda]",
        "{method: wanda, targets: $sweeps}]",
        ":10: targets is '$sweeps', which the scale does not define; did you mean 'sweep'?",
    ),
    "kind of a claim": (
        "experiments:",
        "claims:\n- {id: c, statement: s, source: t, checks: [{kind: lesser, "
        "experiment: main}]}\nexperiments:",
        ":5: unknown kind 'lesser'; did you mean 'less'?",
    ),
    "a check without the bound it needs": (
        "experiments:",
        "claims:\n- {id: c, statement: s, source: t, checks: [{kind: layer_fact, experiment: main, "
        "method: wanda, fact: overlap}]}\nexperiments:",
        ":5: needs exactly one key of at_least, at_most",
    ),
    "a check with two bounds": (
        "experiments:",
        "claims:\n- {id: c, statement: s, source: t, checks: [{kind: layer_fact, experiment: main, "
        "method: wanda, fact: overlap, at_most: 1, at_least: 0}]}\nexperiments:",
        ":5: needs exactly one key of at_least, at_most",
    ),
    "quantity of a training": (
        "experiments:",
        "claims:\n- {id: c, statement: s, source: t, checks: [{kind: history_value, experiment: main, "
        "method: wanda, quantity: overlaps, at_least: 0.9}]}\nexperiments:",
        ":5: unknown quantity 'overlaps'; did you mean 'overlap'?",
    ),
    "fact of which no more is allowed": (
        "experiments:",
        "claims:\n- {id: c, statement: s, source: t, checks: [{kind: greater, experiment: main, left: wanda, "
        "right: wanda, protocol: perplexity-wanda, metric: perplexity, tasks: [wikitext2], "
        "no_more: encoder_head}]}\nexperiments:",
        ":5: unknown fact 'encoder_head'; did you mean 'encoder_heads'?",
    ),
    "fact of a table": (
        "experiments:",
        "tables: [{id: p, title: t, experiment: main, suite: perplexity, protocol: perplexity-wanda, "
        "metric: perplexity, tasks: [wikitext2], facts: [param]}]\nexperiments:",
        ":4: unknown fact 'param'; did you mean 'params'?",
    ),
    "key of a table of shares": (
        "experiments:",
        "tables: [{id: p, kind: shares, title: t, experiment: main, tasks: [cc], metric: shares}]\n"
        "experiments:",
        ":4: unknown key 'metric'",
    ),
    "experiment of a plot": (
        "experiments:",
        "plots: [{id: p, kind: allocation, title: t, experiment: mein, method: W}]\nexperiments:",
        ":4: unknown experiment 'mein'; did you mean 'main'?",
    ),
    "key of a table": (
        "experiments:",
        "tables: [{id: p, title: t, experiment: main, suite: perplexity, protocol: perplexity-wanda, "
        "tasks: [wikitext2]}]\nexperiments:",
        ":4: missing key 'metric'",
    ),
    "protocol of a table": (
        "experiments:",
        "tables: [{id: p, title: t, experiment: main, suite: downstream, protocol: zeroshot-bess, "
        "metric: accuracy, tasks: [piqa]}]\nexperiments:",
        ":4: unknown protocol 'zeroshot-bess'; did you mean 'zeroshot-besa'?",
    ),
    "task of a table": (
        "experiments:",
        "tables: [{id: p, title: t, experiment: main, suite: downstream, protocol: zeroshot-besa, "
        "metric: accuracy, tasks: [piqa, openbookqa]}]\nexperiments:",
        ":4: protocol 'zeroshot-besa' has no task 'openbookqa'; ",
    ),
    "task of a suite": (
        "suites: [perplexity-wanda]",
        "suites: [{protocol: zeroshot-besa, tasks: [bolq]}]",
        ":11: protocol 'zeroshot-besa' has no task 'bolq'; did you mean 'boolq'?",
    ),
}
ELSEWHERE = {  # what is wrong: file, old text, new text, message; {line} is the last line of the new text
    "key of a protocol": (
        "config/protocols/perplexity-wanda.yaml",
        "version: 1",
        "version: 1\nwindws: 3",
        ":{line}: unknown key 'windws' in top level; did you mean 'windows'?",
    ),
    "protocol of a scale": (
        "config/scales/smoke.yaml",
        "perplexity-wanda:",
        "perplexity-wandas:",
        ":{line}: unknown protocol 'perplexity-wandas'; did you mean 'perplexity-wanda'?",
    ),
    "name of a protocol": (
        "config/protocols/perplexity-wanda.yaml",
        "name: perplexity-wanda",
        "name: perplexity-mine",
        ":{line}: name is 'perplexity-mine', the file is 'perplexity-wanda'",
    ),
    "model of a scale": (
        "config/scales/smoke.yaml",
        "models: [tiny-llama, ",
        "models: [tiny-lama, ",
        ":{line}: unknown model 'tiny-lama'; did you mean 'tiny-llama'?",
    ),
    "target of a scale": (
        "config/scales/smoke.yaml",
        "sweep: [{sparsity: 0.4}",
        "sweep: [{sparsity: 4}",
        ":{line}: values.sweep.0.sparsity: 4 is greater than or equal to the maximum of 1",
    ),
    "seeds of a scale": (
        "config/scales/smoke.yaml",
        "seeds: [0]",
        "seeds: zero",
        ":{line}: values.seeds: 'zero' is not of type 'array'",
    ),
    "size of a scale": (
        "config/scales/smoke.yaml",
        "windows: 8, length: 32",
        "windows: 8, length: 32, lenght: 16",
        ":{line}: unknown key 'lenght' in values.calibration; did you mean 'length'?",
    ),
    "rows for windows in a scale": (
        "config/scales/smoke.yaml",
        "rows: 64, length: 32, sampler: rows",
        "rows: 64, length: 32",
        ":{line}: the sampler 'document_crop' takes windows, not rows",
    ),
    "key of a further calibration": (
        "config/scales/smoke.yaml",
        "rows: 64, length: 32",
        "row: 64, length: 32",
        ":{line}: unknown key 'row' in values.grasp_calibration; did you mean 'rows'?",
    ),
    "corpus of a further calibration": (
        "config/scales/smoke.yaml",
        "corpus: made-rows",
        "corpus: made-row",
        ":{line}: unknown corpus 'made-row'; did you mean 'made-rows'?",
    ),
    "skip with a size": (
        "config/scales/smoke.yaml",
        "gsm8k-grasp: {skip: ",
        "gsm8k-grasp: {limit: 3, skip: ",
        ":{line}: protocols.gsm8k-grasp: ",
    ),
    "skip of a text": (
        "config/scales/smoke.yaml",
        "perplexity-wanda: {window: 64, windows: 6}",
        "perplexity-wanda: {skip: no time}",
        ":{line}: protocol 'perplexity-wanda' has no size 'skip'; it has window, windows",
    ),
    "corpus of a scale": (
        "config/scales/smoke.yaml",
        "c4-train: made-rows",
        "c4-trian: made-rows",
        ":{line}: unknown corpus 'c4-trian'; did you mean 'c4-train'?",
    ),
    "stand-in of a scale": (
        "config/scales/smoke.yaml",
        "wikitext2-test: made-test",
        "wikitext2-test: made-tests",
        ":{line}: unknown corpus 'made-tests'; did you mean 'made-test'?",
    ),
    "task of a protocol": (
        "config/protocols/zeroshot-besa.yaml",
        "  boolq: {metric: acc, shots: 0}",
        "  boolq: {metric: acc, shots: 0}\n  sciqq: {metric: acc, shots: 0}",
        ":{line}: unknown task 'sciqq'; did you mean 'sciq'?",
    ),
    "averaged task": (
        "config/protocols/zeroshot-wanda.yaml",
        "average: [boolq,",
        "average: [piqa,",
        ":{line}: 'piqa' is none of the protocol's tasks; ",
    ),
    "metric of a task": (
        "config/protocols/zeroshot-besa.yaml",
        "  piqa: {metric: acc,",
        "  piqa: {metric: accnorm,",
        ":{line}: tasks.piqa.metric is 'accnorm'; did you mean 'acc_norm'?",
    ),
    "limit of nothing": (
        "config/scales/smoke.yaml",
        "zeroshot-besa: {limit: 6}",
        "zeroshot-besa: {limit: 0}",
        ":{line}: protocols.zeroshot-besa.limit: 0 is less than the minimum of 1 "
        "(expected: items of a task at most or null for all)",
    ),
    "size of another suite": (
        "config/scales/smoke.yaml",
        "zeroshot-besa: {limit: 6}",
        "zeroshot-besa: {windows: 6}",
        ":{line}: protocol 'zeroshot-besa' has no size 'windows'; it has limit",
    ),
    "method file": (
        "papers/wanda/method.py",
        "class Wanda(BlockMethod)",
        "class Wanda",
        "method.py: expected one subclass of BlockMethod, ModelMethod, StructuralMethod, found 0",
    ),
    "method file that fails": (
        "papers/wanda/method.py",
        "masks = ",
        "masks = nothing",
        "method.py: cannot be imported: NameError: ",
    ),
}


@pytest.mark.parametrize("what", IN_PAPER)
def test_one_mistake_in_a_paper_is_one_line_with_its_place(project, what):
    old, new, message = IN_PAPER[what]
    project.edit(PAPER, old, new)
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}{message}")


@pytest.mark.parametrize("what", ELSEWHERE)
def test_one_mistake_elsewhere_is_one_line_with_its_place(project, what):
    file, old, new, message = ELSEWHERE[what]
    project.edit(file, old, new)
    last = (project.root / file).read_text().partition(new)[0].count("\n") + 1 + new.count("\n")
    (line,) = project.complaints()
    assert line.startswith(file) and message.format(line=last) in line


def test_a_package_that_is_not_listed_is_named_with_the_corpus(project):
    member = "member: exllamav3/conversion/standard_cal_data/wiki"
    project.edit("config/data.yaml", f"{{package: exllamav3, {member}", f"{{package: exllama, {member}")
    (line,) = project.complaints(scale="local")
    assert "corpora.wikitext2-test names unknown package 'exllama'; did you mean 'exllamav3'?" in line


def test_a_misspelt_scale_names_the_nearest(project):
    assert project.complaints(scale="smok") == [
        "scale: unknown scale 'smok'; did you mean 'smoke'? known: full, local, paper, smoke"
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mirror": "/no/such/folder"}, "mirror: /no/such/folder is not a folder"),
        ({"papers": ["papers", "elsewhere"]}, "papers: no folder elsewhere"),
        ({"thread": 2}, "unknown key 'thread' in top level; did you mean 'threads'?"),
        ({"threads": 0}, "threads: 0 is less than the minimum of 1"),
    ],
)
def test_a_wrong_choice_of_the_user_is_one_line(project, config, message):
    (line,) = project.complaints(**config)
    assert message in line


def test_a_method_that_two_folders_define_is_refused(project):
    project.write("mine/wanda/method.py", (project.root / "papers/wanda/method.py").read_text())
    (line,) = project.complaints(papers=["papers", "mine"])
    assert line.startswith("mine/wanda/method.py: ") and "papers/wanda/method.py" in line


def test_a_paper_that_two_folders_define_is_refused(project):
    project.write("mine/mini/paper.yaml", MINI)
    assert project.complaints(papers=["papers", "mine"]) == [
        "mine/mini/paper.yaml:1: another folder has a paper 'mini' already"
    ]


def test_a_corpus_that_no_source_of_the_scale_has_is_refused(project):
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [hub]")
    project.edit("config/scales/smoke.yaml", "  c4-train: made-rows\n", "")
    project.edit(
        "config/data.yaml",
        "    hub: {path: allenai/c4, data_files: "
        "en/c4-train.00000-of-01024.json.gz, column: text, fit: equal}\n",
        "",
    )
    project.edit(PAPER, "wanda]", "{method: wanda, calibration: {corpus: c4-train}}]")
    (line,) = project.complaints()
    assert line == (
        f"{PAPER}:10: corpus 'c4-train' has none of the scale's sources, hub; add one to config/data.yaml"
    )


def test_all_mistakes_are_shown_at_once(project):
    """In one paper: four; beside another paper that is no paper, and a mirror that is not there."""
    text = (
        MINI.replace("tiny-llama", "tiny-lama, tiny-llama")
        .replace("0.5", "1.5")
        .replace("magnitude,", "magnitud,")
        .replace("perplexity-wanda", "perplexity-wand")
    )
    project.write(PAPER, text)
    project.write("papers/second/paper.yaml", "id: second\ntitle: 3\n")
    lines = project.complaints(mirror="/no/such/folder")
    wanted = [
        "'tiny-lama'",
        "sparsity is 1.5",
        "'magnitud'",
        "'perplexity-wand'",
        "summary",
        "title: 3",
        "/no/such/folder",
    ]
    assert [sum(word in line for line in lines) for word in wanted] == [1] * len(wanted), lines


def ask_for(project, task, shots):
    project.edit("config/protocols/zeroshot-besa.yaml", "shots: 0}", f"shots: {shots}}}")
    project.edit("config/protocols/zeroshot-besa.yaml", "  piqa:", f"  {task}:")
    project.edit("config/protocols/zeroshot-besa.yaml", "[piqa, ", "[")
    project.edit(PAPER, "[perplexity-wanda]", "[zeroshot-besa]")


def test_more_examples_than_there_are_is_refused_while_planning(project):
    ask_for(project, "piqa", 41)
    assert project.complaints() == [
        "config/protocols/zeroshot-besa.yaml:13: task 'piqa' is asked for 41 examples in the prompt, "
        "made has 40"
    ]


def test_a_task_without_a_pool_of_examples_is_refused_where_they_are_asked_for(project):
    ask_for(project, "lambada_openai", 2)
    assert project.complaints() == [
        "config/protocols/zeroshot-besa.yaml:13: task 'lambada_openai' has no examples to put into a prompt; "
        "set shots: 0"
    ]
