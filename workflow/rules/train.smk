# A translation model trained from nothing; goes on where it was if it was killed.


rule train_model:
    input:
        parallel=lambda w: PARALLEL / f"{PLAN.models[w.model].parallel.id}.parquet",
    output:
        folder=directory(MODELS / "{model}"),
        facts=MODELS / "{model}.json",
    log:
        RESULTS / "logs" / "train_model" / "{model}.log",
    benchmark:
        RESULTS / "benchmarks" / "train_model" / "{model}.tsv"
    wildcard_constraints:
        model=models_named(trained=True) or "none",
    priority: 20
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=6000,
        runtime=600,
    params:
        job=lambda w: JOBS.train_model(w.model),
    script:
        "../scripts/train_model.py"
