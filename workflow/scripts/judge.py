"""Job of the rules that run the stage ``judge``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.judge")  # noqa: F821 - the workflow engine provides `snakemake`
