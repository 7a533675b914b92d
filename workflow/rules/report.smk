# The report a person reads, the same as text for the terminal, and all records in one csv.


rule report:
    input:
        view_files(PLAN.default_units),
    output:
        html=report_file(PLAN.out),
        text=RESULTS / PLAN.out / "report.txt",
        records=RESULTS / PLAN.out / "records.csv",
    log:
        RESULTS / PLAN.out / "report.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=JOBS.report(PLAN.default_units),
    script:
        "../scripts/report.py"


rule report_unit:
    input:
        lambda w: view_files([w.unit]),
    output:
        html=UNIT / "report.html",
        text=UNIT / "report.txt",
    log:
        UNIT / "logs" / "report.log",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        job=lambda w: JOBS.report([w.unit]),
    script:
        "../scripts/report.py"
