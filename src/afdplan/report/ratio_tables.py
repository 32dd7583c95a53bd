"""Which tables does a recommended ratio have: its curve, other batches, sensitivities?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.ratio_figures import NAMES, cost_unit
from afdplan.report.quantities import change, number, rate, share, time
from afdplan.report.tables import TextTable

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.ratio_grid import RatioCase
    from afdplan.planning.ratio_sensitivity import RatioSensitivity
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.ratio import RatioPoint, RatioRecommendation

__all__ = ["case_table", "curve_table", "sensitivity_table"]


def curve_table(
    answer: RatioRecommendation, unit: TimeUnit, shown: Iterable[int] | None = None, of: str = ""
) -> TextTable:
    """Return the curve in numbers.

    Parameters
    ----------
    answer
        What was recommended.
    unit
        Of its times.
    shown
        The A that are told; by default about 36, evenly on a logarithm.
    of
        Follows the title: for which batch the curve is.
    """
    from afdplan.planning.ratio_grid import shown_workers

    best = answer.optimal_attention_workers
    per = cost_unit(answer.problem.latency, answer.ffn_weight)
    if shown is None:
        workers = [point.attention_workers for point in answer.curve]
        shown = shown_workers(workers, [best, *answer.near_equal])
    kept = set(shown)
    points = [point for point in answer.curve if point.attention_workers in kept]

    def row(point: RatioPoint) -> tuple[str, ...]:
        return (
            f"{point.attention_workers:,}",
            time(point.cycle_time, unit),
            time(point.step_time, unit),
            number(point.objective),
            "best" if point.attention_workers == best else share(point.regret),
            share(point.attention_idle_fraction),
            share(point.ffn_idle_fraction),
        )

    return TextTable(
        title=f"The curve in numbers{of}",
        columns=(
            "A",
            "cycle time",
            "step time",
            f"tokens/{'s' if unit == 's' else 'time'} per {per}",
            "below the best",
            "attention idle",
            "FFN idle",
        ),
        rows=[row(point) for point in points],
        strong=[point.attention_workers for point in points].index(best),
        bars=[point.objective / answer.best.objective for point in points],
    )


def case_table(cases: Sequence[RatioCase], problem: RatioProblem) -> TextTable:
    """Return the best number of workers at other batch sizes and numbers of microbatches."""
    unit, per = problem.latency.time_unit, cost_unit(problem.latency, problem.ffn_weight)
    return TextTable(
        title="The best number of workers for other batches",
        columns=(
            "B, m",
            "slots per worker",
            "best A",
            "within 1 %",
            f"per {per}",
            "step time",
            "binds",
        ),
        rows=[
            (
                f"{case.batch_size:,}, {case.microbatches}",
                f"{case.batch_size * case.microbatches:,}",
                f"{case.best.attention_workers:,}",
                f"{case.near_equal[0]:,} to {case.near_equal[1]:,}",
                rate(case.best.objective, unit),
                time(case.best.step_time, unit),
                NAMES[case.bottleneck],
            )
            for case in cases
        ],
    )


def sensitivity_table(entries: Sequence[RatioSensitivity], of: str) -> TextTable:
    """Return what 20 % less and 20 % more of each input do."""
    return TextTable(
        title=f"Sensitivity in numbers{of}: 20 % less / 20 % more",
        columns=("input", "throughput", "best A", "given up by keeping A"),
        rows=[
            (
                entry.input,
                " / ".join(map(change, entry.objective_change)),
                " / ".join(f"{best:,}" for best in entry.best),
                " / ".join(map(share, entry.regret)),
            )
            for entry in entries
        ],
    )
