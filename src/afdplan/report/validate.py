"""How is the evidence told to a person, to a page and to a machine?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import afdplan
from afdplan.errors import ValidationError
from afdplan.report.tables import TextTable, to_markdown, to_rich
from afdplan.validation.bands import BandCheck
from afdplan.validation.cell import METHODS, CellResult
from afdplan.validation.regret import BASELINES, RatioResult

if TYPE_CHECKING:
    from rich.console import RenderableType

    from afdplan.model.estimate import Estimate
    from afdplan.validation.paper import PaperResult
    from afdplan.validation.published import PublishedSystem
    from afdplan.validation.run import Validation
    from afdplan.validation.traces import TraceResult

__all__ = [
    "markdown_page",
    "render_validation",
    "validation_answer",
    "verdict",
    "verdict_error",
]

SHOWN_CELLS = 12
"""Cells in the terminal; the page has all."""
_READING = """\
Theory and simulation share no code but the description of the bundle. Errors are signed, theory
over simulation minus 1: positive means that the theory says slower than it is. Latency models of
laws and traces are made up, so that the named resource binds at the named size; requests are
independent draws from the named law or trace. For the bands an error counts from the end
of the simulation's 95 % interval, and runs go on until that interval is narrow (0.5 %, or 0.2 %
with `--full`)."""


def render_validation(result: Validation) -> RenderableType:
    """Return the verdict and its tables for a terminal."""
    from rich.console import Group
    from rich.markup import escape

    colour = "red" if result.broken else "green"
    parts: list[RenderableType] = [f"[bold {colour}]{escape(_headline(result))}[/]"]
    for table in _tables(result, shown=SHOWN_CELLS):
        parts += ["", to_rich(table)]
    return Group(*parts)


def markdown_page(result: Validation) -> str:
    """Return the whole evidence as a Markdown page."""
    command = "afdplan validate " + ("all" if len(result.parts) == 3 else result.parts[0])
    command += " --full" if result.full else ""
    command += " --traces DIR" if result.traces else ""
    head = [
        "# Validation",
        "",
        f"Written by `{command} --markdown FILE`, afdplan {afdplan.__version__}.",
        "",
        f"**{_headline(result)}.**",
        "",
        _READING,
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(to_markdown(table) for table in _tables(result, None))


def validation_answer(result: Validation) -> dict[str, Any]:
    """Return what ``afdplan validate --json`` prints under the common head.

    Times are in the unit of their model: abstract in `paper`, `cells`, `traces` and `ratios`
    (every trace is given an abstract latency model), seconds in `published`.
    """
    return {
        "holds": not result.broken,
        "covered_fraction": result.covered_fraction,
        "bands": [{"holds": check.holds, **_fields(check)} for check in result.checks],
        "paper": result.paper,
        "cells": result.cells,
        "traces": result.traces,
        "ratios": result.ratios,
        "published": [
            {
                **_fields(system),
                "time_unit": "s",
                "points": [{**_fields(point), "error": point.error} for point in system.points],
            }
            for system in result.published
        ],
    }


def verdict(check: BandCheck) -> str:
    """Return one sentence on one band."""
    limit, worst = _limit(check, check.limit), _limit(check, check.worst)
    if check.holds:
        return f"{check.band}: at most {worst} of {limit} ({check.worst_case})"
    count = len(check.broken)
    return f"{check.band} must be at most {limit}, got {worst} at {check.worst_case!r}" + (
        f" and {count - 1} more of {check.cases}" if count > 1 else f", 1 of {check.cases}"
    )


def verdict_error(result: Validation) -> ValidationError:
    """Return the error of a validation some of whose bands do not hold: one line."""
    first, others = result.broken[0], len(result.broken) - 1
    also = f"; {others} other band{'s' if others > 1 else ''} broken too" if others else ""
    return ValidationError(f"{verdict(first)}{also}: see `afdplan validate --json`")


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _limit(check: BandCheck, value: float) -> str:
    if check.limit == 1.0:
        return f"{value:.2f} of what is stated" if value != 1.0 else "what is stated"
    return _percent(value)


def _percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"


def _signed(value: float, digits: int = 2) -> str:
    return f"{100 * value:+.{digits}f} %"


def _headline(result: Validation) -> str:
    if not result.checks:
        facts = result.paper.facts if result.paper else ()
        good = sum(fact.verdict == "reproduced" for fact in facts)
        bad = sum(fact.verdict == "not reproducible" for fact in facts)
        return f"{good} published numbers reproduced, {bad} not reproducible (each says why)"
    if result.broken:
        return f"{len(result.broken)} of {len(result.checks)} declared bands do not hold"
    cells = result.all_cells
    looked = f", over {len(cells)} bundles simulated" if cells else ""
    return f"All {len(result.checks)} declared bands hold{looked}"


def _tables(result: Validation, shown: int | None) -> Iterable[TextTable]:
    if result.checks:
        yield _band_table(result.checks)
    if result.paper is not None:
        yield from _paper_tables(result.paper)
    if result.cells:
        yield _method_table(result.all_cells)
        yield from _cell_tables(result.cells, shown)
    if result.traces:
        yield _trace_table(result.traces)
        yield _order_table(result.traces)
    if result.ratios:
        yield _baseline_table(result.ratios)
        yield _ratio_table(result.ratios)
    if result.published:
        yield from _published_tables(result.published)


def _band_table(checks: Sequence[BandCheck]) -> TextTable:
    return TextTable(
        title="Declared bands",
        columns=("band", "worst case", "verdict", "limit", "worst", "cases", "undecided"),
        left=3,
        rows=[
            (
                check.band,
                check.worst_case,
                "holds" if check.holds else f"BROKEN ({len(check.broken)})",
                "1 of it" if check.limit == 1.0 else _percent(check.limit, 1),
                f"{check.worst:.2f} of it" if check.limit == 1.0 else _percent(check.worst),
                f"{check.cases}",
                f"{check.undecided}",
            )
            for check in checks
        ],
        note="Declared validity: requests live L E[D] / tokens_per_step >= 200 rounds, m <= 4, "
        "A <= 64; independent draws from the law or trace. Undecided: the simulated interval is "
        "wider than the limit, so that a breach of its size would not show.",
    )


def _paper_tables(paper: PaperResult) -> Iterable[TextTable]:
    yield TextTable(
        title="Numbers of arXiv:2601.21351",
        columns=("what", "published", "ours", "verdict", "why"),
        left=5,
        rows=[(f.what, f.published, f.ours, f.verdict, f.why) for f in paper.facts],
        note="Published coefficients, time in cycles of unknown length.",
    )
    yield TextTable(
        title="Throughput per instance over r on the paper's baseline [tokens per 1000 time units]",
        columns=(
            "r",
            "mean field",
            "Gaussian",
            "exact",
            "pipelined m=2",
            "simulated, steady",
            "pipelined error",
            "simulated, fresh start",
            "idle A",
            "idle F",
        ),
        rows=[
            (
                f"{p.attention_workers}",
                *(f"{1e3 * x:.1f}" for x in (p.mean_field, p.gaussian, p.exact, p.pipelined)),
                _interval(p.stationary),
                _signed(p.pipelined / p.stationary.value - 1),
                _interval(p.fresh),
                _percent(p.stationary_idle[0], 1),
                _percent(p.stationary_idle[1], 1),
            )
            for p in paper.curve
        ],
        note="B=256, mean prompt 100, mean output 500, geometric. Mean field, Gaussian and exact "
        "assume ideal overlap; idle fractions are those of the steady simulation. Fresh start, as "
        "in the paper: 10,000 requests per worker, first 80 % of completions.",
    )
    yield TextTable(
        title="Batch size and workload on the paper's coefficients",
        columns=(
            "B",
            "mean prompt",
            "mean output",
            "paper's rule r*",
            "pipelined m=2",
            "best simulated",
            "regret of the rule",
            "regret of pipelined",
        ),
        left=0,
        rows=[
            (
                f"{a.batch_size}",
                f"{a.mean_prompt}",
                f"{a.mean_decode}",
                f"{a.rule:.2f}",
                f"{a.pipelined}",
                f"{a.simulated}",
                _percent(a.regret_of_rule, 1),
                _percent(a.regret_of_pipelined, 1),
            )
            for a in paper.ablations
        ],
    )


def _interval(estimate: Estimate) -> str:
    half = 1e3 * (estimate.high - estimate.low) / 2
    return f"{1e3 * estimate.value:.1f} +- {half:.1f}"


def _method_table(cells: Sequence[CellResult]) -> TextTable:
    declared = [cell for cell in cells if cell.is_declared]
    rows = []
    for method in METHODS:
        errors = [cell.errors[method] for cell in declared]
        rows.append(
            (
                method,
                _percent(median(abs(e) for e in errors)),
                _signed(min(errors)),
                _signed(max(errors)),
            )
        )
    inside = sum(cell.is_inside for cell in declared)
    sure = sum(abs(cell.error) + cell.half_width <= cell.allowed for cell in declared)
    return TextTable(
        title="Error of E[tau] by method, in the declared validity",
        columns=("method", "median |error|", "lowest", "highest"),
        rows=rows,
        note=f"theory / simulation - 1 over {len(declared)} cells. The exact method lies inside "
        f"the simulation's 95 % interval in {inside} of them, and the whole interval inside the "
        f"band of 1 % in {sure}.",
    )


def _cell_tables(cells: Sequence[CellResult], shown: int | None) -> Iterable[TextTable]:
    titles = {
        "grid": "Laws, regimes, sizes",
        "feature": "What latency models and bundles may have",
        "short": "Requests that live fewer rounds than declared",
    }
    for group, title in titles.items():
        own = [cell for cell in cells if cell.group == group]
        if own:
            yield _cell_table(title, own, shown)


def _cell_table(title: str, cells: Sequence[CellResult], shown: int | None) -> TextTable:
    ordered = sorted(cells, key=lambda cell: -abs(cell.error))
    kept = ordered if shown is None else ordered[:shown]
    rest = len(ordered) - len(kept)
    return TextTable(
        title=title,
        columns=(
            "cell",
            "rounds",
            "mean field",
            "Gaussian",
            "exact",
            "interval",
            "stated",
            "p99",
            "p99 interval",
        ),
        rows=[
            (
                cell.name,
                f"{cell.rounds:.0f}",
                *(_signed(cell.errors[method]) for method in METHODS),
                f"+- {_percent(cell.half_width)}",
                _percent(cell.allowed, 1),
                _signed(cell.p99_error),
                f"+- {_percent(cell.simulated.step_time_p99.relative_half_width)}",
            )
            for cell in kept
        ],
        note="Signed errors of E[tau] and of the step time's 99th percentile (exact), largest first"
        + (f"; {rest} smaller ones are not shown (--markdown, --json)." if rest else "."),
    )


def _trace_table(traces: Sequence[TraceResult]) -> TextTable:
    return TextTable(
        title="Traces, resampled",
        columns=(
            "trace and bundle",
            "theta",
            "nu",
            "mean field",
            "Gaussian",
            "exact",
            "interval",
            "p99",
        ),
        rows=[
            (
                cell.name,
                f"{trace.mean_token_load:,.0f}",
                f"{trace.std_token_load:,.0f}",
                *(_signed(cell.errors[method]) for method in METHODS),
                f"+- {_percent(cell.half_width)}",
                _signed(cell.p99_error),
            )
            for trace in traces
            for cell in trace.cells
        ],
        note="Independent draws from the requests of each trace; theta and nu in tokens.",
    )


def _order_table(traces: Sequence[TraceResult]) -> TextTable:
    return TextTable(
        title="Traces, replayed in their order: the cost of drift",
        columns=("trace", "note", "requests", "fills of all slots", "exact", "interval"),
        left=2,
        rows=[
            (
                trace.file,
                "too short to fill the slots 20 times: says little" if trace.is_too_short else "",
                f"{trace.requests:,}",
                f"{trace.fills:.0f}",
                _signed(trace.replay_error),
                f"+- {_percent(trace.replay_cycle_time.relative_half_width)}",
            )
            for trace in traces
        ],
        note="Theory / replay - 1 of E[tau]. No band: drift is no error of the formula but of "
        "taking the whole trace for one law.",
    )


def _baseline_table(ratios: Sequence[RatioResult]) -> TextTable:
    rows = []
    for method, meaning in BASELINES.items():
        picks = [result.of(method) for result in ratios]
        errors = [pick.promise_error for pick in picks]
        rows.append(
            (
                method,
                meaning,
                _percent(median(pick.regret for pick in picks), 1),
                _percent(max(pick.regret for pick in picks), 1),
                _signed(median(errors), 1),
                _signed(max(errors, key=abs), 1),
            )
        )
    return TextTable(
        title="Who recommends what, over all cases",
        columns=(
            "method",
            "meaning",
            "median regret",
            "worst regret",
            "median promise",
            "worst promise",
        ),
        left=2,
        rows=rows,
        note="Regret: share of the best simulated throughput per instance given up by following "
        "the recommendation. Promise: throughput expected over throughput simulated, minus 1.",
    )


def _ratio_table(ratios: Sequence[RatioResult]) -> TextTable:
    return TextTable(
        title="Recommended attention workers (regret)",
        columns=("case", "best simulated", *BASELINES),
        rows=[
            (
                result.name,
                f"{result.best_attention_workers}",
                *(
                    f"{pick.attention_workers} ({_percent(pick.regret, 1)})"
                    for pick in result.recommendations
                ),
            )
            for result in ratios
        ],
    )


def _published_tables(systems: Sequence[PublishedSystem]) -> Iterable[TextTable]:
    rows = []
    for system in systems:
        for point in system.points:
            rows.append(
                (
                    system.title,
                    point.ratio,
                    "calibrated on" if point.is_calibration else "predicted",
                    f"{1e3 * point.measured:.2f}",
                    f"{1e3 * point.predicted:.2f}",
                    _signed(point.error),
                )
            )
    if rows:
        yield TextTable(
            title="Measured systems",
            columns=("system", "A:F", "point", "measured [ms]", "model [ms]", "error"),
            left=3,
            rows=rows,
            note="Step times.",
        )
    yield TextTable(
        title="Where the measurements come from",
        columns=("system", ""),
        left=2,
        rows=[(system.title, _provenance(system)) for system in systems],
    )


def _provenance(system: PublishedSystem) -> str:
    calibrated = f"calibrated on {system.calibration}" if system.points else "not calibrated"
    regret = "" if system.regret is None else f"; regret {_percent(system.regret)}"
    return f"{system.setup}; {system.source}, {system.url}; {calibrated}{regret}; {system.note}"
