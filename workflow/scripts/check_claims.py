"""Job of the rules that run the stage ``check_claims``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.check_claims")  # noqa: F821 - the workflow engine provides `snakemake`
