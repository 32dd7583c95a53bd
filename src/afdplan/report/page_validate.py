"""What does the report page of `afdplan validate` say?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from afdplan.plotting.cell_figures import cycle_time_figure, percentile_figure, short_figure
from afdplan.plotting.published_figures import baseline_figure, idle_figure, system_figure
from afdplan.plotting.recommendation_figures import promise_figure, regret_figure
from afdplan.plotting.validation_figures import band_figure, order_figure
from afdplan.report.page import Fact, Page, Section
from afdplan.report.published_tables import (
    ablation_table,
    curve_table,
    fact_table,
    source_table,
    system_table,
)
from afdplan.report.quantities import percent, signed
from afdplan.report.tables import to_page
from afdplan.report.validation_tables import (
    band_table,
    baseline_table,
    cell_tables,
    method_table,
    order_table,
    ratio_table,
    trace_table,
)
from afdplan.report.verdict import READING, headline, verdict
from afdplan.validation.regret import RECOMMENDED

if TYPE_CHECKING:
    from afdplan.plotting.figure import Figure
    from afdplan.validation.bands import BandCheck
    from afdplan.validation.baseline import CurvePoint
    from afdplan.validation.cell import CellResult
    from afdplan.validation.paper import PaperResult
    from afdplan.validation.published import PublishedSystem
    from afdplan.validation.regret import RatioResult
    from afdplan.validation.run import Validation
    from afdplan.validation.traces import TraceResult

__all__ = ["validation_page", "validation_subject"]

PARTS = {
    "paper": "the paper's numbers",
    "simulation": "theory against simulation",
    "published": "measured systems",
}
HABIT = "lockstep"
"""What planners for one fixed context length do."""
READING_FIGURES = (
    "Regret is the share of the best simulated throughput per instance that is given up by "
    "following a recommendation. A promise is the throughput that a method expects over what its "
    "own recommendation delivers in simulation, minus 1.",
    "A case is undecided if its simulation's interval is wider than the limit: a breach of that "
    "size would not show in it. It counts as a case, and the table of bands says how many there "
    "are.",
    "Traces are resampled for the verdict: independent draws from their requests. A replay in "
    "their order stands beside it and is held to no band, for its difference is drift and not an "
    "error of the formula.",
)
ASSUMPTIONS = (
    "Declared validity: requests live at least 200 rounds, at most 4 microbatches, at most 64 "
    "attention workers. Below it the theory states a larger error, and is held to that.",
    "Latency models of laws and traces are made up, so that the named resource binds at the named "
    "size; that of the paper is its own, in cycles of unknown length; those of measured systems "
    "are calibrated on the points that are marked.",
    "Every simulated bundle is saturated: a finished request is replaced at once.",
)


def validation_page(
    result: Validation, *, subject: str, document: Mapping[str, Any], command_line: str
) -> Page:
    """Return the page of the evidence; what was not asked for is left out.

    Parameters
    ----------
    result
        All comparisons that were made.
    subject
        What was examined, a short line.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    """
    cells = result.all_cells
    sections = [
        *([_bands(result.checks)] if result.checks else []),
        *([_simulation(cells, result)] if cells else []),
        *([_paper(result.paper)] if result.paper is not None else []),
        *([_recommendations(result.ratios)] if result.ratios else []),
        *([_order(result.traces)] if result.traces else []),
        *([_systems(result.published)] if result.published else []),
        Section(title="How is this read?", words=_reading()),
    ]
    return Page(
        title="afdplan validate",
        subject=subject,
        answer=f"{headline(result)}.",
        facts=tuple(_facts(result)),
        sections=tuple(sections),
        warnings=tuple(document["warnings"]),
        assumptions=ASSUMPTIONS,
        document=document,
        command_line=command_line,
    )


def validation_subject(result: Validation, folder: str | None) -> str:
    """Return what was examined, a short line.

    Parameters
    ----------
    result
        All comparisons that were made.
    folder
        Where traces came from, if they were asked for.
    """
    what = ", ".join(PARTS[part] for part in result.parts)
    size = "every law, regime and size" if result.full else "a selection"
    traces = f", with the traces of {folder}" if folder is not None else ""
    return f"{what[0].upper()}{what[1:]}: {size}{traces}"


def _reading() -> tuple[str, ...]:
    return (" ".join(READING.replace("`", "").split()), *READING_FIGURES)


def _facts(result: Validation) -> Iterable[Fact]:
    declared = [cell for cell in result.all_cells if cell.is_declared]
    if declared:
        errors = [abs(cell.error) for cell in declared]
        yield Fact(
            name="Error of E[tau]",
            value=percent(median(errors)),
            remark=f"median; largest {percent(max(errors))} of {len(declared)} bundles",
        )
        tails = [abs(cell.p99_error) for cell in declared]
        yield Fact(
            name="Error of step p99",
            value=percent(median(tails)),
            remark=f"median; largest {percent(max(tails))}",
        )
    if result.ratios:
        for method in (RECOMMENDED, HABIT):
            picks = [case.of(method).regret for case in result.ratios]
            yield Fact(
                name=f"Regret of {method}",
                value=percent(median(picks), 1),
                remark=f"median; worst {percent(max(picks), 1)} of {len(picks)} cases",
            )
    if result.paper is not None:
        verdicts = [fact.verdict for fact in result.paper.facts]
        yield Fact(
            name="The paper's numbers",
            value=f"{verdicts.count('reproduced')} reproduced",
            remark=f"{verdicts.count('not reproducible')} not reproducible, each says why",
        )
    predicted = [
        point.error
        for system in result.published
        for point in system.points
        if not point.is_calibration
    ]
    if predicted:
        yield Fact(
            name="Measured step times",
            value=signed(max(predicted, key=abs)),
            remark=f"worst of {len(predicted)} designs not calibrated on",
        )


def _bands(checks: Sequence[BandCheck]) -> Section:
    undecided = [check for check in checks if check.undecided]
    words = [
        f"{check.band}: {check.undecided} of {check.cases} cases are undecided, for their "
        "simulation's interval is wider than the limit."
        for check in undecided
    ] or ["No case is undecided: every simulation's interval is narrower than its limit."]
    return Section(
        title="Does what is declared hold?",
        words=tuple(words),
        figures=(band_figure(checks, [verdict(check) for check in checks]),),
        tables=(to_page(band_table(checks), is_open=True),),
    )


def _simulation(cells: Sequence[CellResult], result: Validation) -> Section:
    figures: list[Figure] = []
    tables = []
    declared = [cell for cell in cells if cell.is_declared]
    if declared:
        figures += [cycle_time_figure(cells), percentile_figure(cells)]
        tables.append(to_page(method_table(cells), is_open=True))
    if len(declared) < len(cells):
        figures.append(short_figure(cells))
    tables += [to_page(table) for table in cell_tables(result.cells)]
    if result.traces:
        tables.append(to_page(trace_table(result.traces)))
    return Section(
        title="How far is theory from simulation?",
        words=(_agreement(declared),) if declared else (),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def _agreement(declared: Sequence[CellResult]) -> str:
    inside = sum(cell.is_inside for cell in declared)
    exact = median(abs(cell.error) for cell in declared)
    mean_field = median(abs(cell.errors["mean-field"]) for cell in declared)
    return (
        f"In {inside} of {len(declared)} bundles of the declared validity the exact method lies "
        f"inside the simulation's interval; its error is {percent(exact)} in the median, "
        f"that of the mean field, which knows no barrier, {percent(mean_field)}."
    )


def _paper(paper: PaperResult) -> Section:
    return Section(
        title="What does the paper say, and what comes out here?",
        words=(_paper_words(paper),),
        figures=(baseline_figure(paper.curve), idle_figure(paper.curve)),
        tables=(
            to_page(fact_table(paper.facts), is_open=True),
            to_page(curve_table(paper.curve)),
            to_page(ablation_table(paper.ablations), is_open=True),
        ),
    )


def _paper_words(paper: PaperResult) -> str:
    best = max(paper.curve, key=lambda point: point.stationary.value)
    worst = max(paper.curve, key=lambda point: abs(_pipelined_error(point)))
    return (
        f"On the baseline of arXiv:2601.21351 the steady simulation is best at "
        f"r = {best.attention_workers}; the pipelined theory is at most "
        f"{signed(_pipelined_error(worst))} from it, at r = {worst.attention_workers}."
    )


def _pipelined_error(point: CurvePoint) -> float:
    return point.pipelined / point.stationary.value - 1


def _recommendations(ratios: Sequence[RatioResult]) -> Section:
    ours = [case.of(RECOMMENDED) for case in ratios]
    habit = [case.of(HABIT) for case in ratios]
    return Section(
        title="What does following each recommendation cost?",
        words=(
            f"Over {len(ratios)} cases, the {RECOMMENDED} method gives up "
            f"{percent(median(pick.regret for pick in ours), 1)} of the throughput in the median "
            f"and {percent(max(pick.regret for pick in ours), 1)} at worst. Taking every request "
            f"at one fixed length ({HABIT}) gives up "
            f"{percent(median(pick.regret for pick in habit), 1)} and "
            f"{percent(max(pick.regret for pick in habit), 1)}, and promises up to "
            f"{percent(max(pick.promise_error for pick in habit), 0)} more than is delivered.",
        ),
        figures=(regret_figure(ratios), promise_figure(ratios)),
        tables=(to_page(baseline_table(ratios), is_open=True), to_page(ratio_table(ratios))),
    )


def _order(traces: Sequence[TraceResult]) -> Section:
    long = [trace.replay_error for trace in traces if not trace.is_too_short]
    short = len(traces) - len(long)
    words = []
    if long:
        words.append(
            f"Replayed in their order, {len(long)} of {len(traces)} traces are within "
            f"{signed(min(long))} to {signed(max(long))} of the theory."
        )
    if short:
        words.append(
            f"{short} of {len(traces)} traces are too short for their order to show: their "
            "requests fill the slots of the bundle fewer than 20 times."
        )
    return Section(
        title="What does the order of a trace cost?",
        words=tuple(words),
        figures=(order_figure(traces),),
        tables=(to_page(order_table(traces)),),
    )


def _systems(systems: Sequence[PublishedSystem]) -> Section:
    has_points = any(system.points for system in systems)
    return Section(
        title="Does it predict measured systems?",
        figures=(system_figure(systems),) if has_points else (),
        tables=(
            *([to_page(system_table(systems), is_open=True)] if has_points else []),
            to_page(source_table(systems), is_open=True),
        ),
    )
