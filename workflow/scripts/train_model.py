"""Job of the rules that run the stage ``train_model``."""

from reprune.stages.job import run_job

run_job(snakemake, "reprune.stages.train_model")  # noqa: F821 - the workflow engine provides `snakemake`
