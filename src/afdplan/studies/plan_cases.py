"""How is the best deployment of one case of a study found, and laid out in columns?"""

from __future__ import annotations

from typing import Any

from afdplan.deploy.registry import find_target, target_names
from afdplan.errors import InvalidInputError
from afdplan.planning.colocated import ColocatedSearch
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.infeasible import explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import LatencySource, MeasuredSource
from afdplan.planning.space import SearchSpace, graph_batch_sizes
from afdplan.planning.verdict import judge
from afdplan.studies.kinds import CaseInputs, ComputeKind
from afdplan.studies.parameters import Column, Parameter

__all__ = ["KIND", "plan_columns"]

PARAMETERS = (
    Parameter(name="devices", maximum=100_000),
    Parameter(name="requests_per_second", data="number", minimum=0, strict=True),
    Parameter(name="time_per_output_token", data="number", minimum=0, strict=True),
    Parameter(name="statistic", data="text", default="mean", choices=("mean", "p50", "p95", "p99")),
    Parameter(name="overflow_probability", data="number", default=1e-3, minimum=0, maximum=1),
    Parameter(name="node_devices", default=1),
    Parameter(name="target", data="text", default="any", choices=target_names()),
    Parameter(name="batch_size"),
    Parameter(name="largest_batch_size", default=1024),
    Parameter(name="microbatches", maximum=8),
    Parameter(name="ffn_workers"),
    Parameter(name="max_attention_workers"),
    Parameter(name="attention_devices"),
    Parameter(name="ffn_devices"),
    Parameter(name="kv_tokens"),
    Parameter(name="attention_device_cost", data="number", default=1.0, minimum=0, strict=True),
    Parameter(name="ffn_device_cost", data="number", default=1.0, minimum=0, strict=True),
)
ANSWERS = (
    Column(name="planned_bundles", data="count"),
    Column(name="planned_attention_workers", data="count"),
    Column(name="planned_ffn_workers", data="count"),
    Column(name="planned_batch_size", data="count"),
    Column(name="planned_microbatches", data="count"),
    Column(name="planned_attention_devices", data="count"),
    Column(name="planned_ffn_devices", data="count"),
    Column(name="planned_devices", data="count"),
    Column(name="requests_per_attention_worker", data="count"),
    Column(name="score", data="number"),
    Column(name="tokens_per_second", data="number"),
    Column(name="tokens_per_second_per_device", data="number"),
    Column(name="served_requests_per_second", data="number"),
    Column(name="step_time_mean", data="number"),
    Column(name="step_time_p50", data="number"),
    Column(name="step_time_p95", data="number"),
    Column(name="step_time_p99", data="number"),
    Column(name="memory_overflow_probability", data="number"),
    Column(name="attention_idle_fraction", data="number"),
    Column(name="ffn_idle_fraction", data="number"),
    Column(name="colocated_devices", data="count"),
    Column(name="colocated_score", data="number"),
    Column(name="gain_over_colocated", data="number"),
    Column(name="split", data="text"),
)


def plan_columns(case: CaseInputs) -> dict[str, Any]:
    """Return the best deployment and its gain over the colocated one, by column.

    What `afdplan plan` computes besides (alternatives, sensitivities) is left out: it takes
    several times as long.
    """
    values = case.values
    source = _source(case)
    limits = Limits(
        devices=values["devices"],
        requests_per_second=values["requests_per_second"],
        time_per_output_token=values["time_per_output_token"],
        statistic=values["statistic"],
        overflow_probability=values["overflow_probability"],
        node_devices=values["node_devices"],
    )
    search = DesignSearch(case.law, source, _space(case), _cost(case))
    best = search.best(limits)
    if best is None:
        raise explain_infeasible(search, limits)
    design = best.design
    latency = source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    colocated = tuple(ColocatedSearch(search).widths(limits))
    baseline = max(colocated, key=lambda plan: plan.score, default=None)
    verdict = judge(case.law, source, best, colocated, limits, latency)
    step = best.step_time
    return {
        "planned_bundles": design.bundles,
        "planned_attention_workers": design.attention_workers,
        "planned_ffn_workers": design.ffn_workers,
        "planned_batch_size": design.batch_size,
        "planned_microbatches": design.microbatches,
        "planned_attention_devices": design.attention_devices,
        "planned_ffn_devices": design.ffn_devices,
        "planned_devices": design.devices,
        "requests_per_attention_worker": design.requests_per_attention_worker,
        "score": best.score,
        "tokens_per_second": best.tokens_per_second,
        "tokens_per_second_per_device": best.tokens_per_second_per_device,
        "served_requests_per_second": best.requests_per_second,
        "step_time_mean": step.mean,
        "step_time_p50": step.p50,
        "step_time_p95": step.p95,
        "step_time_p99": step.p99,
        "memory_overflow_probability": best.memory_overflow_probability,
        "attention_idle_fraction": best.attention_idle_fraction,
        "ffn_idle_fraction": best.ffn_idle_fraction,
        "colocated_devices": None if baseline is None else baseline.devices,
        "colocated_score": None if baseline is None else baseline.score,
        "gain_over_colocated": verdict.gain,
        "split": verdict.split,
    }


def _source(case: CaseInputs) -> LatencySource:
    values = case.values
    if case.placement is None:
        return MeasuredSource(
            case.latency,
            attention_devices=values["attention_devices"] or 1,
            ffn_devices=values["ffn_devices"] or 1,
            kv_tokens=values["kv_tokens"],
        )
    for name in ("ffn_devices", "kv_tokens"):
        if values[name] is not None:
            raise InvalidInputError(f"{name} follows from model and hardware: leave it out")
    chosen = values["attention_devices"]
    return DerivedSource(case.placement, None if chosen is None else (chosen,))


def _space(case: CaseInputs) -> SearchSpace:
    values = case.values
    size, microbatches = values["batch_size"], values["microbatches"]
    ffn_workers = values["ffn_workers"]
    return SearchSpace(
        batch_sizes=graph_batch_sizes(values["largest_batch_size"]) if size is None else (size,),
        fills_gaps=size is None,
        microbatches=(1, 2, 3) if microbatches is None else (microbatches,),
        target=find_target(values["target"]),
        max_attention_workers=values["max_attention_workers"],
        ffn_workers=None if ffn_workers is None else (ffn_workers,),
    )


def _cost(case: CaseInputs) -> DeviceCost:
    values = case.values
    return DeviceCost(attention=values["attention_device_cost"], ffn=values["ffn_device_cost"])


def _check(names: frozenset[str]) -> None:
    if not {"devices", "requests_per_second"} & names:
        raise InvalidInputError(
            "a study of plans needs a budget or a goal: devices, requests_per_second, or both"
        )


KIND = ComputeKind(
    name="plan",
    parameters=PARAMETERS,
    answers=ANSWERS,
    measure="score",
    shown=(
        "planned_bundles",
        "planned_attention_workers",
        "planned_ffn_workers",
        "planned_batch_size",
        "gain_over_colocated",
        "split",
    ),
    compute=plan_columns,
    check=_check,
)
