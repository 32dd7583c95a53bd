"""Which study does a file declare, checked before anything runs?"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError, placed
from afdplan.files.study_file import StudyDocument, read_study_file
from afdplan.model import parameters as ask
from afdplan.model.parameter import Parameter
from afdplan.model.words import nearest
from afdplan.studies.axes import Axis, DrawAxis, GridAxis, Range, RowAxis, parse_draws
from afdplan.studies.columns import WORKLOAD
from afdplan.studies.kinds import ComputeKind, compute_kind
from afdplan.studies.latencies import read_latencies
from afdplan.studies.sources import WindowAxis, read_sources
from afdplan.studies.study import NAMED, Study
from afdplan.studies.windows import parse_windows

__all__ = ["MAXIMUM_CASES", "load_study"]

MAXIMUM_CASES = 10_000_000
_LARGEST = 2**53  # every count below is exact in JSON and in columns of numbers
_WORKLOAD = tuple(one.name for one in WORKLOAD)
_DERIVED = tuple(one.name for one in NAMED)
_TIMES = tuple(one.name for one in ask.LATENCY_CHOICE)


def load_study(path: str | Path) -> Study:
    """Return the study that a file declares: all values checked, all traces and models read.

    Parameters
    ----------
    path
        A study file (TOML or JSON), or the manifest of earlier results.

    Raises
    ------
    InvalidInputError
        If a key is unknown, a value out of its domain, a file missing or broken, or there are
        more than `MAXIMUM_CASES` cases. The cases are counted before any trace is read.
    """
    document = read_study_file(path)
    where = str(path)
    kind = compute_kind(document.compute)
    fixed, axes = _axes(document, kind, where)
    _check_ways(frozenset(fixed).union(*(axis.names for axis in axes)), kind, where)
    rule = parse_windows(document.windows, where)
    _check_size(axes, where)
    sources, notes = read_sources(document, _used_sources(fixed, axes), rule, where)
    if rule is not None:
        fixed, axes = _cut(fixed, axes, {k: list(s.windows) for k, s in sources.items()}, where)
        _check_size(axes, where)
    derived = _combinations(fixed, axes, _DERIVED)
    names = [str(v["latency"]) for v in _combinations(fixed, axes, ("latency",)) if "latency" in v]
    latencies = read_latencies(document, names, [v for v in derived if v], where)
    defaults = {name: p.default for name, p in kind.variables.items()}
    study = Study(
        name=document.name,
        compute=document.compute,
        fixed={**defaults, **fixed},
        axes=tuple(sorted(axes, key=_slowness)),
        sources=sources,
        latencies=latencies.models,
        latency_fingerprints=latencies.fingerprints,
        time_unit=latencies.time_unit,
        digest=_digest(document, [s.fingerprint for s in sources.values()], latencies.fingerprints),
        warnings=notes,
    )
    return study


@dataclass(frozen=True, slots=True)
class _Section:
    """The variables of one section with their values, checked."""

    name: str
    values: Mapping[str, list[Any]]


def _axes(
    document: StudyDocument, kind: ComputeKind, where: str
) -> tuple[dict[str, Any], list[Axis]]:
    """Return the fixed variables and the axes, every value checked, every name used once."""
    variables = kind.variables
    draws = parse_draws(document.sample, where)
    sections = [
        _Section("fixed", {name: [value] for name, value in document.fixed.items()}),
        _Section("grid", document.grid),
        _Section("zip", document.zip),
        _Section(
            "sample", {} if draws is None else {n: _ends(s) for n, s in draws.sources.items()}
        ),
    ]
    seen: dict[str, str] = {}
    checked: dict[str, dict[str, list[Any]]] = {}
    for section in sections:
        for name, values in section.values.items():
            if name not in variables:
                raise InvalidInputError(
                    f"{where}: {name} in [{section.name}] is no variable of compute = "
                    f'"{kind.name}"; {nearest(name, list(variables))}'
                )
            if name in seen:
                raise InvalidInputError(
                    f"{where}: {name} must be in one section, got [{seen[name]}] and "
                    f"[{section.name}]"
                )
            seen[name] = section.name
            checked.setdefault(section.name, {})[name] = [
                _check(variables[name], value, f"{where}: [{section.name}]") for value in values
            ]
    axes: list[Axis] = []
    for name, values in checked.get("grid", {}).items():
        if len(set(values)) < len(values):
            raise InvalidInputError(f"{where}: {name} in [grid] must not repeat a value")
        axes.append(GridAxis(name, values))
    together = checked.get("zip", {})
    if together:
        sizes = {name: len(values) for name, values in together.items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InvalidInputError(f"{where}: lists in [zip] must have one length, got {told}")
        rows = [
            dict(zip(together, row, strict=True)) for row in zip(*together.values(), strict=True)
        ]
        axes.append(RowAxis(rows))
    if draws is not None:
        lists = checked["sample"]
        axes.append(
            DrawAxis(
                draws.seed,
                draws.draws,
                {n: s if isinstance(s, Range) else lists[n] for n, s in draws.sources.items()},
            )
        )
        for name, source in draws.sources.items():
            if isinstance(source, Range) and variables[name].data == "count":
                _check_whole(name, source, where)
    return {name: values[0] for name, values in checked.get("fixed", {}).items()}, axes


def _ends(source: Any) -> list[Any]:
    if not isinstance(source, Range):
        return list(source)
    ends = [source.low, source.high]
    return [int(end) for end in ends] if source.is_integer else ends


def _check_whole(name: str, source: Range, where: str) -> None:
    if not source.is_integer:
        raise InvalidInputError(f"{where}: {name} in [sample] must have whole numbers as ends")


def _check(parameter: Parameter, value: Any, where: str) -> Any:
    with placed(where):
        checked = parameter.check(value)
    if isinstance(checked, int) and checked > _LARGEST:
        raise InvalidInputError(
            f"{where}: {parameter.name} must be at most {_LARGEST}, got {checked}"
        )
    return checked


def _check_ways(names: frozenset[str], kind: ComputeKind, where: str) -> None:
    """Raise unless workload and latency are each given in exactly one way."""
    ways = [{"workload"}, {"trace"}, {"prompt", "decode"}]
    given = names & set(_WORKLOAD)
    if given not in ways:
        raise InvalidInputError(
            f"{where}: say what the requests are by one of workload, trace, or prompt with decode; "
            f"got {', '.join(sorted(given)) or 'none'}"
        )
    with placed(where):
        LatencyChoice.of({name: name for name in names})
        kind.check(names)


def _check_size(axes: list[Axis], where: str) -> None:
    cases = math.prod(axis.size for axis in axes)
    if cases > MAXIMUM_CASES:
        sizes = " x ".join(f"{axis.size:,}" for axis in axes)
        raise InvalidInputError(
            f"{where}: a study has at most {MAXIMUM_CASES:,} cases, got {cases:,} ({sizes}): "
            "shorten the grid, or draw from it in [sample]"
        )


def _combinations(
    fixed: Mapping[str, Any], axes: list[Axis], names: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of `names` that some case has."""
    partial = [{name: fixed[name] for name in names if name in fixed}]
    for axis in axes:
        if not set(names) & set(axis.names):
            continue
        if isinstance(axis, DrawAxis):
            found = _drawn(axis, names)
        else:
            rows = (axis.at(position) for position in range(axis.size))
            found = [{n: row[n] for n in names if n in row} for row in rows]
        unique = list({json.dumps(row, sort_keys=True): row for row in found}.values())
        partial = [{**one, **other} for one in partial for other in unique]
    yield from partial


