"""The unpruned model: the row every other row is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprune.method import ModelMethod

if TYPE_CHECKING:
    from reprune.calibration.walk import Walk


class Dense(ModelMethod):
    """Leaves the model as it is."""

    kinds = ("none",)
    requires_calibration = False

    def compress(self, model: Walk) -> None:
        """Change nothing."""
