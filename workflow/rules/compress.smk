# One method on one model at one target; goes on at its block if it was killed.


rule compress:
    input:
        unpack(compress_input),
    output:
        checkpoint=directory(RUNS / "{run}" / "checkpoint"),
        facts=RUNS / "{run}" / "checkpoint.json",
    log:
        RUNS / "{run}" / "logs" / "compress.log",
    benchmark:
        RUNS / "{run}" / "logs" / "compress.tsv"
    wildcard_constraints:
        run=runs_named(recovered=False) or "none",
    priority: 10
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda w: compress_resources(PLAN.runs[w.run])["mem_mb"],
        runtime=lambda w: compress_resources(PLAN.runs[w.run])["runtime"],
    params:
        job=lambda w: JOBS.compress(w.run),
    script:
        "../scripts/compress.py"
