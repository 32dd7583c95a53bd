"""What do the results of a study say: best per group, the price of every fixed choice, windows?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from afdplan.errors import InvalidInputError
from afdplan.files.results.dataset import ResultsDataset
from afdplan.model.words import nearest
from afdplan.planning.reprovisioning import Reprovisioning, WindowCurve, compare_fixed
from afdplan.studies.case_runner import DONE, FAILED, REFUSED
from afdplan.studies.kinds import compute_kind

__all__ = ["ChoiceRegret", "StudySummary", "WindowSeries", "check_groups", "summarize"]

CHOICES = (
    "batch_size",
    "requests_per_worker",
    "largest_batch_size",
    "microbatches",
    "attention_workers",
    "ffn_workers",
    "attention_devices",
    "ffn_devices",
    "placement",
    "memory",
)
"""Variables that an operator chooses; the others are the world, its limits, and the method."""
MAXIMUM_GROUPS = 1000
MAXIMUM_VALUES = 50
MAXIMUM_SERIES = 12
# These say nothing about the world or the design: rows are averaged over them.
_REPEATS = ("seed", "draw")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRegret:
    """What it costs to fix one variable at one value everywhere, the others chosen best.

    Attributes
    ----------
    variable, value
        The choice.
    groups
        Groups that have it.
    missing
        Groups where no case with it is done.
    mean, worst
        Share of the group's best measure that is given up.
    """

    variable: str
    value: Any
    groups: int
    missing: int
    mean: float
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSeries:
    """The windows of one trace under one setting of everything else."""

    setting: Mapping[str, Any]
    answer: Reprovisioning


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """What the results say.

    Attributes
    ----------
    name, compute, measure, time_unit
        Of the study; `measure` is the answer that is best when largest.
    cases, done, refused, failed
        How many; what is left is missing.
    reasons
        (status, reason, cases), the most frequent first.
    groups
        Variables of the world that define a group.
    choices
        Varied variables that are chosen within a group.
    group_count
        Number of groups; `best` has at most a thousand.
    best
        The best case of each group: its group, choices, measure and main answers.
    regrets
        For every value of every choice.
    series
        Fixed against adaptive, for studies of windows.
    warnings
        One sentence each.
    """

    name: str
    compute: str
    measure: str
    time_unit: Any
    cases: int
    done: int
    refused: int
    failed: int
    reasons: tuple[tuple[str, str, int], ...]
    groups: tuple[str, ...]
    choices: tuple[str, ...]
    group_count: int
    best: tuple[dict[str, Any], ...]
    regrets: tuple[ChoiceRegret, ...]
    series: tuple[WindowSeries, ...]
    warnings: tuple[str, ...]


def summarize(results: ResultsDataset, by: Sequence[str] | None = None) -> StudySummary:
    """Return what the results of a study say so far.

    Parameters
    ----------
    results
        Complete or not.
    by
        Columns that define a group; by default all varied variables but those that an operator
        chooses (batch size, microbatches, workers, placement).

    Raises
    ------
    InvalidInputError
        If `by` names no input of the study, or a part of the results cannot be read.

    Notes
    -----
    Rows that differ only in `seed` or `draw` are averaged first.
    """
    manifest = results.manifest
    kind = compute_kind(str(manifest["compute"]))
    rows = results.scan()
    _check_cases(rows, results, int(manifest["cases"]))
    counts = dict(rows.group_by("status").len().collect().iter_rows())
    varied = _varied(rows, [name for name in manifest["varied"] if name not in _REPEATS])
    groups = _groups(varied, by, kind.name)
    choices = [name for name in varied if name not in groups]
    averaged = [c for c in (kind.measure, *kind.shown) if manifest["columns"][c] == "number"]
    first = [c for c in kind.shown if c not in averaged]
    done = (
        rows.filter(pl.col("status") == DONE)
        .group_by([*groups, *choices])
        .agg(
            pl.col("case").min(), *(pl.col(c).mean() for c in averaged),
            *(pl.col(c).sort_by("case").first() for c in first),
        )
    )  # fmt: skip
    best = _best(done, groups, kind.measure)
    table = (
        best.sort("case").head(MAXIMUM_GROUPS)
        .select([*groups, *choices, kind.measure, *kind.shown, "case"]).collect()
    )  # fmt: skip
    warnings = list(manifest.get("warnings", []))
    series, notes = _series(rows, manifest, varied, kind.measure)
    return StudySummary(
        name=str(manifest["name"]),
        compute=kind.name,
        measure=kind.measure,
        time_unit=manifest["time_unit"],
        cases=int(manifest["cases"]),
        done=counts.get(DONE, 0),
        refused=counts.get(REFUSED, 0),
        failed=counts.get(FAILED, 0),
        reasons=_reasons(rows),
        groups=tuple(groups),
        choices=tuple(choices),
        group_count=int(best.select(pl.len()).collect().item()),
        best=tuple(table.to_dicts()),
        regrets=_regrets(done, best, groups, choices, kind.measure),
        series=series,
        warnings=(*warnings, *notes),
    )


def _check_cases(rows: pl.LazyFrame, results: ResultsDataset, cases: int) -> None:
    """Refuse parts that do not belong together: they would be counted as results."""
    case = pl.col("case")
    count, different, first, last = (
        rows.select(
            pl.len(), case.n_unique().alias("different"), case.min(), case.max().alias("last")
        )
        .collect()
        .row(0)
    )
    rule = None
    if different < count:
        rule = f"{count - different:,} of its {count:,} rows repeat a case"
    elif count and not 0 <= first <= last < cases:
        rule = f"it has cases {first:,} to {last:,} of a study of {cases:,}"
    if rule is not None:
        raise InvalidInputError(
            f"{results.folder} holds parts of another run: {rule}; remove the parts that were "
            "copied there, or run the study again into another folder"
        )


def _varied(rows: pl.LazyFrame, names: list[str]) -> list[str]:
    """Return those inputs that have more than one value."""
    if not names:
        return []
    values = rows.select(pl.col(name).n_unique() for name in names).collect().row(0)
    return [name for name, count in zip(names, values, strict=True) if count > 1]


def _groups(varied: list[str], by: Sequence[str] | None, compute: str) -> list[str]:
    if by is None:
        return [name for name in varied if name not in CHOICES]
    check_groups(by, compute)
    return list(dict.fromkeys(by))


def check_groups(by: Sequence[str], compute: str) -> None:
    """Refuse names that are no inputs of a study of this kind.

    Raises
    ------
    InvalidInputError
        If there is one.
    """
    known = [*compute_kind(compute).variables, "window"]
    for name in by:
        if name not in known:
            raise InvalidInputError(f"--by must name inputs, got {name!r}; {nearest(name, known)}")


def _best(done: pl.LazyFrame, groups: list[str], measure: str) -> pl.LazyFrame:
    """Return the row of the largest measure of each group; of equals the first case."""
    ordered = done.sort([measure, "case"], descending=[True, False])
    return ordered.unique(groups, keep="first", maintain_order=True) if groups else ordered.head(1)


def _reasons(rows: pl.LazyFrame) -> tuple[tuple[str, str, int], ...]:
    found = (
        rows.filter(pl.col("reason").is_not_null())
        .group_by(["status", "reason"]).len()
        .sort(["len", "reason"], descending=[True, False]).head(20).collect()
    )  # fmt: skip
    return tuple((status, reason, count) for status, reason, count in found.iter_rows())


def _regrets(
    done: pl.LazyFrame, best: pl.LazyFrame, groups: list[str], choices: list[str], measure: str
) -> tuple[ChoiceRegret, ...]:
    everywhere = int(best.select(pl.len()).collect().item())
    top = best.select([*groups, pl.col(measure).alias("top")])
    regrets = []
    for name in choices:
        values = done.select(pl.col(name).n_unique()).collect().item()
        if not 2 <= values <= MAXIMUM_VALUES:
            continue
        within = done.group_by([*groups, name]).agg(pl.col(measure).max())
        joined = (
            within.join(top, on=groups, how="left", nulls_equal=True) if groups
            else within.join(top, how="cross")
        )  # fmt: skip
        regret = 1 - pl.col(measure) / pl.col("top")
        table = (
            joined.group_by(name)
            .agg(pl.len(), regret.mean().alias("mean"), regret.max().alias("worst"))
            .sort(name).collect()
        )  # fmt: skip
        regrets += [
            ChoiceRegret(
                variable=name, value=value, groups=count, missing=everywhere - count,
                mean=max(mean, 0.0), worst=max(worst, 0.0),
            )
            for value, count, mean, worst in table.iter_rows()
        ]  # fmt: skip
    return tuple(regrets)


def _series(
    rows: pl.LazyFrame, manifest: Mapping[str, Any], varied: list[str], measure: str
) -> tuple[tuple[WindowSeries, ...], list[str]]:
    """Return fixed against adaptive for every setting, where windows vary."""
    columns = manifest["columns"]
    has_curve = "curve_objective" in columns
    if "window" not in varied or not (has_curve or "attention_workers" in varied):
        return (), []
    others = [name for name in varied if name not in ("window", "attention_workers")]
    wanted = ["window", "window_start", "trace_output_tokens"]
    wanted += ["curve_attention_workers", "curve_objective"] if has_curve else [
        "attention_workers", measure]  # fmt: skip
    done = rows.filter(pl.col("status") == DONE)
    settings = done.select(others).unique().sort(others).head(MAXIMUM_SERIES + 1).collect() \
        if others else pl.DataFrame([{}])  # fmt: skip
    notes = []
    if settings.height > MAXIMUM_SERIES:
        notes.append(
            f"windows are told for the first {MAXIMUM_SERIES} settings of {', '.join(others)}"
        )
    series = []
    for setting in settings.head(MAXIMUM_SERIES).to_dicts() if others else [{}]:
        chosen = done
        for name, value in setting.items():
            chosen = chosen.filter(pl.col(name).eq_missing(value))
        found = chosen.select(wanted).sort("window").collect()
        if found.height:
            series.append(WindowSeries(setting=setting, answer=compare_fixed(_curves(found))))
    if any(one.answer.at_limit for one in series):
        notes.append(
            "the best fixed number of attention workers is the largest considered in all windows: "
            "set max_attention_workers in the study"
        )
    return tuple(series), notes


def _curves(found: pl.DataFrame) -> list[WindowCurve]:
    windows: dict[int, tuple[float | None, float, dict[int, list[float]]]] = {}
    for number, start, tokens, workers, values in found.iter_rows():
        pairs = zip(workers, values, strict=True) if isinstance(workers, list) else [
            (workers, values)]  # fmt: skip
        curve = windows.setdefault(number, (start, float(tokens), {}))[2]
        for count, value in pairs:
            curve.setdefault(count, []).append(value)
    return [
        WindowCurve(
            number=number,
            start=start,
            output_tokens=tokens,
            objective={count: sum(v) / len(v) for count, v in curve.items()},
        )
        for number, (start, tokens, curve) in windows.items()
    ]
