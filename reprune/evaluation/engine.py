"""The scoring engine: lm-eval's ``hf`` model with every shared token computed once.

Tokenisation, truncation and chat templates are lm-eval's own, inherited; the scoring of continuations is
replaced (see :mod:`reprune.evaluation.packing`), and so is greedy generation (see
:mod:`reprune.evaluation.generation`). Importing this module registers the model under the name ``reprune``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.models.utils_hf import stop_sequences_criteria

from reprune.evaluation.generation import Prompt, generate
from reprune.evaluation.packed_forward import Trunk, packed_attention, packed_logits, passes
from reprune.evaluation.packing import Block, Group, lay_out
from reprune.evaluation.text import ProtocolError
from reprune.evaluation.trial import packs_exactly, plain_logits, tolerance, wide

PASS_TOKENS = 512  # tokens of one forward pass: larger passes only need more memory on two cores
FIRST_GPU = "cuda:0"  # as lm-eval's command line asks; where there is none it takes the processor
ROWS = 8  # generated together at least
NEUTRAL = set(
    "bos_token_id eos_token_id pad_token_id transformers_version _from_model_config output_attentions "
    "output_hidden_states use_cache max_length do_sample temperature top_k top_p min_p typical_p".split()
)  # what a model's generation configuration may say without a change to the most likely tokens

Request = tuple[tuple[str, str], list[int], list[int]]
Answer = tuple[float, bool]


class NoCheckpoint(ValueError):
    """The model was asked for without a checkpoint to load; the message is one line."""


@register_model("reprune")
class RepruneLM(HFLM):
    """A causal language model for lm-eval that scores the choices of a question together.

    ``path`` is a checkpoint folder, a hub name or a loaded model (``pretrained`` means the same); the other
    arguments are those of lm-eval's ``hf``. ``dtype`` is float32 unless asked otherwise. A model whose
    attention cannot be exchanged is scored by the inherited code, with a warning; so is one of which a longer
    request than any before does not get the log-likelihood of a plain pass.
    """

    def __init__(
        self,
        path: Any = None,
        *,
        pretrained: Any = None,
        dtype: Any = "float32",
        device: str = FIRST_GPU,
        on_progress: Callable[[int, int], None] | None = None,
        pass_tokens: int = PASS_TOKENS,
        **arguments: Any,
    ) -> None:
        model = path if path is not None else pretrained
        if model is None:
            raise NoCheckpoint("model_args names no checkpoint; give path=FOLDER")
        if isinstance(model, str) and _is_path(model) and not Path(model).is_dir():
            raise NoCheckpoint(f"model_args names the checkpoint {model}, which is no folder")
        _quietly()
        super().__init__(pretrained=model, dtype=dtype, device=device, **arguments)
        self.truncated = 0
        self.computed_tokens = 0
        self.on_progress = on_progress
        self.pass_tokens = int(pass_tokens)
        self.tried = 0  # tokens of the longest sequence that was scored plainly too
        self.packed = self.backend == "causal" and packs_exactly(self.model)
        if not self.packed:
            self._warn("does not let its attention be exchanged")

    def _warn(self, reason: str) -> None:
        warnings.warn(
            f"{type(self.model).__name__} {reason}; lm-eval's own code scores its requests, more slowly",
            stacklevel=3,
        )

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[Answer]:
        """As inherited, but without bars where the caller reports progress itself."""
        return super().loglikelihood(requests, disable_tqdm or self.on_progress is not None)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The context's and the continuation's tokens; counts those cut by lm-eval's left truncation."""
        context_tokens, continuation_tokens = super()._encode_pair(context, continuation)
        if len(context_tokens) + len(continuation_tokens) > self.max_length + 1:
            self.truncated += 1
        return context_tokens, continuation_tokens

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        """(log-likelihood, is the greedy continuation) of every request, in their order."""
        if self.packed:
            scorer = _Scorer(self, requests)
            with packed_attention(self.model):
                scorer.score()
            self.packed = scorer.holds()
            if not self.packed:
                self._warn(f"gives other values packed than plain at {self.tried} tokens")
        if not self.packed:
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        for (strings, _, _), answer in zip(requests, scorer.answers, strict=True):
            if strings is not None:
                self.cache_hook.add_partial("loglikelihood", strings, answer)
        return scorer.answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The continuation of every context, as lm-eval's model gives it one request at a time.

        Counts contexts that lm-eval's rule cuts to leave room. Requests or models that ask for more than the
        most likely tokens are left to the inherited code. Raises :class:`ProtocolError` if there is no room.
        """
        asked = [self._asked(*request.args) for request in requests]
        ours = self.packed and asked and None not in asked and _is_greedy(self.model)
        if ours:
            self._try(asked)
        if not (ours and self.packed):
            return super().generate_until(requests, disable_tqdm)
        rows = self.batch_size if isinstance(self.batch_size, int) else 1
        prompts = [prompt for prompt, _ in asked]
        found = generate(self.model, prompts, max(rows, ROWS), self.pass_tokens, self.on_progress)
        answers = []
        for request, (_, until), tokens in zip(requests, asked, found, strict=True):
            answers.append(postprocess_generated_text(self.tok_decode(tokens), until, None))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _asked(self, context: str, options: dict[str, Any]) -> tuple[Prompt, list[str]] | None:
        """The prompt and stop sequences of a request; None if it asks for other than the likeliest tokens."""
        options = normalize_gen_kwargs(options, self.max_gen_toks)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(options.pop("until", None), eos)
        room = options.pop("max_gen_toks")
        window = self.max_length - room
        if window < 1:
            raise ProtocolError(
                f"{room} tokens to generate leave no room for a prompt in the model's {self.max_length}"
            )
        tokens = self.tok_batch_encode([context], truncation=self.truncation)[0][0].tolist()
        self.truncated += len(tokens) > window
        more = {key for key, value in options.items() if value} or self.think_end_token
        if more or not tokens or self.mixed_precision_dtype:
            return None
        return Prompt(tokens[-window:], room, self._stops(until)), until

    def _stops(self, until: list[str]) -> Callable[[list[int]], bool]:
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or [])
        criteria = stop_sequences_criteria(self.tokenizer, until, 0, 1)
        return lambda new: new[-1] in ends or bool(criteria(torch.tensor([new]), None))

    def _try(self, asked: Sequence[tuple[Prompt, list[str]]]) -> None:
        """Score a made sequence as long as generation may get, so that packing is tried at that length."""
        prompt = max((prompt for prompt, _ in asked), key=lambda prompt: len(prompt.tokens) + prompt.room)
        length = len(prompt.tokens) + prompt.room
        if length > self.tried:
            made = (prompt.tokens * length)[: length + 1]
            self._loglikelihood_tokens([(None, made[:-1], made[-1:])], disable_tqdm=True)


class _Scorer:
    """Scores requests group by group, each target token where its predecessor's node is computed."""

    def __init__(self, lm: RepruneLM, requests: Sequence[Request]) -> None:
        self.lm = lm
        window = lm.max_length + 1
        self.targets = [continuation for _, _, continuation in requests]
        if not all(context and continuation for _, context, continuation in requests):
            raise ValueError("a request has no token of context or of continuation")
        too_long = max(map(len, self.targets), default=0)
        if too_long > lm.max_length:
            raise ValueError(f"a continuation of {too_long} tokens exceeds the model's {lm.max_length}")
        self.sequences = [
            tuple((context + continuation)[-window:][:-1]) for _, context, continuation in requests
        ]
        self.sums = [0.0] * len(requests)
        self.greedy = [True] * len(requests)

    @property
    def answers(self) -> list[Answer]:
        return list(zip(self.sums, self.greedy, strict=True))

    def score(self) -> None:
        groups = lay_out(self.sequences)
        total, done = sum(len(block.tokens) for group in groups for block in group.blocks), 0
        for blocks, trunk in passes(groups, self.lm.pass_tokens, self._trunk):
            self._pass(blocks, trunk)
            done += sum(len(block.tokens) for block in blocks)
            if self.lm.on_progress:
                self.lm.on_progress(done, total)
        self.lm.computed_tokens += sum(group.tokens for group in groups)

    def holds(self) -> bool:
        """Whether the longest request, if longer than any tried, got the value of a plain pass.

        A window or a scaling that begins at some length shows in no shorter trial.
        """
        number = max(range(len(self.sequences)), key=lambda i: len(self.sequences[i]), default=None)
        if number is None or len(self.sequences[number]) <= self.lm.tried:
            return True
        sequence, targets = self.sequences[number], self.targets[number]
        self.lm.tried = len(sequence)
        self.lm.computed_tokens += len(sequence)
        logits = plain_logits(self.lm.model, sequence, len(targets))
        chances = wide(logits).log_softmax(dim=-1)
        plain = chances[range(len(targets)), targets].sum().item()
        found, error = self.sums[number], len(targets) * tolerance(logits, 1.0)
        return abs(found - plain) <= error or str(found) == str(plain)  # by name: not a number, infinite

    def _trunk(self, group: Group) -> Trunk:
        """Compute a trunk and score what lies inside it."""
        numbers = [number for block in group.blocks for number in block.paths]
        chain = Block(0)
        path = chain.add(-1, group.trunk, 0, [])
        kept = Trunk(len(path))
        inside = [
            (number, place, target)
            for number in numbers
            for place, target in self._scored(number)
            if place < kept.length
        ]
        self._tally([chain], inside, None, kept)
        return kept

    def _pass(self, blocks: Sequence[Block], trunk: Trunk | None) -> None:
        wanted, start = [], 0
        for block in blocks:
            for number, path in block.paths.items():
                wanted += [
                    (number, start + path[place - block.offset], target)
                    for place, target in self._scored(number)
                    if place >= block.offset
                ]
            start += len(block.tokens)
        self._tally(blocks, wanted, trunk, None)

    def _scored(self, number: int) -> list[tuple[int, int]]:
        """(place of the token before, target token) for every token of a continuation."""
        first = len(self.sequences[number]) - len(self.targets[number])
        return [(first + i, target) for i, target in enumerate(self.targets[number])]

    def _tally(
        self,
        blocks: Sequence[Block],
        wanted: Sequence[tuple[int, int, int]],
        trunk: Trunk | None,
        keep: Trunk | None,
    ) -> None:
        """Add the log-probabilities of ``wanted``, (request, node, target), to their requests."""
        nodes = sorted({node for _, node, _ in wanted}) or [0]
        logits = packed_logits(self.lm.model, blocks, nodes, trunk, keep)
        if not wanted:
            return
        place = {node: i for i, node in enumerate(nodes)}
        rows = torch.tensor([place[node] for _, node, _ in wanted], device=logits.device)
        targets = torch.tensor([target for _, _, target in wanted], device=logits.device)
        # As lm-eval's model has it: in a large vocabulary log_softmax and logsumexp differ by 2e-5 a token.
        found = wide(logits).log_softmax(dim=-1)[rows, targets]
        best = logits.argmax(dim=-1)[rows] == targets
        for (number, _, _), value, greedy in zip(wanted, found.tolist(), best.tolist(), strict=True):
            self.sums[number] += value
            self.greedy[number] &= greedy


def _is_greedy(model: Any) -> bool:
    """Whether a model's own generation configuration leaves the most likely tokens as they are."""
    return set(model.generation_config.to_diff_dict()) <= NEUTRAL


def _is_path(name: str) -> bool:
    """Whether a name cannot be the hub's, such as ``gpt2`` or ``owner/name``."""
    return name.startswith((".", "/")) or name.count("/") > 1


def _quietly() -> None:
    """lm-eval warns whenever it is handed a loaded model, which is how a job hands it over."""
    logging.getLogger("lm_eval.models.huggingface").setLevel(logging.ERROR)
