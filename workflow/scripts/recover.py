"""Job of the rules that run the stage ``recover``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.recover")  # noqa: F821 - the workflow engine provides `snakemake`
