"""Job of the rules that run the stage ``mix``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.mix")  # noqa: F821 - the workflow engine provides `snakemake`
