# Tables, plots and verdicts: views over a unit's records, none of them imports torch.


rule tabulate:
    input:
        rules.collect.output,
    output:
        folder=directory(UNIT / "tables"),
    log:
        UNIT / "logs" / "tabulate.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=lambda w: JOBS.view(w.unit, "tables", "tabulate"),
    script:
        "../scripts/tabulate.py"


rule plot:
    input:
        rules.collect.output,
    output:
        folder=report(
            directory(UNIT / "plots"),
            patterns=["{plot}.svg"],
            category="{unit}",
            caption="../report/plot.rst",
            labels={"plot": "{plot}"},
        ),
    log:
        UNIT / "logs" / "plot.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=lambda w: JOBS.view(w.unit, "plots", "plot"),
    script:
        "../scripts/plot.py"


rule check_claims:
    input:
        rules.collect.output,
    output:
        file=UNIT / "claims.json",
    log:
        UNIT / "logs" / "check_claims.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=lambda w: JOBS.view(w.unit, "claims", "check_claims"),
    script:
        "../scripts/check_claims.py"
