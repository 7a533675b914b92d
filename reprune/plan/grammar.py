"""The words that ``tables``, ``plots`` and ``claims`` of a ``paper.yaml`` may use.

Planning validates every paper with these constants, so this module imports nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Keys(NamedTuple):
    """The keys a mapping must have, those it may have, and those it must have one of; others are errors."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    either: frozenset[str] = frozenset()


def _keys(required: str, optional: str = "", either: str = "") -> Keys:
    return Keys(frozenset(required.split()), frozenset(optional.split()), frozenset(either.split()))


FACTS = frozenset(
    "ratio_achieved ratio_nonembedding params nonzeros bytes compress_s recover_s evaluate_s "
    "peak_rss_mb encoder_heads decoder_heads cross_heads copy_bleu shuffled_bleu tokens_per_second".split()
)
"""Facts of a run: record columns, heads left, or what a suite of translations measured beside.

For ``facts`` and ``fact``, and for a plot's ``x``."""

OVER = frozenset({"projection", "block", "layer"})
"""What ``spread`` and ``near_target`` group the weights by; a layer is one projection of one block."""

QUANTITIES = frozenset(
    "sparsity_gap overlap mean_loss excess_spread rank_correlation followed settling slowdown "
    "heads_left cross_lead decoder_lead cross_over_decoder".split()
)
"""What a check may ask of a training, as ``reprune.analysis.trained`` computes it."""

SHARES = "shares"
"""The ``kind`` of a table of the domains' shares in continued pre-training, one task each.

Over its rows stand the proportions that training began with, printed ``start_as``."""

RELATIONS = "relations"
"""The ``kind`` of a table, and of a plot, of how well the best head of a row finds each dependency."""

WIN_RATE = "win_rate"
"""The ``kind`` of a table and of a check of the comparisons that a judge made of two rows' answers."""

AGAINST = "against "
"""A table's task is an opponent: ``against From scratch`` is the share won of comparisons with that row."""

TABLES: dict[str | None, Keys] = {
    None: _keys("id title experiment suite protocol metric tasks", "published facts variant"),
    SHARES: _keys("id title kind experiment tasks", "published start_as"),
    RELATIONS: _keys("id title kind experiment protocol tasks method", "published target"),
    WIN_RATE: _keys("id title kind experiment tasks", "published"),
}
TABLE_PUBLISHED = _keys("tables models", "tasks whole")
"""``tasks`` are printed ones that are not measured, such as an average over other tasks.

With ``whole`` the notes have the printed lines that no row stands for, and which one a row stands beside."""

COUNTS = "counts"
"""The ``kind`` of a table of what configurations alone tell: it has ``rows`` of its own and no experiment.

Its keys are those of ``counts`` in ``workflow/schemas/paper.schema.yaml``. A published table beside a table
with a kind has that kind as its metric."""

CHECKS: dict[str, Keys] = {
    "less": _keys("kind experiment protocol metric tasks left right", "target no_more"),
    "greater": _keys("kind experiment protocol metric tasks left right", "target no_more"),
    "times": _keys("kind experiment protocol metric tasks left right at_least", "target"),
    "not_less": _keys("kind experiment protocol metric tasks left right margin", "target"),
    "within": _keys("kind experiment protocol metric tasks left right margin", "target"),
    "closer": _keys("kind experiment protocol metric tasks pair than", "target"),
    "gain_ratio": _keys("kind experiment protocol metric tasks low middle high at_least", "target"),
    "mean_greater": _keys("kind experiment protocol metric tasks left right", "target"),
    "not_best": _keys("kind experiment protocol metric tasks method others", "target"),
    "not_worst": _keys("kind experiment protocol metric tasks method others", "target"),
    "increasing": _keys("kind experiment protocol metric tasks method"),
    "step_ratio": _keys("kind experiment protocol metric tasks method", either="at_least at_most"),
    "faster": _keys("kind experiment protocol tasks left right at_least", "target"),
    "spread": _keys("kind experiment method over at_least", "target"),
    "near_target": _keys("kind experiment method over tolerance", "target"),
    "depth_less": _keys("kind experiment protocol metric left right share", "target"),
    "rises_with_depth": _keys("kind experiment protocol metric method", "target"),
    "layer_fact": _keys("kind experiment method fact", "target", either="at_least at_most"),
    "chosen_in": _keys("kind experiment methods after", "target"),
    "cost_order": _keys("kind experiment fact order", "target"),
    "history_value": _keys("kind experiment quantity method", "target", either="at_least at_most"),
    "history_ratio": _keys("kind experiment quantity left right", "target", either="at_least at_most"),
    "history_falls": _keys("kind experiment quantity order", "target"),
    "history_below": _keys("kind experiment left right after", "target"),
    "enriched": _keys("kind experiment protocol tasks method than", "target"),
    "kept_are_higher": _keys("kind experiment protocol metric tasks method than", "target"),
    "heads_greater": _keys("kind experiment protocol metric tasks left right", "target"),
    "role_above_median": _keys("kind experiment protocol metric tasks method role", "target"),
    "gates_polarise": _keys("kind experiment method at_least", "target"),
    "above_chance": _keys("kind experiment protocol metric tasks method layer chance at_least", "target"),
    "scores_agree": _keys("kind experiment left right after", "target"),
    WIN_RATE: _keys("kind experiment left right at_least", "target"),
}
"""``tasks`` may name ``average``, the mean over the tasks that a downstream protocol averages. ``margin`` is
in the unit of a difference: percentage points of accuracy, of perplexity its natural logarithm (0.05: about
five percent). ``no_more`` is a fact, such as heads, of which ``left`` must not have more than ``right``. A
win rate is ``at_least`` so many percent."""

PLOTS: dict[str, Keys] = {
    "curve": _keys("id kind title experiment x protocol metric task", "join reference log_x log_y variant"),
    "allocation": _keys("id kind title experiment method", "target"),
    "depth": _keys("id kind title experiment protocol metric methods", "target log_y"),
    "pareto": _keys("id kind title experiment x protocol metric task", "target log_x log_y variant"),
    "layers": _keys("id kind title experiment methods", "target"),
    "spectrum": _keys("id kind title experiment method", "target"),
    "training": _keys("id kind title experiment methods", "target log_y"),
    "throughput": _keys("id kind title experiment protocol metric", "methods target"),
    "tokens": _keys("id kind title experiment methods", "target domain log_x log_y"),
    "loading": _keys("id kind title experiment methods", "target"),
    "masks": _keys("id kind title experiment method", "target"),
    "heads": _keys("id kind title experiment protocol task reference", "roles degree rows"),
    "attention": _keys("id kind title experiment protocol task method", "target"),
    RELATIONS: _keys("id kind title experiment protocol task method", "target"),
    "retained": _keys("id kind title experiment series", "protocol task variant reference", "metric setting"),
}

AXES = ("target_requested", "recovery_steps", "settings.", "calibration.")
"""What a plot's ``x`` may be besides a fact; a dot is followed by the name of the setting. ``join`` names the
one line that all rows of a curve are points of, where each has a label of its own."""
