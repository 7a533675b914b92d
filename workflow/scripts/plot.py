"""Job of the rules that run the stage ``plot``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.plot")  # noqa: F821 - the workflow engine provides `snakemake`
