# All suites of a run in one job; each finished task is kept at once.


rule evaluate:
    input:
        unpack(evaluate_input),
    output:
        evaluation=RUNS / "{run}" / "evaluation-{evaluation}.json",
    log:
        RUNS / "{run}" / "logs" / "evaluate-{evaluation}.log",
    benchmark:
        RUNS / "{run}" / "logs" / "evaluate-{evaluation}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda w: evaluate_resources(PLAN.runs[w.run])["mem_mb"],
        runtime=lambda w: evaluate_resources(PLAN.runs[w.run])["runtime"],
    params:
        job=lambda w: JOBS.evaluate(w.run, group_of(w)),
    script:
        "../scripts/evaluate.py"
