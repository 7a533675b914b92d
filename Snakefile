# The whole workflow: plan, rules by stage, `all`, and one target per paper. `snakemake -n` shows the plan.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        targets(PLAN.default_units),
        report_file(PLAN.out),
        RESULTS / PLAN.out / "records.csv",


for name in PLAN.units:

    rule:
        name:
            name
        input:
            targets([name]),
            report_file(PLAN.out, name),


include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/compress.smk"
include: "workflow/rules/recover.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/views.smk"
include: "workflow/rules/report.smk"
