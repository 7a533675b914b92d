"""Training a translation model on pairs of sentences, resumable to the identical result.

As the Transformer was trained by Voita et al. (arXiv 1905.09418; code ``lena-voita/the-story-of-heads``):
batches of sentences of similar length, label smoothing, Adam, a rate that rises over a warm-up and falls with
the inverse square root of the steps (Vaswani et al. 2017, section 5.3), and the mean of the last weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from reprune.calibration.sentences import AT_ONCE, IGNORED, Batch, Encoded, batches, collate, grouped
from reprune.models.attention import attention_as
from reprune.models.checkpoint import computed
from reprune.training.course import Partner
from reprune.training.keeping import Keeper
from reprune.training.loop import Loop, Say
from reprune.training.trainer import TrainingError

BETAS, EPSILON = (0.9, 0.98), 1e-9


@dataclass(frozen=True)
class TranslationCourse:
    """How long to train and how fast.

    ``batch_tokens`` of source and target make a step. The rate at step n is
    ``scale`` · hidden size^−½ · min(n^−½, n · ``warmup``^−1.5). The last ``average`` measurements' weights
    are averaged into the result. ``dtype`` is that of forward passes, ``float32`` or ``bfloat16`` by
    autocast; weights, moments and losses are float32.
    """

    steps: int
    batch_tokens: int
    scale: float
    warmup: int
    evaluate_every: int
    smoothing: float = 0.1
    average: int = 1
    dtype: str = "float32"

    @classmethod
    def of(cls, settings: Any) -> TranslationCourse:
        """The course that ``settings`` ask for by these names; what they do not name has its default."""
        named = {f.name: getattr(settings, f.name) for f in fields(cls) if hasattr(settings, f.name)}
        return cls(**named, dtype=settings.precision)

    def rate(self, step: int, hidden_size: int) -> float:
        """The learning rate of step 0, 1, … (Vaswani et al. 2017, equation 3, with a factor)."""
        n = step + 1
        return self.scale * hidden_size**-0.5 * min(n**-0.5, n * self.warmup**-1.5)

    def evaluates(self, step: int) -> bool:
        return step % self.evaluate_every == 0 or step == self.steps

    def averages(self, step: int) -> bool:
        """Whether the weights that are measured after so many steps are among those that are averaged."""
        later = math.ceil((self.steps - step) / self.evaluate_every)
        return later < self.average


def summed_loss(model: Any, batch: Batch, smoothing: float, dtype: str = "float32") -> Tensor:
    """The loss of a batch, nats, summed over its target tokens, labels smoothed over the vocabulary."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(
            input_ids=batch.source,
            attention_mask=batch.source_mask,
            decoder_input_ids=batch.target,
            use_cache=False,
        ).logits
    flat = logits.float().flatten(0, 1)
    return functional.cross_entropy(
        flat, batch.labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )


@torch.no_grad()
def held_out_loss(model: Any, held_out: Sequence[Batch], dtype: str = "float32") -> float:
    """Nats per target token, without smoothing."""
    losses = [summed_loss(model, batch, 0.0, dtype).item() for batch in held_out]
    return math.fsum(losses) / sum(batch.scored for batch in held_out)


