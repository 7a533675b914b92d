"""lm-eval's own command line with one more model, ours.

lm-eval finds models in its own table alone: no entry points, no search path. A program that starts it has to
register what it adds.
"""

from __future__ import annotations

import sys

from reprune.cli.text import Refused

ENGINE = "reprune.evaluation.engine:RepruneLM"


def hand_over(arguments: list[str]) -> int:
    """Hand ``arguments`` to lm-eval as its own, the model ``reprune`` registered. Returns 0.

    Raises :class:`Refused` if that model is asked for without a checkpoint; lm-eval's own errors pass.
    """
    import lm_eval.models  # noqa: F401  its table fills itself only while it is empty
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import model_registry

    if "reprune" not in model_registry:
        model_registry.register("reprune", target=ENGINE)
    before, sys.argv = sys.argv, ["lm_eval", *arguments]
    try:
        cli_evaluate()
    except ValueError as error:
        from reprune.evaluation.engine import NoCheckpoint

        if isinstance(error, NoCheckpoint):
            raise Refused(str(error)) from error
        raise
    finally:
        sys.argv = before
    return 0
