# Calibration windows, drawn once per corpus, tokenizer, size and seed; shared by all methods.


rule draw_calibration:
    input:
        documents=lambda w: CORPORA
        / f"{PLAN.calibrations[w.calibration].corpus.id}.parquet",
        model=lambda w: MODELS / PLAN.calibrations[w.calibration].model.id,
    output:
        windows=CALIBRATION / "{calibration}.safetensors",
        facts=CALIBRATION / "{calibration}.json",
    log:
        RESULTS / "logs" / "draw_calibration" / "{calibration}.log",
    benchmark:
        RESULTS / "benchmarks" / "draw_calibration" / "{calibration}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=lambda w: JOBS.calibration(w.calibration),
    script:
        "../scripts/calibrate.py"


# Windows of every domain of a mixture, drawn once per texts, tokenizer and size; shared by methods and recoveries.


rule draw_mixture:
    input:
        documents=lambda w: [
            CORPORA / f"{corpus.id}.parquet"
            for corpus in PLAN.mixtures[w.mixture].corpora
        ],
        model=lambda w: MODELS / PLAN.mixtures[w.mixture].model.id,
    output:
        windows=MIXTURES / "{mixture}.safetensors",
        facts=MIXTURES / "{mixture}.json",
    log:
        RESULTS / "logs" / "draw_mixture" / "{mixture}.log",
    benchmark:
        RESULTS / "benchmarks" / "draw_mixture" / "{mixture}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        job=lambda w: JOBS.mixture(w.mixture),
    script:
        "../scripts/mix.py"
