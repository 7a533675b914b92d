"""How gates of heads are learned, as a paper's settings say; without torch, for planning."""

from __future__ import annotations

from dataclasses import dataclass

from reprune.method import setting

GATED = {
    "encoder": ("encoder",),
    "decoder": ("decoder",),
    "cross": ("cross",),
    "all": ("encoder", "decoder", "cross"),
}
"""Kinds of attention: of the encoder, of the decoder to itself, and of the decoder to the encoder."""


@dataclass(frozen=True)
class HeadMaskSettings:
    """The defaults are those of Voita et al.'s official code and of the example in its scripts.

    That is a ``concrete_coef`` of 0.1 for six gated layers, and the peak of the schedule that weights and
    gates share, 4 / √(512 · 16,000); which penalties the paper used is not published. ``penalty`` is λ of the
    paper's sum over all gated heads. The code takes the mean over layers of their sums, so its coefficient is
    λ times the gated layers: see :meth:`penalty_in_code`.
    """

    penalty: float = setting(0.0167, "λ, added to the loss for every head that stays open", minimum=0)
    gated: str = setting("encoder", "which attention has gates", choices=tuple(GATED))
    start: float = setting(0.0, "log α at the start; 2 opens 94 % of the heads' draws")
    temperature: float = setting(0.33, "of the hard concrete gates", minimum=0.01)
    mask_rate: float = setting(1.4e-3, "highest learning rate of the gates", minimum=0)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of attention that have gates."""
        return GATED[self.gated]

    def penalty_in_code(self, layers: int) -> float:
        """The official code's ``concrete_coef`` that is as strong, for so many gated layers of all kinds."""
        return self.penalty * layers
