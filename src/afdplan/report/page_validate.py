"""What does the report page of `afdplan validate` say?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.cell_figures import cycle_time_figure, percentile_figure, short_figure
from afdplan.plotting.mode_figures import gain_figure
from afdplan.plotting.published_figures import baseline_figure, idle_figure, system_figure
from afdplan.plotting.recommendation_figures import promise_figure, regret_figure
from afdplan.plotting.validation_figures import band_figure, order_figure
from afdplan.report.mode_tables import mode_table, pool_table
from afdplan.report.page import Page, Section
from afdplan.report.published_tables import (
    ablation_table,
    curve_table,
    fact_table,
    source_table,
    system_table,
)
from afdplan.report.validation_tables import (
    band_table,
    baseline_table,
    cell_tables,
    method_table,
    order_table,
    ratio_table,
    trace_table,
)
from afdplan.report.validation_words import (
    agreement,
    cost_of_habit,
    cost_of_order,
    cost_of_verdict,
    curve_agreement,
    how_to_read,
    undecided,
    verdict,
)
from afdplan.validation.bands import BARRIER_FREE, SYNCHRONOUS, Limits

if TYPE_CHECKING:
    from afdplan.plotting.figure import Figure
    from afdplan.report.telling import Telling
    from afdplan.validation.cell import CellResult
    from afdplan.validation.mode_regret import ModeResult
    from afdplan.validation.paper import PaperFact, PaperResult
    from afdplan.validation.published import PublishedSystem
    from afdplan.validation.regret import RatioResult
    from afdplan.validation.run import Validation

__all__ = ["validation_page"]


def validation_page(told: Telling, result: Validation) -> Page:
    """Return the page of the evidence; what was not asked for is left out.

    Parameters
    ----------
    told
        What `validation_told` says of them.
    result
        All comparisons that were made.
    """
    cells = result.all_cells
    sections = [
        *([_bands(result)] if result.checks else []),
        *([_simulation(cells, result)] if cells else []),
        *([_paper(result.paper)] if result.paper is not None else []),
        *([_recommendations(result.ratios)] if result.ratios else []),
        *([_modes(result.modes)] if result.modes else []),
        *([_order(result)] if result.traces else []),
        *([_systems(result.published)] if result.published else []),
        *([_pool(result.pool)] if result.pool else []),
        Section(title="How is this read?", words=how_to_read()),
    ]
    return Page(
        title="afdplan validate",
        told=told,
        sections=tuple(sections),
    )


def _bands(result: Validation) -> Section:
    checks = result.checks
    is_simulated = bool(result.all_cells or result.ratios)
    return Section(
        title="Does what is declared hold?",
        words=undecided(checks) if is_simulated else (),
        figures=(band_figure(checks, [verdict(check) for check in checks]),),
        tables=(band_table(checks, result.execution),),
    )


def _simulation(cells: Sequence[CellResult], result: Validation) -> Section:
    figures: list[Figure] = []
    tables = []
    declared = [cell for cell in cells if cell.is_declared]
    if declared:
        limits = _limits(result)
        figures += [cycle_time_figure(cells, limits), percentile_figure(cells, limits)]
        tables.append(method_table(cells))
    if len(declared) < len(cells) and result.execution == "synchronous":
        figures.append(short_figure(cells))
    tables += cell_tables((*result.cells, *result.effects))
    if result.traces:
        tables.append(trace_table(result.traces))
    return Section(
        title="How far is theory from simulation?",
        words=(agreement(declared),) if declared else (),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def _paper(paper: PaperResult) -> Section:
    return Section(
        title="What does the paper say, and what comes out here?",
        words=(curve_agreement(paper.curve),),
        figures=(baseline_figure(paper.curve), idle_figure(paper.curve)),
        tables=(fact_table(paper.facts), curve_table(paper.curve), ablation_table(paper.ablations)),
    )


def _recommendations(ratios: Sequence[RatioResult]) -> Section:
    return Section(
        title="What does following each recommendation cost?",
        words=(cost_of_habit(ratios),),
        figures=(regret_figure(ratios), promise_figure(ratios)),
        tables=(baseline_table(ratios), ratio_table(ratios)),
    )


def _limits(result: Validation) -> Limits:
    return SYNCHRONOUS if result.execution == "synchronous" else BARRIER_FREE


def _modes(modes: Sequence[ModeResult]) -> Section:
    return Section(
        title="Is it right which way to run a bundle pays?",
        words=(cost_of_verdict(modes),),
        figures=(gain_figure(modes),),
        tables=(mode_table(modes),),
    )


def _pool(facts: Sequence[PaperFact]) -> Section:
    return Section(title="What was measured of a pool?", tables=(pool_table(facts),))


def _order(result: Validation) -> Section:
    traces = result.traces
    return Section(
        title="What does the order of a trace cost?",
        words=cost_of_order(traces),
        figures=(order_figure(traces, _limits(result)),),
        tables=(order_table(traces),),
    )


def _systems(systems: Sequence[PublishedSystem]) -> Section:
    has_points = any(system.points for system in systems)
    return Section(
        title="Does it predict measured systems?",
        figures=(system_figure(systems),) if has_points else (),
        tables=(*([system_table(systems)] if has_points else []), source_table(systems)),
    )
