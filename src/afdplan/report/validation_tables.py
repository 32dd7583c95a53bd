"""Which tables tell the evidence: bands, cells, traces, recommendations?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from afdplan.report.quantities import change, plus_minus, share
from afdplan.report.tables import TextTable
from afdplan.theory.validity import (
    BARRIER_FREE_MICROBATCHES,
    DECLARED_MICROBATCHES,
    DECLARED_ROUNDS,
    DECLARED_WORKERS,
)
from afdplan.validation.cell import METHODS
from afdplan.validation.regret import BASELINES

if TYPE_CHECKING:
    from afdplan.model.parameters import Execution
    from afdplan.validation.bands import BandCheck
    from afdplan.validation.cell import CellResult
    from afdplan.validation.regret import RatioResult
    from afdplan.validation.traces import TraceResult

__all__ = [
    "band_table",
    "baseline_table",
    "cell_tables",
    "method_table",
    "order_table",
    "ratio_table",
    "trace_table",
]


def band_table(checks: Sequence[BandCheck], execution: Execution) -> TextTable:
    """Return each band, its limit and its worst case."""
    has_barrier = execution == "synchronous"
    return TextTable.of(
        "Declared bands",
        checks,
        {
            "band": lambda one: one.band,
            "worst case": lambda one: one.worst_case,
            "verdict": lambda one: "holds" if one.holds else f"BROKEN ({len(one.broken)})",
            "limit": lambda one: "1 of it" if one.limit == 1.0 else share(one.limit),
            "worst": lambda one: f"{one.worst:.2f} of it" if one.limit == 1.0 else share(one.worst),
            "cases": lambda one: f"{one.cases}",
            "undecided": lambda one: f"{one.undecided}",
        },
        is_open=True,
        left=3,
        note=f"Declared validity: requests live L E[D] / tokens_per_step >= {DECLARED_ROUNDS:.0f} "
        f"rounds, m <= {DECLARED_MICROBATCHES if has_barrier else BARRIER_FREE_MICROBATCHES}, "
        f"A <= {DECLARED_WORKERS}"
        + ("" if has_barrier else ", one rhythm however calls begin")
        + "; independent draws from the law or trace. Undecided: the simulated interval is "
        "wider than the limit, so that a breach of its size would not show.",
    )


def method_table(cells: Sequence[CellResult]) -> TextTable:
    """Return the error of each method over the cells of the declared validity."""
    declared = [cell for cell in cells if cell.is_declared]
    errors = {method: [cell.errors[method] for cell in declared] for method in METHODS}
    inside = sum(cell.is_inside for cell in declared)
    sure = sum(abs(cell.error) + cell.half_width <= cell.allowed for cell in declared)
    return TextTable.of(
        "Error of E[tau] by method, in the declared validity",
        METHODS,
        {
            "method": str,
            "median |error|": lambda method: share(median(map(abs, errors[method]))),
            "lowest": lambda method: change(min(errors[method])),
            "highest": lambda method: change(max(errors[method])),
        },
        is_open=True,
        note=f"theory / simulation - 1 over {len(declared)} cells. The exact method lies inside "
        f"the simulation's 95 % interval in {inside} of them, and the whole interval inside the "
        f"band of {share(declared[0].allowed)} in {sure}.",
    )


def cell_tables(cells: Sequence[CellResult], shown: int | None = None) -> Iterable[TextTable]:
    """Return the cells of laws, one table per group, the largest errors first.

    Parameters
    ----------
    cells
        Results; those of traces are left to `trace_table`.
    shown
        Rows of each table; None shows all.
    """
    titles = {
        "grid": "Laws, regimes, sizes",
        "feature": "What latency models and bundles may have",
        "short": "Requests that live fewer rounds than declared",
        "effect": "Every effect at once",
        "outside": "Rules of many calls where loads are nearly alike, outside what is declared",
    }
    for group, title in titles.items():
        own = [cell for cell in cells if cell.group == group]
        if own:
            yield _cell_table(title, own, shown)


def _cell_table(title: str, cells: Sequence[CellResult], shown: int | None) -> TextTable:
    ordered = sorted(cells, key=lambda cell: -abs(cell.error))
    kept = ordered if shown is None else ordered[:shown]
    rest = len(ordered) - len(kept)
    return TextTable.of(
        title,
        kept,
        {
            "cell": lambda cell: cell.name,
            "rounds": lambda cell: f"{cell.rounds:.0f}",
            "mean field": lambda cell: change(cell.errors["mean-field"]),
            "Gaussian": lambda cell: change(cell.errors["gaussian"]),
            "exact": lambda cell: change(cell.errors["exact"]),
            "interval": lambda cell: plus_minus(cell.half_width),
            "stated": lambda cell: share(cell.allowed),
            "p99": lambda cell: change(cell.p99_error),
            "p99 interval": lambda cell: plus_minus(
                cell.simulated.step_time_p99.relative_half_width
            ),
        },
        note="Signed errors of E[tau] and of the step time's 99th percentile (exact), largest first"
        + (f"; {rest} smaller ones are not shown (--markdown, --json)." if rest else "."),
    )


def trace_table(traces: Sequence[TraceResult]) -> TextTable:
    """Return theory beside independent draws from the requests of each trace."""
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
                *(change(cell.errors[method]) for method in METHODS),
                plus_minus(cell.half_width),
                change(cell.p99_error),
            )
            for trace in traces
            for cell in trace.cells
        ],
        note="Independent draws from the requests of each trace; theta and nu in tokens.",
    )


def order_table(traces: Sequence[TraceResult]) -> TextTable:
    """Return theory beside each trace replayed in its order."""
    short = "too short to fill the slots 20 times: says little"
    return TextTable.of(
        "Traces, replayed in their order: the cost of drift",
        traces,
        {
            "trace": lambda trace: trace.file,
            "note": lambda trace: short if trace.is_too_short else "",
            "requests": lambda trace: f"{trace.requests:,}",
            "fills of all slots": lambda trace: f"{trace.fills:.0f}",
            "exact": lambda trace: change(trace.replay_error),
            "interval": lambda trace: plus_minus(trace.replay_cycle_time.relative_half_width),
        },
        left=2,
        note="Theory / replay - 1 of E[tau]. No band: drift is no error of the formula but of "
        "taking the whole trace for one law.",
    )


def baseline_table(ratios: Sequence[RatioResult]) -> TextTable:
    """Return what following each method costs over all cases."""

    def regrets(method: str) -> list[float]:
        return [result.of(method).regret for result in ratios]

    def promises(method: str) -> list[float]:
        return [result.of(method).promise_error for result in ratios]

    return TextTable.of(
        "Who recommends what, over all cases",
        BASELINES,
        {
            "method": str,
            "meaning": lambda method: BASELINES[method],
            "median regret": lambda method: share(median(regrets(method))),
            "worst regret": lambda method: share(max(regrets(method))),
            "median promise": lambda method: change(median(promises(method))),
            "worst promise": lambda method: change(max(promises(method), key=abs)),
        },
        is_open=True,
        left=2,
        note="Regret: share of the best simulated throughput per instance given up by following "
        "the recommendation. Promise: throughput expected over throughput simulated, minus 1.",
    )


def ratio_table(ratios: Sequence[RatioResult]) -> TextTable:
    """Return what each method recommends, case by case."""
    return TextTable(
        title="Recommended attention workers (regret)",
        columns=("case", "best simulated", *BASELINES),
        rows=[
            (
                result.name,
                f"{result.best_attention_workers}",
                *(
                    f"{pick.attention_workers} ({share(pick.regret)})"
                    for pick in result.recommendations
                ),
            )
            for result in ratios
        ],
    )
