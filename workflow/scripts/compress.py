"""Job of the rules that run the stage ``compress``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.compress")  # noqa: F821 - the workflow engine provides `snakemake`
