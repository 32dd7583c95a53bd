"""Which figures does a written answer hold, and what does it say of another?"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from afdplan.errors import InvalidInputError
from afdplan.model.latency import TimeUnit
from afdplan.planning.objective import find_objective
from afdplan.report.quantities import change, counted, share

__all__ = ["COSTS", "FIGURES", "Figures", "Kind", "kind_of", "objectives_of"]

PRICES = ("rate", "per", "attention_cost", "ffn_cost")
"""Inputs of a plan that decide what it maximises."""
WORDS = {
    "tokens_per_second": "tokens, in all",
    "tokens_per_second_per_device": "tokens per device in use",
    "requests_per_second": "requests, at most",
    "time_per_output_token": "TPOT",
    "step_time": "output step",
    "step_time mean": "output step",
    "step_time p99": "output step p99",
    "request_time_per_output_token mean": "TPOT of a request",
    "request_time_per_output_token p99": "TPOT of a request p99",
    "memory_overflow_probability": "KV overflow probability",
    "optimal_attention_workers": "best A",
    "optimal_ratio": "real optimum A/F",
    "objective": "tokens per unit of cost",
    "throughput_per_instance": "tokens per instance",
    "barrier_cost": "cost of the barrier",
    "attention_idle_fraction": "idle attention",
    "ffn_idle_fraction": "idle FFN",
    "slot_occupancy": "slots occupied",
    "mean_token_load": "KV tokens of a slot",
    "tpot": "TPOT",
}
"""Names of JSON that are not words."""
Kind = Literal["plan", "ratio", "simulation"]


def kind_of(document: Any, name: str) -> Kind:
    """Return what a document answers; `name` is what the message calls it."""
    if isinstance(document, dict):
        if isinstance(document.get("recommended"), dict):
            return "plan"
        if "optimal_ratio" in document:
            return "ratio"
        if "throughput_per_instance" in document or _is_curve(document):
            return "simulation"
        if document.get("infeasible"):
            raise InvalidInputError(f"{name} holds no plan: {document['infeasible']!s:.200}")
    raise InvalidInputError(
        f"{name} must be what `afdplan plan`, `ratio` or `simulate` prints with --json"
    )


def _is_curve(document: Mapping[str, Any]) -> bool:
    curve = document.get("curve")
    return isinstance(curve, list) and bool(curve) and "throughput_per_instance" in curve[0]


# name: value, how it is told (text, count, number, time, share, change, chance, rate)
Figures = dict[str, tuple[Any, str]]


def _plan_figures(document: Mapping[str, Any]) -> Figures:
    best = document["recommended"]
    return {
        "deployment": (_deployment(best), "text"),
        "devices": (best["devices"], "count"),
        "tokens_per_second": (best["tokens_per_second"], "rate"),
        "tokens_per_second_per_device": (best["tokens_per_second_per_device"], "rate"),
        "requests_per_second": (best["requests_per_second"], "requests"),
        "time_per_output_token": (best["time_per_output_token"], "time"),
        "step_time p99": (best["step_time"]["p99"], "time"),
        "memory_overflow_probability": (best["memory_overflow_probability"], "chance"),
        "best split": (_deployment(document["split"]), "text"),
        "gain of the split": (document["verdict"]["gain"], "change"),
        "planned for": (document["basis"], "text"),
        "holds everywhere": ("yes" if document["holds_everywhere"] else "no", "text"),
    }


def _deployment(found: Mapping[str, Any]) -> str:
    if "ranks" in found:
        groups = f"{found['replicas']} x " if found["replicas"] > 1 else ""
        return f"{groups}{counted(found['ranks'], 'rank')}, {found['requests_per_rank']} each"
    groups = f"{found['bundles']} x " if found["bundles"] > 1 else ""
    pair = f"{found['attention_workers']}:{found['ffn_workers']}"
    return f"{groups}{pair}, B {found['batch_size']} x {found['microbatches']}"


def _ratio_figures(document: Mapping[str, Any]) -> Figures:
    best = _point(document, document["optimal_attention_workers"])
    low, high = document["near_equal_attention_workers"]
    return {
        "optimal_attention_workers": (document["optimal_attention_workers"], "count"),
        "within 1 %": (f"{low} to {high}", "text"),
        "optimal_ratio": (document["optimal_ratio"], "number"),
        "bottleneck": (document["bottleneck"], "text"),
        "objective": (best["objective"], "rate"),
        "step_time": (document["step_time"]["mean"], "time"),
        "step_time p99": (document["step_time"].get("p99"), "time"),
        "barrier_cost": (document["barrier_cost"], "share"),
        "attention_idle_fraction": (best["attention_idle_fraction"], "share"),
        "ffn_idle_fraction": (best["ffn_idle_fraction"], "share"),
        "mean_token_load": (document["mean_token_load"], "number"),
    }


def _point(document: Mapping[str, Any], workers: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(
        point for point in document["curve"] if point["attention_workers"] == workers
    )
    return found


def _best(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the simulated bundle with the most tokens per cost."""
    curve = document["curve"] if _is_curve(document) else [document]
    best: Mapping[str, Any] = max(curve, key=lambda one: _objective(one)["value"])
    return best


