"""Job of the rules that run the stage ``tabulate``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.tabulate")  # noqa: F821 - the workflow engine provides `snakemake`
