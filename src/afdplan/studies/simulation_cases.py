"""How is one case of a study simulated, and its result laid out in columns?"""

from __future__ import annotations

from typing import Any

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model import parameters as ask
from afdplan.model.bundle import Bundle
from afdplan.model.parameter import Parameter
from afdplan.model.slots import slots_per_microbatch
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario, Variation
from afdplan.studies.columns import Column, check_batch, numbers
from afdplan.studies.kinds import CaseInputs, ComputeKind

__all__ = ["KIND", "case_scenario", "simulation_columns"]

_CASES = (ask.SEED, ask.START)
"""What follows from the case unless a study names it."""
_PLAIN = tuple(one for one in ask.SCENARIO if one not in (*_CASES, ask.CONFIDENCE))
PARAMETERS = (
    *ask.SLOTS,
    ask.ATTENTION_WORKERS,
    *_PLAIN,
    *(one.changed(default=None) for one in _CASES),
    Parameter(name="replay", data="flag", default=False),
    ask.ARRIVALS,
    ask.ARRIVAL_RATE,
    ask.ARRIVAL_CV,
    *ask.VARIATION,
)
_INTERVALS = (
    "throughput_per_instance",
    "cycle_time",
    "attention_idle_fraction",
    "ffn_idle_fraction",
)
_SPREADS = ("step_time", "request_time_per_output_token", "kv_tokens_per_worker")
_PARTS = ("mean", "p50", "p95", "p99")
_COUNTS = ("requests_completed", "tokens_generated", "steps", "preemptions", "requests_rejected")
ANSWERS = (
    *numbers(" ".join(f"{name} {name}_low {name}_high" for name in _INTERVALS)),
    *numbers(" ".join(f"{name}_{part}" for name in _SPREADS for part in _PARTS)),
    *numbers("slot_occupancy confidence"),
    *numbers(" ".join(_COUNTS), "count"),
    Column(name="is_reliable", data="flag"),
    Column(name="warnings", data="text"),
)


def case_scenario(case: CaseInputs) -> Scenario:
    """Return what a case simulates.

    Requests are drawn independently from the law or the trace; ``replay = true`` plays a trace in
    its own order.
    """
    values = case.values
    if case.trace is None and (values["replay"] or values["arrivals"] == "trace"):
        raise UnsupportedError("replay and the arrivals of a trace need a trace, got laws")
    replays = values["replay"] or values["arrivals"] == "trace"
    arrivals = None
    if values["arrivals"] is not None:
        arrivals = Arrivals(
            process=values["arrivals"],
            rate=values["arrival_rate"],
            cv=values["arrival_cv"],
        )
    return Scenario(
        bundle=Bundle(
            attention_workers=values["attention_workers"],
            ffn_workers=values["ffn_workers"],
            batch_size=slots_per_microbatch(values),
            microbatches=values["microbatches"],
        ),
        latency=case.latency,
        lengths=case.trace if replays and case.trace is not None else case.law,
        seed=case.seed,
        start=values["start"] or (ask.START.default if arrivals is None else "fresh"),
        arrivals=arrivals,
        variation=Variation(**{one.field: values[one.name] for one in ask.VARIATION}),
        **{one.field: values[one.name] for one in (ask.OVERLAP, *_PLAIN)},
    )


def simulation_columns(case: CaseInputs) -> dict[str, Any]:
    """Return the result of `simulate` by column; every mean with the ends of its interval."""
    if case.values["kv_capacity"] is None:  # else the simulator keeps to a memory itself
        case.require_memory()
    result = simulate(case_scenario(case))
    columns: dict[str, Any] = {}
    for name in _INTERVALS:
        estimate = getattr(result, name)
        columns[name] = estimate.value
        columns[f"{name}_low"], columns[f"{name}_high"] = estimate.low, estimate.high
    for name in _SPREADS:
        for part, value in getattr(result, name).values().items():
            columns[f"{name}_{part}"] = value
    columns.update({name: getattr(result, name) for name in _COUNTS})
    return {
        **columns,
        "slot_occupancy": result.slot_occupancy.value,
        "confidence": result.throughput_per_instance.confidence,
        "is_reliable": result.is_reliable,
        "warnings": "; ".join(result.warnings) or None,
    }


def _check(names: frozenset[str]) -> None:
    check_batch(names)
    if "attention_workers" not in names:
        raise InvalidInputError(
            "a study of simulations needs attention_workers, for example in [grid]"
        )


KIND = ComputeKind(
    name="simulate",
    parameters=PARAMETERS,
    answers=ANSWERS,
    measure="throughput_per_instance",
    shown=("throughput_per_instance_low", "throughput_per_instance_high", "step_time_p99"),
    compute=simulation_columns,
    check=_check,
)
