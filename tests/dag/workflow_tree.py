"""A copy of the project in which the real workflow runs, and what its output says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "papers", "profiles", "reprune", "envs")
COST = ["compress_s", "evaluate_s", "peak_rss_mb", "created"]
CACHES = shutil.ignore_patterns("__pycache__", "*.pyc")


class Tree:
    """The project without results: with its own papers, or with its methods and the papers of the tests."""

    def __init__(self, root: Path, own_papers: bool = False) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=CACHES)
            else:
                shutil.copy(source, root / part)
        if not own_papers:
            for paper in (root / "papers").glob("*/paper.yaml"):
                paper.unlink()
            tests = Path(__file__).parent / "papers"
            shutil.copytree(tests, root / "papers", ignore=CACHES, dirs_exist_ok=True)
        self.trace = root / "trace.txt"
        self.results = root / "results"

    def command(
        self, *arguments: str, cores: int = 2, config: tuple[str, ...] = ("scale=smoke",)
    ) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments, "--config", *config]

    def environment(self, **more: str) -> dict[str, str]:
        """The developer's, less a mirror, without the hub; the copy's own library."""
        kept = {name: value for name, value in os.environ.items() if name != "REPRUNE_MIRROR"}
        return {
            **kept,
            "PYTHONPATH": str(self.root),
            "HF_HUB_OFFLINE": "1",
            "STALL_TRACE": str(self.trace),
            "HF_HOME": str(self.root / "hub"),
            **more,
        }

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Runs the workflow, at scale smoke unless told otherwise; standard error is in ``stdout``."""
        return subprocess.run(
            self.command(*arguments, **options),
            cwd=self.root,
            text=True,
            check=False,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def kill_at_block(self, index: int, **options) -> None:
        """Starts the workflow and kills it, and all it started, when the method is at block ``index``."""
        started = subprocess.Popen(
            self.command("stall", **options),
            cwd=self.root,
            env=self.environment(STALL="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + 200
            while not self.trace.is_file() or str(index) not in self.trace.read_text().split():
                assert started.poll() is None, "the workflow ended before the method was reached"
                assert time.monotonic() < until, "the method was not reached in time"
                time.sleep(0.1)
        finally:
            family = psutil.Process(started.pid).children(recursive=True)
            for process in [psutil.Process(started.pid), *family]:
                process.kill()
            started.wait()

    def jobs(self, *arguments: str) -> set[tuple[str, str]]:
        """What a dry run would do: rule, and the method of its run or the unit."""
        done = self.run("stall", "--dry-run", "--quiet", "host", *arguments)
        found = re.findall(r"^rule (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
        assert done.returncode == 0 and (found or "Nothing to be done" in done.stdout), done.stdout
        wildcards = [(rule, re.search(r"wildcards: \w+=([a-z]+)", lines)) for rule, lines in found]
        return {(rule, match.group(1)) for rule, match in wildcards if match}

    def records(self) -> pd.DataFrame:
        """The unit's records without what work cost, in a fixed order; every digit as written."""
        records = pd.read_csv(self.results / "smoke" / "stall" / "records.csv", dtype=str)
        return records.drop(columns=COST).sort_values(["run_id", "protocol", "task"], ignore_index=True)

    def items(self) -> pd.DataFrame:
        items = pd.read_parquet(self.results / "smoke" / "stall" / "items.parquet")
        return items.sort_values(list(items.columns[:-1]), ignore_index=True)

    def run_folder(self, method: str) -> Path:
        (folder,) = (self.results / "runs").glob(f"{method}-*")
        return folder
