"""Job of the rules that run the stage ``report``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.report")  # noqa: F821 - the workflow engine provides `snakemake`
