"""Job of the rules that run the stage ``collect``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.collect")  # noqa: F821 - the workflow engine provides `snakemake`
