"""How is one case of a study simulated, and its result laid out in columns?"""

from __future__ import annotations

from typing import Any

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model.bundle import Bundle
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario, Start, Variation
from afdplan.studies.kinds import CaseInputs, ComputeKind
from afdplan.studies.parameters import BUNDLE, Column, Parameter, batch_size
from afdplan.studies.ratio_cases import check_batch

__all__ = ["KIND", "case_scenario", "simulation_columns"]

PARAMETERS = (
    *BUNDLE,
    Parameter(name="attention_workers", maximum=100_000),
    Parameter(name="simulated_requests", default=10_000),
    Parameter(name="seed", minimum=0),
    Parameter(name="start", data="text", choices=("stationary", "fresh")),
    Parameter(
        name="measured", data="text", default="steady", choices=("steady", "all", "first-80")
    ),
    Parameter(
        name="placement",
        data="text",
        default="round-robin",
        choices=("round-robin", "least-requests", "least-tokens", "longest-prompt"),
    ),
    Parameter(name="replay", data="flag", default=False),
    Parameter(name="arrivals", data="text", choices=("trace", "poisson", "gamma")),
    Parameter(name="arrival_rate", data="number", minimum=0, strict=True),
    Parameter(name="arrival_cv", data="number", minimum=0, strict=True),
    Parameter(name="kv_capacity"),
    Parameter(name="memory", data="text", default="reserve", choices=("reserve", "preempt")),
    Parameter(name="ffn_tokens", data="text", default="padded", choices=("padded", "active")),
    Parameter(name="attention_variation", data="number", default=0.0, minimum=0, maximum=3),
    Parameter(name="ffn_variation", data="number", default=0.0, minimum=0, maximum=3),
    Parameter(name="expert_imbalance", data="number", default=1.0, minimum=1),
    Parameter(name="replications", maximum=100_000),
    Parameter(name="precision", data="number", minimum=0, strict=True),
    Parameter(name="p99_precision", data="number", minimum=0, strict=True),
)
_INTERVALS = (
    "throughput_per_instance",
    "cycle_time",
    "attention_idle_fraction",
    "ffn_idle_fraction",
)
_SPREADS = ("step_time", "request_time_per_output_token", "kv_tokens_per_worker")
_COUNTS = ("requests_completed", "tokens_generated", "steps", "preemptions", "requests_rejected")
ANSWERS = (
    *(
        Column(name=f"{name}{end}", data="number")
        for name in _INTERVALS
        for end in ("", "_low", "_high")
    ),
    *(
        Column(name=f"{name}_{part}", data="number")
        for name in _SPREADS
        for part in ("mean", "p50", "p95", "p99")
    ),
    Column(name="slot_occupancy", data="number"),
    Column(name="confidence", data="number"),
    *(Column(name=name, data="count") for name in _COUNTS),
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
            cv=1.0 if values["arrival_cv"] is None else values["arrival_cv"],
        )
    start: Start = values["start"] or ("stationary" if arrivals is None else "fresh")
    return Scenario(
        bundle=Bundle(
            attention_workers=values["attention_workers"],
            ffn_workers=values["ffn_workers"],
            batch_size=batch_size(values),
            microbatches=values["microbatches"],
        ),
        latency=case.latency,
        lengths=case.trace if replays and case.trace is not None else case.law,
        requests_per_worker=values["simulated_requests"],
        seed=case.seed,
        overlap=values["overlap"],
        start=start,
        window=values["measured"],
        arrivals=arrivals,
        placement=values["placement"],
        kv_capacity=values["kv_capacity"],
        memory=values["memory"],
        ffn_tokens=values["ffn_tokens"],
        variation=Variation(
            attention=values["attention_variation"],
            ffn=values["ffn_variation"],
            expert_imbalance=values["expert_imbalance"],
        ),
        replications=values["replications"],
        precision=values["precision"],
        p99_precision=values["p99_precision"],
    )


def simulation_columns(case: CaseInputs) -> dict[str, Any]:
    """Return the result of `simulate` by column; every mean with the ends of its interval."""
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
