"""Job of the rules that run the stage ``evaluate``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.evaluate")  # noqa: F821 - the workflow engine provides `snakemake`
