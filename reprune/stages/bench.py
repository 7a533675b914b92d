"""The models, tokenizer and inputs of one run's evaluation, loaded when first needed."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from reprune.data.corpora import documents_hash, read_corpus
from reprune.data.instructions import instructions_hash, read_instructions
from reprune.data.parallel import pairs_hash, read_pairs
from reprune.data.parsers import load_parser
from reprune.evaluation.answers import SUITE as ANSWERS
from reprune.evaluation.answers import answers
from reprune.evaluation.block_error import block_errors
from reprune.evaluation.downstream import SUITE as DOWNSTREAM
from reprune.evaluation.downstream import score
from reprune.evaluation.efficiency import SUITE as EFFICIENCY
from reprune.evaluation.efficiency import sizes, speed
from reprune.evaluation.head_roles import SUITE as HEAD_ROLES
from reprune.evaluation.head_roles import measure_roles
from reprune.evaluation.perplexity import summarise, window_losses
from reprune.evaluation.response import SUITE as RESPONSE
from reprune.evaluation.response import response_losses
from reprune.evaluation.text import evaluation_windows
from reprune.evaluation.translation import SUITE as TRANSLATION
from reprune.evaluation.translation import measure as translations
from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder, load_tokenizer
from reprune.records.files import read_json
from reprune.records.progress import Progress
from reprune.stages.job import Job

GENERATED_AT_ONCE = 8


class Bench:
    """Measures the suites on a run's checkpoint."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.facts = read_json(Path(job.input["facts"]))
        self.dtype = job.params["dtype"]
        self._lms: dict[str, Any] = {}

    def measure(self, content: dict[str, Any], task: str, say: Progress) -> dict[str, Any]:
        """What one task of a suite gives: lm-eval's findings, or a value with those of its windows."""
        spec = content["tasks"][task]
        if content["suite"] == DOWNSTREAM:
            folder = Path(self.job.params["tasks"][spec["data"]]["folder"])
            data = read_json(folder.with_suffix(".json"))
            lm = self.lm(content["special_tokens"])
            return {**score(lm, folder, spec["shots"], content, say), "data_hash": data["hash"]}
        if content["suite"] == EFFICIENCY:
            return {**self.efficiency(spec, content["repeats"], say), "data_hash": None}
        file = Path(self.job.params["corpora"][spec["corpus"]]["file"])
        if content["suite"] == HEAD_ROLES:
            return self.head_roles(spec, content, say)
        if content["suite"] == RESPONSE:
            return self.response(read_instructions(file), content, task, say)
        if content["suite"] == TRANSLATION:
            pairs = read_pairs(file, spec["part"])
            measured = translations(self.model, self.tokenizer, pairs, content, say)
            return {**measured, "data_hash": pairs_hash(pairs)}
        if content["suite"] == ANSWERS:
            return self.answers(read_instructions(file), content, task, say)
        documents = read_corpus(file)
        windows = evaluation_windows(documents, spec, content, self.tokenizer, self.job.params["separator"])
        measured = _TEXT_SUITES[content["suite"]](self, windows, say)
        return {
            **measured,
            "higher_is_better": False,
            "n": len(windows),
            "data_hash": documents_hash(documents),
        }

    def lm(self, special_tokens: str) -> Any:
        """The model as lm-eval sees it; special tokens ``none`` keeps a tokenizer from adding its own."""
        from reprune.evaluation.engine import RepruneLM

        if special_tokens not in self._lms:
            self._lms[special_tokens] = RepruneLM(
                self.model,
                tokenizer=self.tokenizer,
                batch_size=max(GENERATED_AT_ONCE, self.job.params["batch_size"]),
                add_bos_token=False if special_tokens == "none" else None,
            )
        return self._lms[special_tokens]

    def perplexity(self, windows: torch.Tensor, say: Progress) -> dict[str, Any]:
        """Perplexity and every window's loss."""
        return _perplexity(window_losses(self.model, windows, self.job.params["batch_size"], say))

    def response(
        self, rows: list[dict[str, str]], content: dict[str, Any], task: str, say: Progress
    ) -> dict[str, Any]:
        """Perplexity of held-out answers and every row's loss."""
        losses = response_losses(self.model, self.tokenizer, rows, content, task, say)
        told = {"higher_is_better": False, "n": len(losses), "data_hash": instructions_hash(rows)}
        return {**_perplexity(losses), **told}

    def head_roles(self, spec: dict[str, Any], content: dict[str, Any], say: Progress) -> dict[str, Any]:
        """Which roles the encoder's heads have."""
        file = Path(self.job.params["corpora"][spec["corpus"]]["file"])
        pairs = [pair for part in spec["parts"] for pair in read_pairs(file, part)]
        told = measure_roles(
            self.model,
            self.tokenizer,
            [pair.source for pair in pairs],
            [pair.source for pair in read_pairs(file, "train")],
            load_parser(Path(self.job.params["parsers"][spec["parser"]])),
            self.facts["notes"].get("heads", {}).get("kept", {}).get("encoder"),
            content,
            say,
        )
        return {**told, "data_hash": pairs_hash(pairs)}

    def answers(
        self, rows: list[dict[str, str]], content: dict[str, Any], task: str, say: Progress
    ) -> dict[str, Any]:
        """The model's answers to held-out rows, and how long they are."""
        return {
            **answers(self.lm("default"), rows, content, task, say),
            "data_hash": instructions_hash(rows),
        }

    def block_error(self, windows: torch.Tensor, say: Progress) -> dict[str, Any]:
        """Relative error after the last block, and after every block of every window."""
        errors = block_errors(self.dense, self.model, windows, say)
        last = errors[:, -1]
        finite = bool(torch.isfinite(errors).all())
        return {
            "metric": "relative_error",
            "unit": "share",
            "value": last.mean().item() if finite else None,
            "stderr": (last.std() / math.sqrt(len(last))).item() if finite and len(last) > 1 else None,
            "reason": None if finite else "hidden states are not finite",
            "items": [
                {
                    "metric": "relative_error",
                    "item": i,
                    "part": b,
                    "value": errors[i, b].item() if finite else None,
                }
                for i in range(errors.shape[0])
                for b in range(errors.shape[1])
            ],
        }

    def efficiency(self, spec: dict[str, Any], repeats: int, say: Progress) -> dict[str, Any]:
        """Counts on the model, or how fast it is beside the dense one."""
        if spec["kind"] == "size":
            return sizes(self.dense, self.model, spec["length"])
        return speed(self.dense, self.model, spec, repeats, say)

    @cached_property
    def model(self) -> Any:
        folder = ModelFolder(Path(self.job.input["checkpoint"]))
        folder.check(self.facts["hash"])
        return load_model(folder.path, getattr(torch, self.dtype))

    @cached_property
    def dense(self) -> Any:
        return load_model(Path(self.job.input["model"]), getattr(torch, self.dtype))

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.job.input["model"])


def _perplexity(losses: list[float]) -> dict[str, Any]:
    """exp of the mean of ``losses``, each the mean of an item's tokens, and the losses themselves."""
    result = summarise(losses)
    finite = math.isfinite(result.value)
    return {
        "metric": "perplexity",
        "unit": "token",
        "value": result.value if finite else None,
        "stderr": result.stderr if math.isfinite(result.stderr) else None,
        "reason": None if finite else "perplexity is not finite",
        "items": [
            {"metric": "nll", "item": i, "part": None, "value": loss if math.isfinite(loss) else None}
            for i, loss in enumerate(losses)
        ],
    }


_TEXT_SUITES = {"perplexity": Bench.perplexity, "block_error": Bench.block_error}
