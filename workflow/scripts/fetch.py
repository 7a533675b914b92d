"""Job of the rules that run the stage ``fetch``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.fetch")  # noqa: F821 - the workflow engine provides `snakemake`