def _drawn(axis: DrawAxis, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return every combination that a draw of texts can give."""
    rows: list[dict[str, Any]] = [{}]
    for name, source in axis.sources.items():
        if name in names and not isinstance(source, Range):
            rows = [{**row, name: value} for row in rows for value in source]
    return rows


def _used_sources(fixed: Mapping[str, Any], axes: list[Axis]) -> list[dict[str, Any]]:
    names = ("prompt", "decode")
    laws = [{name: v[name]} for name in names for v in _combinations(fixed, axes, (name,)) if v]
    return [*_combinations(fixed, axes, ("workload", "trace")), *laws]


def _cut(
    fixed: dict[str, Any], axes: list[Axis], windows: Mapping[str, list[int]], where: str
) -> tuple[dict[str, Any], list[Axis]]:
    """Return the same study with every trace replaced by its windows."""
    at = next((i for i, axis in enumerate(axes) if {"workload", "trace"} & set(axis.names)), None)
    if at is None:
        name = "workload" if "workload" in fixed else "trace"
        if name not in fixed:
            raise InvalidInputError(f"{where}: [windows] cuts traces: give trace, not laws")
        single: Axis = RowAxis([{name: fixed[name]}])
        rest = {key: value for key, value in fixed.items() if key != name}
        return rest, [WindowAxis.of(single, windows, where), *axes]
    if isinstance(axes[at], DrawAxis):
        raise InvalidInputError(
            f"{where}: [windows] needs the trace in [fixed], [grid] or [zip], not in [sample]"
        )
    return fixed, [*axes[:at], WindowAxis.of(axes[at], windows, where), *axes[at + 1 :]]


def _slowness(axis: Axis) -> int:
    """Return 0 for requests, 1 for times, else 2: neighbouring cases then share what is costly."""
    if set(axis.names) & set(_WORKLOAD):
        return 0
    return 1 if set(axis.names) & set(_TIMES) else 2


def _digest(document: StudyDocument, requests: list[str], times: Mapping[str, str]) -> str:
    declared = {key: value for key, value in document.whole.items() if key != "name"}
    content = [declared, sorted(requests), sorted(times.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
