# Inputs: packages as archives, corpora as documents, instructions as rows, models as safetensors folders.


rule fetch_package:
    output:
        file=PACKAGES / "{file}",
    log:
        RESULTS / "logs" / "fetch_package" / "{file}.log",
    wildcard_constraints:
        file="|".join(p["file"] for p in PLAN.packages.values()) or "none",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=30,
    params:
        job=lambda w: JOBS.package(
            next(n for n, p in PLAN.packages.items() if p["file"] == w.file)
        ),
    script:
        "../scripts/fetch.py"


rule fetch_corpus:
    input:
        unpack(lambda w: archive_of(PLAN.corpora[w.corpus].content)),
    output:
        documents=CORPORA / "{corpus}.parquet",
        facts=CORPORA / "{corpus}.json",
    log:
        RESULTS / "logs" / "fetch_corpus" / "{corpus}.log",
    benchmark:
        RESULTS / "benchmarks" / "fetch_corpus" / "{corpus}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=lambda w: JOBS.corpus(w.corpus),
    script:
        "../scripts/fetch.py"


rule fetch_instructions:
    input:
        unpack(lambda w: archive_of(PLAN.instructions[w.data].content)),
    output:
        rows=INSTRUCTIONS / "{data}.parquet",
        facts=INSTRUCTIONS / "{data}.json",
    log:
        RESULTS / "logs" / "fetch_instructions" / "{data}.log",
    benchmark:
        RESULTS / "benchmarks" / "fetch_instructions" / "{data}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=lambda w: JOBS.instructions(w.data),
    script:
        "../scripts/fetch.py"


rule fetch_parallel:
    input:
        unpack(lambda w: archive_of(PLAN.parallel[w.pairs].content)),
    output:
        pairs=PARALLEL / "{pairs}.parquet",
        facts=PARALLEL / "{pairs}.json",
    log:
        RESULTS / "logs" / "fetch_parallel" / "{pairs}.log",
    benchmark:
        RESULTS / "benchmarks" / "fetch_parallel" / "{pairs}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=lambda w: JOBS.parallel(w.pairs),
    script:
        "../scripts/fetch.py"


rule fetch_parser:
    input:
        unpack(lambda w: archive_of(PLAN.parsers[w.parser].content)),
    output:
        folder=directory(PARSERS / "{parser}"),
        facts=PARSERS / "{parser}.json",
    log:
        RESULTS / "logs" / "fetch_parser" / "{parser}.log",
    benchmark:
        RESULTS / "benchmarks" / "fetch_parser" / "{parser}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=30,
    params:
        job=lambda w: JOBS.parser(w.parser),
    script:
        "../scripts/fetch.py"


rule fetch_task:
    input:
        archives=lambda w: [
            PACKAGES / PLAN.packages[name]["file"]
            for name in PLAN.tasks[w.task].packages
        ],
    output:
        folder=directory(TASKS / "{task}"),
        facts=TASKS / "{task}.json",
    log:
        RESULTS / "logs" / "fetch_task" / "{task}.log",
    benchmark:
        RESULTS / "benchmarks" / "fetch_task" / "{task}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=lambda w: JOBS.task(w.task),
    script:
        "../scripts/fetch.py"


rule fetch_model:
    input:
        unpack(lambda w: archive_of(PLAN.models[w.model].content["source"])),
    output:
        folder=directory(MODELS / "{model}"),
        facts=MODELS / "{model}.json",
    log:
        RESULTS / "logs" / "fetch_model" / "{model}.log",
    benchmark:
        RESULTS / "benchmarks" / "fetch_model" / "{model}.tsv"
    wildcard_constraints:
        model=models_named(trained=False) or "none",
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        job=lambda w: JOBS.model(w.model),
    script:
        "../scripts/fetch.py"
