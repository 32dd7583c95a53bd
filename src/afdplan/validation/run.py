"""Why should anybody believe the theory: everything that is held against it, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from afdplan.model.parameters import Execution
from afdplan.model.trace import Trace
from afdplan.theory.validity import DECLARED_SCATTER
from afdplan.validation.bands import (
    BARRIER_FREE,
    EFFECTS,
    SYNCHRONOUS,
    BandCheck,
    cell_checks,
    effect_checks,
    mode_checks,
    published_checks,
    regret_check,
)
from afdplan.validation.cell import Cell, CellResult, compare
from afdplan.validation.effect_cells import effect_cells
from afdplan.validation.grid import feature_cells, grid_cells, short_cells
from afdplan.validation.laboratory import Laboratory
from afdplan.validation.mode_regret import ModeResult, judge_modes, mode_cases, trace_mode_cases
from afdplan.validation.paper import PaperFact, PaperResult, reproduce_paper
from afdplan.validation.pool_grid import pool_cells
from afdplan.validation.pool_published import pool_facts
from afdplan.validation.published import PublishedSystem, published_systems
from afdplan.validation.regret import RatioResult, judge, ratio_cases
from afdplan.validation.traces import TraceResult, judge_traces, trace_cases

__all__ = ["PARTS", "Part", "Validation", "validate"]

Part = Literal["paper", "simulation", "published"]
PARTS: tuple[Part, ...] = ("paper", "simulation", "published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """All comparisons that were asked for.

    Attributes
    ----------
    parts
        Which of `PARTS`.
    full
        Whether everything was played, or the selection of a minute.
    paper, published
        None or empty if not asked for.
    cells
        Theory beside simulation, laws.
    effects
        The same of bundles with every effect at once; empty unless asked for.
    traces
        The same for the traces of a folder.
    ratios
        Recommendations of all methods, judged by simulation.
    execution
        The way to run a bundle that was looked at.
    modes, pool
        Of bundles without the barrier: whether they pay and with what, and published figures.
    checks
        Every declared band, in order.
    """

    parts: tuple[Part, ...]
    full: bool
    paper: PaperResult | None = None
    cells: tuple[CellResult, ...] = ()
    effects: tuple[CellResult, ...] = ()
    traces: tuple[TraceResult, ...] = ()
    ratios: tuple[RatioResult, ...] = ()
    published: tuple[PublishedSystem, ...] = ()
    execution: Execution = "synchronous"
    modes: tuple[ModeResult, ...] = ()
    pool: tuple[PaperFact, ...] = ()
    checks: tuple[BandCheck, ...] = ()

    @property
    def all_cells(self) -> tuple[CellResult, ...]:
        """Cells of laws and traces."""
        return self.cells + tuple(cell for trace in self.traces for cell in trace.cells)

    @property
    def broken(self) -> tuple[BandCheck, ...]:
        """The bands that do not hold."""
        return tuple(check for check in self.checks if not check.holds)

    @property
    def covered_fraction(self) -> float:
        """Share of the cells whose stated band holds; 1 without cells."""
        cells = self.all_cells
        return sum(cell.distance <= cell.allowed for cell in cells) / len(cells) if cells else 1.0


def validate(
    parts: tuple[Part, ...],
    laboratory: Laboratory,
    *,
    traces: dict[str, Trace] | None = None,
    full: bool = False,
    effects: bool = False,
    execution: Execution = "synchronous",
) -> Validation:
    """Return theory beside the paper, simulations and measurements.

    Parameters
    ----------
    parts
        What to look at, of `PARTS`.
    laboratory
        Where simulations are played.
    traces
        Traces by name, for the part ``simulation``.
    full
        Every law, regime and size instead of a selection.
    effects
        Also bundles whose stages scatter, with uneven experts, busy transfers and uneven ratios,
        for the part ``simulation``.
    execution
        With the barrier, or without: then there is no ``paper``.

    Notes
    -----
    The verdict of traces uses independent draws from their requests; a replay in their order
    stands beside it and is held to no band, for its difference is drift.
    """
    if execution == "barrier-free":
        return _barrier_free(parts, laboratory, traces or {}, full=full)
    paper = reproduce_paper(laboratory, full=full) if "paper" in parts else None
    cells: list[CellResult] = []
    trace_results: list[TraceResult] = []
    ratios: list[RatioResult] = []
    checks: list[BandCheck] = []
    if "simulation" in parts:
        given = traces or {}
        chosen = [*grid_cells(full=full), *feature_cells(), *short_cells(full=full)]
        cells = _compared(chosen, laboratory, lambda _: SYNCHRONOUS.cycle_time)
        trace_results = judge_traces(
            given, laboratory, declared_error=SYNCHRONOUS.cycle_time, full=full
        )
        ratios = judge(ratio_cases(full=full) + trace_cases(given), laboratory)
        every = [*cells, *(cell for trace in trace_results for cell in trace.cells)]
        checks += cell_checks(every) + regret_check(ratios)
    extended: list[CellResult] = []
    if effects and "simulation" in parts:
        extended = _compared(effect_cells(full=full), laboratory, _effect_limit)
        checks += effect_checks(extended)
    published = published_systems() if "published" in parts else []
    checks += published_checks(published)
    return Validation(
        parts=parts,
        full=full,
        paper=paper,
        cells=tuple(cells),
        effects=tuple(extended),
        traces=tuple(trace_results),
        ratios=tuple(ratios),
        published=tuple(published),
        checks=tuple(checks),
    )


def _compared(
    cells: Sequence[Cell], laboratory: Laboratory, limit: Callable[[Cell], float]
) -> list[CellResult]:
    """Return theory beside simulation of every cell."""
    observed = laboratory.observe([cell.scenario() for cell in cells])
    return [compare(cell, seen, limit(cell)) for cell, seen in zip(cells, observed, strict=True)]


def _effect_limit(cell: Cell) -> float:
    """Return the limit of E[tau] of a bundle with every effect."""
    is_narrow = cell.latency.scatter.ffn <= DECLARED_SCATTER
    return (SYNCHRONOUS if is_narrow else EFFECTS).cycle_time


def _barrier_free(
    parts: tuple[Part, ...], laboratory: Laboratory, traces: dict[str, Trace], *, full: bool
) -> Validation:
    """Return the same of bundles without the barrier."""
    cells: list[CellResult] = []
    trace_results: list[TraceResult] = []
    modes: list[ModeResult] = []
    checks: list[BandCheck] = []
    limit = BARRIER_FREE.cycle_time
    if "simulation" in parts:
        cells = _compared(pool_cells(full=full), laboratory, lambda _: limit)
        trace_results = judge_traces(
            traces, laboratory, declared_error=limit, full=full, execution="barrier-free"
        )
        modes = judge_modes(mode_cases(full=full) + trace_mode_cases(traces, full=full), laboratory)
        every = [*cells, *(cell for trace in trace_results for cell in trace.cells)]
        checks = cell_checks(every, BARRIER_FREE) + mode_checks(modes)
    return Validation(
        parts=tuple(part for part in parts if part != "paper"),
        full=full,
        execution="barrier-free",
        cells=tuple(cells),
        traces=tuple(trace_results),
        modes=tuple(modes),
        pool=tuple(pool_facts()) if "published" in parts else (),
        checks=tuple(checks),
    )
