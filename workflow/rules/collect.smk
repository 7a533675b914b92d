# A unit's records, per-item values, comparisons, layer facts and notes in one folder.


rule collect:
    input:
        evaluations=lambda w: [
            evaluation_of(run, w.unit) for run in measured_runs(w.unit)
        ],
        facts=lambda w: [
            RUNS / run.id / "checkpoint.json" for run in measured_runs(w.unit)
        ],
        judgements=lambda w: judgements_of(w.unit),
    output:
        records=UNIT / "records.parquet",
        csv=UNIT / "records.csv",
        per_item=UNIT / "items.parquet",
        layers=UNIT / "layers.parquet",
        notes=UNIT / "notes.json",
        unit=UNIT / "unit.json",
    log:
        UNIT / "logs" / "collect.log",
    benchmark:
        UNIT / "logs" / "collect.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=lambda w: JOBS.collect(w.unit),
    script:
        "../scripts/collect.py"
