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
