"""What differs between two answers of the same kind, and what does the difference cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from afdplan.errors import InvalidInputError, TimeUnitError
from afdplan.model.latency import TimeUnit
from afdplan.report.quantities import (
    chance,
    change,
    counted,
    number,
    plain,
    rate,
    sentence,
    share,
    time,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

__all__ = ["Comparison", "Contrast", "compare", "comparison_answer", "comparison_told"]

Kind = Literal["plan", "ratio", "simulation"]
WIDEST = 28
"""Letters of an input that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One input or figure that differs.

    Attributes
    ----------
    name
        By the names of JSON.
    values
        In both documents; None where one has none.
    told
        Both for people.
    change
        Relative change from the first to the second; None of what is no number.
    """

    name: str
    values: tuple[Any, Any]
    told: tuple[str, str]
    change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two answers beside each other.

    Attributes
    ----------
    kind, time_unit
        Of both.
    names
        Of both files.
    inputs, answers
        What was asked otherwise, and which figures came out otherwise.
    costs
        What the difference costs, one sentence each.
    gain
        Relative change of what is maximised, from the first to the second.
    """

    kind: Kind
    time_unit: TimeUnit
    names: tuple[str, str]
    inputs: tuple[Contrast, ...]
    answers: tuple[Contrast, ...]
    costs: tuple[str, ...]
    gain: float


def compare(first: Any, second: Any, names: tuple[str, str]) -> Comparison:
    """Return what differs between two documents that ``--json`` printed.

    Parameters
    ----------
    first, second
        The documents.
    names
        What their files are called.

    Raises
    ------
    InvalidInputError
        If one is no plan, ratio or simulation, or they are of different kinds.
    TimeUnitError
        If one counts in seconds and the other in an abstract unit.
    """
    kinds = [_kind(document, name) for document, name in zip((first, second), names, strict=True)]
    if kinds[0] != kinds[1]:
        raise InvalidInputError(
            "both files must hold the same kind of answer: "
            f"{names[0]} holds a {kinds[0]}, {names[1]} a {kinds[1]}"
        )
    units = (first.get("time_unit"), second.get("time_unit"))
    if units[0] != units[1] or units[0] not in ("s", "abstract"):
        raise TimeUnitError(
            f"times of {names[0]} are in {units[0]}, those of {names[1]} in {units[1]}: both must "
            "have the same unit; answer with latency models of the same kind"
        )
    kind, unit = kinds[0], units[0]
    try:
        figures = [_FIGURES[kind](document) for document in (first, second)]
        costs = tuple(_COSTS[kind](first, second, names, unit))
        objectives = [_objective(kind, document) for document in (first, second)]
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise InvalidInputError(
            f"{names[0]} or {names[1]} was not written by this afdplan: {error!s:.60} is missing; "
            "write both again"
        ) from None
    return Comparison(
        kind=kind,
        time_unit=unit,
        names=names,
        inputs=tuple(_inputs(first.get("inputs", {}), second.get("inputs", {}))),
        answers=tuple(_answers(figures[0], figures[1], unit)),
        costs=costs,
        gain=objectives[1] / objectives[0] - 1,
    )


def _kind(document: Any, name: str) -> Kind:
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
        "requests_per_second": (best["requests_per_second"], "number"),
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
    """Return the simulated bundle with the most tokens per instance."""
    curve = document["curve"] if _is_curve(document) else [document]
    best: Mapping[str, Any] = max(curve, key=lambda one: one["throughput_per_instance"]["value"])
    return best


def _simulation_figures(document: Mapping[str, Any]) -> Figures:
    best = _best(document)
    figures: Figures = {
        "attention_workers": (best["attention_workers"], "count"),
        "ffn_workers": (best["ffn_workers"], "count"),
        "throughput_per_instance": (best["throughput_per_instance"]["value"], "rate"),
        "cycle_time": (best["cycle_time"]["value"], "time"),
    }
    for name in ("step_time", "request_time_per_output_token", "waiting_time"):
        for part in ("mean", "p99"):
            figures[f"{name} {part}"] = (best.get(name, {}).get(part), "time")
    for name in ("attention_idle_fraction", "ffn_idle_fraction", "slot_occupancy"):
        figures[name] = (best[name], "share")
    return figures


def _objective(kind: Kind, document: Mapping[str, Any]) -> float:
    if kind == "plan":
        return float(document["recommended"]["objective"])
    if kind == "ratio":
        return float(_point(document, document["optimal_attention_workers"])["objective"])
    return float(_best(document)["throughput_per_instance"]["value"])


