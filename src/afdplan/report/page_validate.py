"""What does the report page of `afdplan validate` say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.cell_figures import cycle_time_figure, percentile_figure, short_figure
from afdplan.plotting.mode_figures import gain_figure
from afdplan.plotting.published_figures import baseline_figure, idle_figure, system_figure
from afdplan.plotting.recommendation_figures import promise_figure, regret_figure
from afdplan.plotting.validation_figures import band_figure, order_figure
from afdplan.report.page import Page, Section
from afdplan.report.tables import TextTable
from afdplan.report.validate import evidence_tables
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
    from afdplan.validation.paper import PaperResult
    from afdplan.validation.published import PublishedSystem
    from afdplan.validation.regret import RatioResult
    from afdplan.validation.run import Validation

__all__ = ["validation_page"]

Tables = tuple[TextTable, ...]


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
    tables = {part: tuple(found) for part, found in evidence_tables(result).items()}
    pool = Section(title="What was measured of a pool?", tables=tables["pool"])
    sections = [
        *([_bands(result, tables["bands"])] if result.checks else []),
        *([_simulation(cells, result, tables)] if cells else []),
        *([_paper(result.paper, tables["paper"])] if result.paper is not None else []),
        *([_recommendations(result.ratios, tables["ratios"])] if result.ratios else []),
        *([_modes(result.modes, tables["modes"])] if result.modes else []),
        *([_order(result, tables["order"])] if result.traces else []),
        *([_systems(result.published, tables["systems"])] if result.published else []),
        *([pool] if result.pool else []),
        Section(title="How is this read?", words=how_to_read()),
    ]
    return Page(title="afdplan validate", told=told, sections=tuple(sections))


def _bands(result: Validation, tables: Tables) -> Section:
    checks = result.checks
    is_simulated = bool(result.all_cells or result.ratios)
    return Section(
        title="Does what is declared hold?",
        words=undecided(checks) if is_simulated else (),
        figures=(band_figure(checks, [verdict(check) for check in checks]),),
        tables=tables,
    )


def _simulation(
    cells: Sequence[CellResult], result: Validation, tables: Mapping[str, Tables]
) -> Section:
    figures: list[Figure] = []
    declared = [cell for cell in cells if cell.is_declared]
    if declared:
        limits = _limits(result)
        figures += [cycle_time_figure(cells, limits), percentile_figure(cells, limits)]
    if len(declared) < len(cells) and result.execution == "synchronous":
        figures.append(short_figure(cells))
    return Section(
        title="How far is theory from simulation?",
        words=(agreement(declared),) if declared else (),
        figures=tuple(figures),
        tables=(*tables["simulation"], *tables["traces"]),
    )


def _paper(paper: PaperResult, tables: Tables) -> Section:
    return Section(
        title="What does the paper say, and what comes out here?",
        words=(curve_agreement(paper.curve),),
        figures=(baseline_figure(paper.curve), idle_figure(paper.curve)),
        tables=tables,
    )


def _recommendations(ratios: Sequence[RatioResult], tables: Tables) -> Section:
    return Section(
        title="What does following each recommendation cost?",
        words=(cost_of_habit(ratios),),
        figures=(regret_figure(ratios), promise_figure(ratios)),
        tables=tables,
    )


def _limits(result: Validation) -> Limits:
    return SYNCHRONOUS if result.execution == "synchronous" else BARRIER_FREE


def _modes(modes: Sequence[ModeResult], tables: Tables) -> Section:
    return Section(
        title="Is it right which way to run a bundle pays?",
        words=(cost_of_verdict(modes),),
        figures=(gain_figure(modes),),
        tables=tables,
    )


def _order(result: Validation, tables: Tables) -> Section:
    traces = result.traces
    return Section(
        title="What does the order of a trace cost?",
        words=cost_of_order(traces),
        figures=(order_figure(traces, _limits(result)),),
        tables=tables,
    )


def _systems(systems: Sequence[PublishedSystem], tables: Tables) -> Section:
    has_points = any(system.points for system in systems)
    return Section(
        title="Does it predict measured systems?",
        figures=(system_figure(systems),) if has_points else (),
        tables=tables if has_points else tables[-1:],
    )
