# Training after compression; rows with and without recovery share one compressed checkpoint.


rule recover:
    input:
        unpack(recover_input),
    output:
        checkpoint=directory(RUNS / "{run}" / "checkpoint"),
        facts=RUNS / "{run}" / "checkpoint.json",
    log:
        RUNS / "{run}" / "logs" / "recover.log",
    benchmark:
        RUNS / "{run}" / "logs" / "recover.tsv"
    wildcard_constraints:
        run=runs_named(recovered=True) or "none",
    priority: 10
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda w: recover_resources(PLAN.runs[w.run])["mem_mb"],
        runtime=lambda w: recover_resources(PLAN.runs[w.run])["runtime"],
    params:
        job=lambda w: JOBS.recover(w.run),
    script:
        "../scripts/recover.py"