def _plan_costs(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str], unit: TimeUnit
) -> Iterator[str]:
    a, b = first["recommended"], second["recommended"]
    more = a["tokens_per_second_per_device"] / b["tokens_per_second_per_device"] - 1
    word = "more" if more > 0 else "fewer"
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
        yield f"{design} is not among the designs of {name}: `afdplan check` says what it costs"


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
    a, b = (_best(one)["throughput_per_instance"] for one in (first, second))
    apart = a["high"] < b["low"] or b["high"] < a["low"]
    yield (
        f"{names[1]} gives {change(b['value'] / a['value'] - 1)} tokens per instance, "
        + ("more than both intervals explain" if apart else "which both intervals may explain")
    )


_FIGURES: dict[Kind, Callable[[Mapping[str, Any]], Figures]] = {
    "plan": _plan_figures,
    "ratio": _ratio_figures,
    "simulation": _simulation_figures,
}
_COSTS: dict[Kind, Callable[..., Iterator[str]]] = {
    "plan": _plan_costs,
    "ratio": _ratio_costs,
    "simulation": _simulation_costs,
}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _flat(part, f"{prefix}.{name}" if prefix else str(name))
    return found


def _inputs(first: Any, second: Any) -> Iterator[Contrast]:
    a, b = _flat(first), _flat(second)
    for name in dict.fromkeys((*a, *b)):
        values = (a.get(name), b.get(name))
        if values[0] != values[1]:
            yield Contrast(name=name, values=values, told=(_shown(values[0]), _shown(values[1])))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = number(value) if isinstance(value, float) else plain(str(value))
    return text if len(text) <= WIDEST else f"...{text[3 - WIDEST :]}"


def _answers(first: Figures, second: Figures, unit: TimeUnit) -> Iterator[Contrast]:
    for name in dict.fromkeys((*first, *second)):
        (a, how), (b, _) = first.get(name, (None, "text")), second.get(name, (None, "text"))
        if a == b:
            continue
        both = isinstance(a, int | float) and isinstance(b, int | float)
        yield Contrast(
            name=name,
            values=(a, b),
            told=(_told(a, how, unit), _told(b, how, unit)),
            change=b / a - 1 if both and a and how not in ("share", "change", "chance") else None,
        )


def _told(value: Any, how: str, unit: TimeUnit) -> str:
    if value is None:
        return "-"
    match how:
        case "time":
            return time(value, unit)
        case "rate":
            return rate(value, unit)
        case "share":
            return share(value)
        case "change":
            return change(value)
        case "chance":
            return chance(value)
        case "number" | "count":
            return number(value)
    return plain(str(value))


def comparison_answer(found: Comparison) -> dict[str, Any]:
    """Return the names that ``afdplan compare --json`` promises."""
    return {
        "kind": found.kind,
        "gain": found.gain,
        "inputs_that_differ": [_contrast(one) for one in found.inputs],
        "answers_that_differ": [_contrast(one) for one in found.answers],
        "costs": list(found.costs),
    }


def _contrast(one: Contrast) -> dict[str, Any]:
    return {
        "name": one.name,
        "first": one.values[0],
        "second": one.values[1],
        "change": one.change,
    }


def comparison_told(found: Comparison) -> Telling:
    """Return what is said of two answers."""
    what = {"plan": "tokens per unit of cost", "ratio": "tokens per unit of cost"}
    measure = what.get(found.kind, "tokens per instance")
    if not found.inputs and not found.answers:
        answer = "Both files ask and answer the same."
    elif not found.answers:
        answer = f"The same {found.kind}, although {counted(len(found.inputs), 'input')} differ."
    else:
        word = "more" if found.gain >= 0 else "fewer"
        first, second = found.names
        answer = f"{second} gives {share(abs(found.gain))} {word} {measure} than {first}."
    costs = " ".join(map(sentence, found.costs)) if found.answers else ""
    tables = tuple(_tables(found))
    return Telling(
        subject=f"Two answers of kind {found.kind}",
        answer=" ".join(part for part in (answer, costs) if part),
        brief=tuple(Fact(f"asked {one.name}", " against ".join(one.told)) for one in found.inputs),
        tables=tables,
        choice=tables[0] if tables else None,
    )


def _tables(found: Comparison) -> Iterator[TextTable]:
    for title, column, contrasts in (
        ("Answers that differ", "answer", found.answers),
        ("Inputs that differ", "input", found.inputs),
    ):
        if contrasts:
            yield TextTable(
                title=title,
                columns=(column, *found.names, "change"),
                rows=[
                    (one.name, *one.told, "" if one.change is None else change(one.change))
                    for one in contrasts
                ],
                left=3,
                is_open=True,
            )
