"""How is the best ratio of one case of a study computed and laid out in columns?"""

from __future__ import annotations

from typing import Any

from afdplan.model import parameters as ask
from afdplan.model.parameter import Parameter
from afdplan.model.slots import slots_per_microbatch
from afdplan.studies.columns import Column, check_batch, numbers
from afdplan.studies.kinds import CaseInputs, ComputeKind
from afdplan.theory.recommend import recommend_ratio

__all__ = ["KIND", "ratio_columns"]

PARAMETERS = (*ask.SLOTS, *ask.RATIO, Parameter(name="intervals", data="flag", default=True))
ASKED = [one.name for one in (*ask.SLOTS[2:], *ask.RATIO)]
_STEPS = ("step_time_p50", "step_time_p95", "step_time_p99")
_OF_BEST = (
    *("objective", "throughput_per_instance", "cycle_time", "step_time"),
    *("attention_idle_fraction", "ffn_idle_fraction"),
)
ANSWERS = (
    *numbers(
        "optimal_attention_workers optimal_attention_workers_low optimal_attention_workers_high "
        "near_equal_low near_equal_high",
        "count",
    ),
    *numbers("optimal_ratio mean_field_ratio"),
    Column(name="bottleneck", data="text"),
    *numbers(" ".join((*_OF_BEST, *_STEPS))),
    *numbers(
        "barrier_cost mean_token_load mean_token_load_low mean_token_load_high confidence "
        "largest_regret"
    ),
    Column(name="curve_attention_workers", data="counts"),
    Column(name="curve_objective", data="numbers"),
    Column(name="warnings", data="text"),
)


def ratio_columns(case: CaseInputs) -> dict[str, Any]:
    """Return the answers of `recommend_ratio` by column.

    Intervals come from the interval of the trace's mean token load; a law is known exactly, and
    then (or with ``intervals = false``) their columns are empty.
    """
    case.require_memory()
    values = case.values
    wants_interval = values["intervals"] and values["horizon"] is None
    answer = recommend_ratio(
        case.law,
        case.latency,
        batch_size=slots_per_microbatch(values),
        **{name: values[name] for name in ASKED},
        token_load=case.token_load() if wants_interval else None,
    )
    sure = answer.uncertainty
    return {
        "optimal_attention_workers": answer.optimal_attention_workers,
        "optimal_attention_workers_low": None if sure is None else sure.low,
        "optimal_attention_workers_high": None if sure is None else sure.high,
        "near_equal_low": answer.near_equal[0],
        "near_equal_high": answer.near_equal[1],
        "optimal_ratio": answer.optimal_ratio,
        "mean_field_ratio": answer.mean_field_ratio,
        "bottleneck": answer.bottleneck,
        **{name: getattr(answer.best, name) for name in _OF_BEST},
        **dict(zip(_STEPS, answer.step_time_quantiles or (None,) * 3, strict=True)),
        "barrier_cost": answer.barrier_cost,
        "mean_token_load": answer.mean_token_load,
        "mean_token_load_low": None if sure is None else sure.token_load.low,
        "mean_token_load_high": None if sure is None else sure.token_load.high,
        "confidence": None if sure is None else sure.token_load.confidence,
        "largest_regret": None if sure is None else sure.largest_regret,
        "curve_attention_workers": [point.attention_workers for point in answer.curve],
        "curve_objective": [point.objective for point in answer.curve],
        "warnings": "; ".join(answer.warnings) or None,
    }


KIND = ComputeKind(
    name="ratio",
    parameters=PARAMETERS,
    answers=ANSWERS,
    measure="objective",
    shown=("optimal_attention_workers", "near_equal_low", "near_equal_high", "bottleneck"),
    compute=ratio_columns,
    check=check_batch,
)