def _objective(point: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a simulation is judged by; documents of before have it per instance only."""
    found: Mapping[str, Any] = point.get("objective", point["throughput_per_instance"])
    return found


def _simulation_figures(document: Mapping[str, Any]) -> Figures:
    best = _best(document)
    figures: Figures = {
        "attention_workers": (best["attention_workers"], "count"),
        "ffn_workers": (best["ffn_workers"], "count"),
        "objective": (_objective(best)["value"], "rate"),
        "throughput_per_instance": (best["throughput_per_instance"]["value"], "rate"),
        "cycle_time": (best["cycle_time"]["value"], "time"),
    }
    for name in ("step_time", "request_time_per_output_token", "waiting_time"):
        for part in ("mean", "p99"):
            figures[f"{name} {part}"] = (best.get(name, {}).get(part), "time")
    for name in ("attention_idle_fraction", "ffn_idle_fraction", "slot_occupancy"):
        figures[name] = (best[name], "share")
    return figures


def objectives_of(
    kind: Kind, first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[float, float, str]:
    """Return what both answers maximise, and its name.

    Plans with another goal or other prices are compared by what a device gives: the tokens that
    count for a rate are only those that were asked for.
    """
    if kind == "plan":
        a, b = first["recommended"], second["recommended"]
        asked = [document.get("inputs", {}) for document in (first, second)]
        alike = all(asked[0].get(name) == asked[1].get(name) for name in PRICES)
        key, measure = (
            ("objective", find_objective(str(asked[0].get("per", "device"))).score)
            if alike
            else ("tokens_per_second_per_device", "tokens/s per device")
        )
        return float(a[key]), float(b[key]), measure
    if kind == "ratio":
        best = [
            _point(one, one["optimal_attention_workers"])["objective"] for one in (first, second)
        ]
        return float(best[0]), float(best[1]), _measure(first, second)
    points = [_best(one) for one in (first, second)]
    given = [float(_objective(point)["value"]) for point in points]
    return given[0], given[1], _measure(*points)


def _measure(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return what both answers count, by the name that they give it; older ones give none."""
    unit = first.get("cost_unit")
    alike = isinstance(unit, str) and unit == second.get("cost_unit")
    return f"tokens per {unit if alike else 'unit of cost'}"


def _plan_costs(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str], unit: TimeUnit
) -> Iterator[str]:
    a, b = first["recommended"], second["recommended"]
    more = a["tokens_per_second_per_device"] / b["tokens_per_second_per_device"] - 1
    word = "more" if more > 0 else "fewer"
    if more:
        yield f"a token takes {share(abs(more))} {word} devices in {names[1]}"
    for ours, other, name in ((first, second, names[1]), (second, first, names[0])):
        design = _deployment(ours["recommended"])
        if design == _deployment(other["recommended"]):
            continue
        widths = (other["colocated"] or {}).get("by_width", ())
        known = (other["split"], *other["alternatives"], *other["pareto_front"], *widths)
        found = next((one for one in known if _deployment(one) == design), None)
        if found is not None:
            lost = 1 - found["objective"] / other["recommended"]["objective"]
            yield f"{design} gives up {share(lost)} in {name}"
            continue
        yield f"{design} was not tried for {name}: {_how_to_know(other, names, name)}"


def _how_to_know(other: Mapping[str, Any], names: tuple[str, str], name: str) -> str:
    """Return the command that says what a plan gives under the requests of another."""
    own = next((one for one in names if one != name), name)
    trace = other.get("inputs", {}).get("trace")
    asked = f"--trace {shlex.quote(trace)}" if isinstance(trace, str) else "with its requests"
    return f"`afdplan check {shlex.quote(own)} {asked}` says what it costs"


def _ratio_costs(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str], unit: TimeUnit
) -> Iterator[str]:
    for ours, other, name in ((first, second, names[1]), (second, first, names[0])):
        workers = ours["optimal_attention_workers"]
        if workers == other["optimal_attention_workers"]:
            continue
        try:
            regret = _point(other, workers)["regret"]
        except StopIteration:
            yield f"A = {workers} is beyond the curve of {name}"
            continue
        yield f"keeping A = {workers} in {name} gives up {share(regret)}"


def _simulation_costs(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str], unit: TimeUnit
) -> Iterator[str]:
    a, b = (_objective(_best(one)) for one in (first, second))
    apart = a["high"] < b["low"] or b["high"] < a["low"]
    yield f"the difference of {change(b['value'] / a['value'] - 1)} is " + (
        "more than both intervals explain" if apart else "one which both intervals may explain"
    )


FIGURES: dict[Kind, Callable[[Mapping[str, Any]], Figures]] = {
    "plan": _plan_figures,
    "ratio": _ratio_figures,
    "simulation": _simulation_figures,
}
COSTS: dict[Kind, Callable[..., Iterator[str]]] = {
    "plan": _plan_costs,
    "ratio": _ratio_costs,
    "simulation": _simulation_costs,
}
