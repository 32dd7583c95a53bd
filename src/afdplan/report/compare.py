"""What differs between two answers of the same kind, and what does the difference cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.errors import InvalidInputError, TimeUnitError
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.chosen import chosen
from afdplan.model.latency import TimeUnit
from afdplan.model.parameter import Parameter
from afdplan.report.compared_answers import (
    COSTS,
    FIGURES,
    WORDS,
    Figures,
    Kind,
    kind_of,
    objectives_of,
)
from afdplan.report.document import SCHEMA_VERSION
from afdplan.report.quantities import (
    chance,
    change,
    counted,
    given_time,
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

WIDEST = 28
"""Letters of an input that are shown."""
SAME = 5e-5
"""Relative change that is told as none."""
FOLLOWS = (
    *("notes", "format", "time_unit_in_file", "service_devices", "requests_per_attention_worker"),
    *("latency.source", "latency.layers", "latency.assumptions"),
)
"""Inputs that follow from others: only `--full` and JSON tell them."""


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
    gain, measure
        Relative change of what is maximised, from the first to the second, and its name.
    """

    kind: Kind
    time_unit: TimeUnit
    names: tuple[str, str]
    inputs: tuple[Contrast, ...]
    answers: tuple[Contrast, ...]
    costs: tuple[str, ...]
    gain: float
    measure: str


def _damaged(names: tuple[str, str], what: str) -> InvalidInputError:
    return InvalidInputError(
        f"{names[0]} or {names[1]} was not written by this afdplan: {what}; write both again"
    )


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
    kinds = [kind_of(document, name) for document, name in zip((first, second), names, strict=True)]
    if kinds[0] != kinds[1]:
        raise InvalidInputError(
            "both files must hold the same kind of answer: "
            f"{names[0]} holds a {kinds[0]}, {names[1]} a {kinds[1]}"
        )
    units = (first.get("time_unit"), second.get("time_unit"))
    for document, name, unit in zip((first, second), names, units, strict=True):
        wrong = None
        if unit not in ("s", "abstract"):
            wrong = "it has no time_unit"
        elif document.get("schema_version") != SCHEMA_VERSION:
            wrong = f"its schema_version is not {SCHEMA_VERSION}; write it again"
        elif not isinstance(document.get("inputs"), Mapping):
            wrong = "its inputs are no object; write it again"
        if wrong is not None:
            raise InvalidInputError(f"{name} was not written by this afdplan: {wrong}")
    if units[0] != units[1]:
        raise TimeUnitError(
            f"times of {names[0]} are in {units[0]}, those of {names[1]} in {units[1]}: both must "
            "have the same unit; answer with latency models of the same kind"
        )
    kind, unit = kinds[0], units[0]
    try:
        figures = [FIGURES[kind](document) for document in (first, second)]
        costs = tuple(COSTS[kind](first, second, names, unit))
        before, after, measure = objectives_of(kind, first, second)
    except (KeyError, StopIteration) as error:
        raise _damaged(names, f"{error!s:.60} is missing") from None
    except (AttributeError, TypeError, ValueError):
        raise _damaged(names, "a part is of another kind") from None
    return Comparison(
        kind=kind,
        time_unit=unit,
        names=names,
        inputs=tuple(_inputs(first.get("inputs", {}), second.get("inputs", {}))),
        answers=tuple(_answers(figures[0], figures[1], unit)),
        costs=costs,
        gain=after / before - 1,
        measure=measure,
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _flat(part, f"{prefix}.{name}" if prefix else str(name))
    return found


def _inputs(first: Any, second: Any) -> Iterator[Contrast]:
    a, b = _flat(first), _flat(second)
    known = (*vars(ask).values(), *vars(of_plan).values())
    typed = {one.key: one.typed for one in known if isinstance(one, Parameter)}
    for name in dict.fromkeys((*a, *b)):
        values = (a.get(name), b.get(name))
        if values[0] != values[1]:
            told = [_shown(value, typed.get(name, "")) for value in values]
            yield Contrast(name=name, values=values, told=(told[0], told[1]))


def _shown(value: Any, typed: str = "") -> str:
    """Return what was asked as it may be typed."""
    match value:
        case None | [] | ():
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case float() if typed == "duration":
            return given_time(value, "s")
        case float() if typed == "rate":
            return f"{value:,.6g} requests/s"
        case float() if typed == "share":
            return share(value)
        case int() | float():
            return f"{value:,.6g}"
        case list() | tuple():
            text = ", ".join(_shown(one) for one in value)
        case _:
            text = plain(str(value))
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
    tell: dict[str, Callable[[Any], str]] = {
        "time": lambda value: time(value, unit),
        "rate": lambda value: rate(value, unit),
        "requests": lambda value: rate(value, unit, "requests"),
        **{"share": share, "change": change, "chance": chance, "number": number, "count": number},
    }
    return tell[how](value) if how in tell else plain(str(value))


def comparison_answer(found: Comparison) -> dict[str, Any]:
    """Return the names that ``afdplan compare --json`` promises."""
    return {
        **chosen(found, "kind gain"),
        "gain_of": found.measure,
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
    if not found.inputs and not found.answers:
        answer = "Both files ask and answer the same."
    elif not found.answers:
        answer = f"The same {found.kind}, although {counted(len(found.inputs), 'input')} differ."
    else:
        first, second = found.names
        more = f"{share(abs(found.gain))} {'more' if found.gain >= 0 else 'fewer'}"
        by, than = ("as many", "as") if abs(found.gain) < SAME else (more, "than")
        answer = f"{second} gives {by} {found.measure} {than} {first}."
    costs = " ".join(map(sentence, found.costs)) if found.answers else ""
    tables = tuple(_tables(found))
    return Telling(
        subject=f"Two answers of kind {found.kind}",
        answer=" ".join(part for part in (answer, costs) if part),
        brief=tuple(
            Fact(f"asked {_word(one.name)}", " against ".join(one.told))
            for one in found.inputs
            if one.name not in FOLLOWS
        ),
        tables=tables,
        choice=tables[0] if tables else None,
    )


def _word(name: str) -> str:
    return WORDS.get(name, name.removesuffix(".name").replace("_", " "))


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
                    (_word(one.name), *one.told, "" if one.change is None else change(one.change))
                    for one in contrasts
                    if column == "input" or one.told[0] != one.told[1]
                ],
                left=3,
                is_open=True,
            )
