# The answers of two runs, compared by a judge in both orders.


rule judge:
    input:
        unpack(judge_input),
    output:
        judgement=JUDGED / "{judgement}.json",
    log:
        JUDGED / "logs" / "{judgement}.log",
    benchmark:
        JUDGED / "logs" / "{judgement}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda w: judge_resources(PLAN.judgements[w.judgement])["mem_mb"],
        runtime=lambda w: judge_resources(PLAN.judgements[w.judgement])["runtime"],
    params:
        job=lambda w: JOBS.judge(w.judgement),
    script:
        "../scripts/judge.py"
