"""A project of its own to plan and run in: the real configuration, three real methods, one small paper."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reprune.plan.plan import Plan, build_plan
from reprune.plan.problems import ConfigError

PAPER = Path("papers/mini/paper.yaml")
MINI = """\
id: mini
title: A small paper
summary: For tests.
experiments:
  main:
    title: Main
    models: [tiny-llama]
    seeds: [0, 1]
    targets: [{sparsity: 0.5}]
    methods: [dense, magnitude, wanda]
    suites: [perplexity-wanda]
"""
THIN = """\
from reprune.lazy import LazyModule
from reprune.method import StructuralMethod

low_rank = LazyModule("reprune.surgery.low_rank")


class Thin(StructuralMethod):
    kinds = ("low_rank",)
    requires_calibration = False

    def compress(self, subject):
        last = len(subject.blocks) - 1
        for name, layer in subject.linears().items():
            if name.startswith(f"{subject.prefix}.{last}."):
                up, down = low_rank.balanced(*low_rank.svd(layer.weight))
                rank = low_rank.rank_for(*layer.weight.shape, 0.5)
                subject.factor(name, up[:, :rank], down[:rank])
        subject.replaced.add(last)
        subject.notes["chosen"] = [last]
"""  # a method for tests of recovery: the last block in half its weights

BLEND = """\
from dataclasses import dataclass

from reprune.lazy import LazyModule
from reprune.method import StructuralMethod, setting

layers = LazyModule("reprune.surgery.layers")


@dataclass(frozen=True)
class Settings:
    steps: int = setting(10, "steps", minimum=1)


class Blend(StructuralMethod):
    Settings = Settings
    kinds = ("layer",)
    requires_calibration = False
    requires_mixture = True

    @classmethod
    def mixture_work(cls, settings):
        return 4 * settings.steps, 1

    def compress(self, subject):
        layers.drop_blocks(subject.model, [0])
        subject.notes["proportions"] = subject.mixture.proportions
        subject.notes["windows"] = {name: list(found.shape) for name, found in subject.mixture.train.items()}
"""  # a method that is given a mixture of domains: it drops a block and tells what it saw


@dataclass
class Project:
    """A folder with ``config/`` and ``papers/``."""

    root: Path

    def write(self, file: str | Path, text: str) -> None:
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text, encoding="utf-8")
        sys.modules.pop(f"papers.{Path(file).parent.name}.method", None)  # a process imports a file once

    def edit(self, file: str | Path, old: str, new: str) -> None:
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}"
        self.write(file, text.replace(old, new, 1))

    def plan(self, **config: Any) -> Plan:
        return build_plan({"scale": "smoke", **config}, root=self.root)

    def complaints(self, **config: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.plan(**config)
        return str(caught.value).splitlines()


def make_project(source: Path, target: Path) -> Project:
    """The paper `mini` beside the methods dense, magnitude and wanda of the repository ``source``."""
    shutil.copytree(source / "config", target / "config")
    for name in ("dense", "magnitude", "wanda"):
        (target / "papers" / name).mkdir(parents=True)
        shutil.copy(source / "papers" / name / "method.py", target / "papers" / name)
    made = Project(target)
    made.write(PAPER, MINI)
    return made
