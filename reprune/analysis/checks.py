"""The kinds of check a claim is made of: each takes a unit and a check to its comparisons."""

from __future__ import annotations

from collections.abc import Callable

from reprune.analysis.check_facts import chosen_in, cost_order, layer_fact, near_target, spread
from reprune.analysis.check_groups import mean_greater, not_best, not_worst
from reprune.analysis.check_heads import (
    above_chance,
    enriched,
    gates_polarise,
    heads_greater,
    kept_are_higher,
    role_above_median,
    scores_agree,
)
from reprune.analysis.check_history import history_below, history_falls, history_ratio, history_value
from reprune.analysis.check_metrics import Check, closer, gain_ratio, greater, less, not_less, times, within
from reprune.analysis.check_speed import faster
from reprune.analysis.check_trends import depth_less, increasing, rises_with_depth, step_ratio
from reprune.analysis.check_wins import win_rate
from reprune.analysis.evidence import Part
from reprune.analysis.unit import Unit

KINDS: dict[str, Callable[[Unit, Check], list[Part]]] = {
    function.__name__: function
    for function in (
        less,
        greater,
        times,
        not_less,
        within,
        closer,
        gain_ratio,
        mean_greater,
        not_best,
        not_worst,
        increasing,
        step_ratio,
        depth_less,
        rises_with_depth,
        faster,
        spread,
        near_target,
        layer_fact,
        chosen_in,
        cost_order,
        history_value,
        history_ratio,
        history_falls,
        history_below,
        enriched,
        heads_greater,
        kept_are_higher,
        role_above_median,
        above_chance,
        gates_polarise,
        scores_agree,
        win_rate,
    )
}