def train_translation(
    model: Any,
    train: Sequence[Encoded],
    held_out: Sequence[Encoded],
    course: TranslationCourse,
    seed: int,
    trained: Sequence[torch.nn.Parameter] | None = None,
    partner: Partner | None = None,
    keeper: Keeper | None = None,
    say: Say = lambda done, total: None,
) -> dict[str, Any]:
    """Train ``model`` in place, a frozen one in float32; the history of it, as JSON.

    ``trained`` are the parameters to train, by default all that are not computed. A ``partner`` trains along.
    ``seed`` fixes order and dropout. With a ``keeper`` a training that was ended goes on to the identical
    result; dropping the state is the caller's. ``say`` counts tokens, roughly. The model is left frozen and
    in evaluation mode, with the averaged weights if the course averages any. Attention is computed by plain
    matrix products: in bfloat16 the fused kernel's backward pass is several times slower on a CPU.

    The history has ``steps``, ``losses`` (nats per target token, smoothed, by step), ``evaluations``
    (``step``, ``epochs`` begun, ``tokens`` read of both languages, ``loss`` on held-out pairs without
    smoothing, and what the partner told), ``tokens``, ``seconds`` and ``tokens_per_second``, of steps alone.
    Raises :class:`reprune.training.trainer.TrainingError` as soon as a loss or a gradient is not finite, and
    if there are no pairs.
    """
    if not (train and held_out):
        raise TrainingError(
            f"{len(train):,} pairs to train on and {len(held_out):,} held out, need some of both"
        )
    fixed = computed(model)
    usual = [parameter for name, parameter in model.named_parameters() if name not in fixed]
    chosen = usual if trained is None else list(trained)
    model.requires_grad_(False).train()
    for parameter in chosen:
        parameter.requires_grad_(True)
    with attention_as(model, "eager"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training = _Training(model, chosen, train, held_out, course, seed, partner or Partner(), keeper)
        history = training.history(say)
    model.requires_grad_(False).eval()
    return history


class _Training(Loop):
    """One training: the order of its batches, and the mean of its last weights."""

    def __init__(
        self,
        model: Any,
        chosen: list[torch.nn.Parameter],
        train: Sequence[Encoded],
        held_out: Sequence[Encoded],
        course: TranslationCourse,
        seed: int,
        partner: Partner,
        keeper: Keeper | None,
    ) -> None:
        self.course, self.pairs, self.seed = course, train, seed
        self.held_out = batches(model, held_out)
        width = model.config.hidden_size
        self.relative = [course.rate(step, width) for step in range(course.steps)]
        highest = max(self.relative)
        groups = [{"params": chosen, "lr": highest}, *partner.groups()]
        optimizer = torch.optim.Adam(groups, betas=BETAS, eps=EPSILON, fused=True)
        super().__init__(model, optimizer, course.steps, partner, keeper, clip=math.inf)
        self.relative = [rate / highest for rate in self.relative]
        whole = grouped(train, min(course.batch_tokens, AT_ONCE))
        per_pass = sum(len(pair.source) + len(pair.target) for pair in train) / len(whole)
        self.passes = max(1, round(course.batch_tokens / AT_ONCE))
        self.step_tokens = per_pass * self.passes
        self.chosen, self.averaged, self.summed = chosen, 0, {}
        self.epoch, self.position, self.tokens_read = -1, 0, 0
        self.order: list[list[int]] = []

    def history(self, say: Say) -> dict[str, Any]:
        """Train to the end; see :func:`train_translation`."""
        seconds = self.run(say)
        stepping = self.told.pop("stepping")
        spent = {"seconds": seconds, "tokens_per_second": self.tokens_read / stepping}
        return {"steps": self.steps, "tokens": self.tokens_read, **self.told, **spent}

    def done(self, step: int) -> int:
        """About how many tokens so many steps read."""
        return round(step * self.step_tokens)

    def share(self, step: int) -> float:
        return self.relative[step]

    def evaluates(self, step: int) -> bool:
        return self.course.evaluates(step)

    def accumulate(self, step: int) -> float:
        penalty = self.partner.prepare(step)
        *parts, last = [self.next_batch() for _ in range(self.passes)]
        total = sum(batch.scored for batch in (*parts, last))
        losses = [self.descend(self.loss(part) / total) for part in parts]
        return math.fsum([*losses, self.descend(self.loss(last) / total, penalty)])

    def loss(self, batch: Batch) -> Tensor:
        """The summed loss of one forward pass."""
        return summed_loss(self.model, batch, self.course.smoothing, self.course.dtype)

    def next_batch(self) -> Batch:
        """The batch whose turn it is; an epoch has every pair once."""
        if self.position == len(self.order):
            self.begin(self.epoch + 1)
        group, self.position = self.order[self.position], self.position + 1
        config = self.model.config
        batch = collate([self.pairs[i] for i in group], config.pad_token_id, config.decoder_start_token_id)
        self.tokens_read += int(batch.source_mask.sum()) + batch.scored
        return batch

    def begin(self, epoch: int) -> None:
        """Put the pairs into the order of an epoch: a matter of the seed and its number."""
        generator = torch.Generator().manual_seed((self.seed + epoch) % 2**63)
        self.epoch, self.position = epoch, 0
        self.order = grouped(self.pairs, min(self.course.batch_tokens, AT_ONCE), generator)

    def measure(self) -> dict[str, Any]:
        told = {"step": self.step, "epochs": self.epoch + 1, "tokens": self.tokens_read}
        if self.course.average > 1 and self.step and self.course.averages(self.step):
            self.add_weights()
        return {**told, "loss": held_out_loss(self.model, self.held_out, self.course.dtype)}

    @torch.no_grad()
    def add_weights(self) -> None:
        """Add the weights to those to be averaged, and take the mean in the end."""
        self.averaged += 1
        for i, parameter in enumerate(self.chosen):
            total = self.summed.get(f"{i}")
            self.summed[f"{i}"] = parameter.clone() if total is None else total + parameter
            if self.step == self.steps:
                parameter.copy_(self.summed[f"{i}"] / self.averaged)

    def tensors(self) -> dict[str, Tensor]:
        return self.summed

    def facts(self) -> dict[str, Any]:
        place = {"epoch": self.epoch, "position": self.position, "tokens": self.tokens_read}
        return {**place, "averaged": self.averaged}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        if facts["epoch"] >= 0:
            self.begin(facts["epoch"])
        self.position, self.tokens_read = facts["position"], facts["tokens"]
        self.summed, self.averaged = tensors, facts["averaged"]
