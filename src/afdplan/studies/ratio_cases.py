"""How is the best ratio of one case of a study computed and laid out in columns?"""

from __future__ import annotations

from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.studies.kinds import CaseInputs, ComputeKind
from afdplan.studies.parameters import BUNDLE, Column, Parameter, batch_size
from afdplan.theory.recommend import recommend_ratio

__all__ = ["KIND", "check_batch", "ratio_columns"]

PARAMETERS = (
    *BUNDLE,
    Parameter(
        name="method", data="text", default="exact", choices=("exact", "gaussian", "mean-field")
    ),
    Parameter(name="phase", data="text", default="random", choices=("random", "aligned")),
    Parameter(name="ffn_weight", data="number", default=1.0, minimum=0, strict=True),
    Parameter(name="max_attention_workers"),
    Parameter(name="horizon"),
    Parameter(name="intervals", data="flag", default=True),
)
ANSWERS = (
    Column(name="optimal_attention_workers", data="count"),
    Column(name="optimal_attention_workers_low", data="count"),
    Column(name="optimal_attention_workers_high", data="count"),
    Column(name="near_equal_low", data="count"),
    Column(name="near_equal_high", data="count"),
    Column(name="optimal_ratio", data="number"),
    Column(name="mean_field_ratio", data="number"),
    Column(name="bottleneck", data="text"),
    Column(name="objective", data="number"),
    Column(name="throughput_per_instance", data="number"),
    Column(name="cycle_time", data="number"),
    Column(name="step_time", data="number"),
    Column(name="step_time_p50", data="number"),
    Column(name="step_time_p95", data="number"),
    Column(name="step_time_p99", data="number"),
    Column(name="attention_idle_fraction", data="number"),
    Column(name="ffn_idle_fraction", data="number"),
    Column(name="barrier_cost", data="number"),
    Column(name="mean_token_load", data="number"),
    Column(name="mean_token_load_low", data="number"),
    Column(name="mean_token_load_high", data="number"),
    Column(name="confidence", data="number"),
    Column(name="largest_regret", data="number"),
    Column(name="curve_attention_workers", data="counts"),
    Column(name="curve_objective", data="numbers"),
    Column(name="warnings", data="text"),
)


def check_batch(names: frozenset[str]) -> None:
    """Raise unless a study names exactly one of both ways to give the batch size."""
    if ("batch_size" in names) == ("requests_per_worker" in names):
        raise InvalidInputError(
            "a study needs one of batch_size (per microbatch) and requests_per_worker (= m B)"
        )


def ratio_columns(case: CaseInputs) -> dict[str, Any]:
    """Return the answers of `recommend_ratio` by column.

    Intervals come from the interval of the trace's mean token load; a law is known exactly, and
    then (or with ``intervals = false``) their columns are empty.
    """
    values = case.values
    wants_interval = values["intervals"] and values["horizon"] is None
    answer = recommend_ratio(
        case.law,
        case.latency,
        batch_size=batch_size(values),
        ffn_workers=values["ffn_workers"],
        microbatches=values["microbatches"],
        overlap=values["overlap"],
        method=values["method"],
        phase=values["phase"],
        ffn_weight=values["ffn_weight"],
        max_attention_workers=values["max_attention_workers"],
        horizon=values["horizon"],
        token_load=case.token_load() if wants_interval else None,
    )
    best, sure = answer.best, answer.uncertainty
    median, p95, p99 = answer.step_time_quantiles or (None, None, None)
    return {
        "optimal_attention_workers": answer.optimal_attention_workers,
        "optimal_attention_workers_low": None if sure is None else sure.low,
        "optimal_attention_workers_high": None if sure is None else sure.high,
        "near_equal_low": answer.near_equal[0],
        "near_equal_high": answer.near_equal[1],
        "optimal_ratio": answer.optimal_ratio,
        "mean_field_ratio": answer.mean_field_ratio,
        "bottleneck": answer.bottleneck,
        "objective": best.objective,
        "throughput_per_instance": best.throughput_per_instance,
        "cycle_time": best.cycle_time,
        "step_time": best.step_time,
        "step_time_p50": median,
        "step_time_p95": p95,
        "step_time_p99": p99,
        "attention_idle_fraction": best.attention_idle_fraction,
        "ffn_idle_fraction": best.ffn_idle_fraction,
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
