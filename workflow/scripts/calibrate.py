"""Job of the rules that run the stage ``calibrate``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.calibrate")  # noqa: F821 - the workflow engine provides `snakemake`
