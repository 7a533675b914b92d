"""A translation model trained from nothing: vocabulary, first weights and training by one recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprune.calibration.sentences import encode
from reprune.data.parallel import Pair
from reprune.models.translator import Shape, learn_tokenizer, new_model
from reprune.training.keeping import Keeper
from reprune.training.loop import Say
from reprune.training.translation import TranslationCourse, train_translation


@dataclass(frozen=True)
class Recipe:
    """How a model is made of pairs: its shape, its course, and the ``seed`` of weights, order and dropout.

    Sentences of more than ``max_length`` tokens in a language are not trained on.
    """

    shape: Shape
    course: TranslationCourse
    seed: int
    max_length: int


def train_translator(
    recipe: Recipe,
    train: Sequence[Pair],
    held_out: Sequence[Pair],
    keeper: Keeper | None = None,
    say: Say = lambda done, total: None,
) -> tuple[Any, Any, dict[str, Any]]:
    """The model, frozen in float32, its tokenizer, and the history of its training.

    Raises :class:`reprune.training.trainer.TrainingError` if it diverges.
    """
    tokenizer = learn_tokenizer([text for pair in train for text in pair], recipe.shape.vocab_size)
    model = new_model(recipe.shape, recipe.seed)
    encoded = (encode(tokenizer, pairs, recipe.max_length) for pairs in (train, held_out))
    history = train_translation(model, *encoded, recipe.course, recipe.seed, keeper=keeper, say=say)
    return model, tokenizer, history
