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

    def below(point: RatioPoint) -> str:
        return "best" if point.attention_workers == best else share(point.regret)

    return TextTable.of(
        f"The curve in numbers{of}",
        points,
        {
            "A": lambda point: f"{point.attention_workers:,}",
            "cycle time": lambda point: time(point.cycle_time, unit),
            "step time": lambda point: time(point.step_time, unit),
            f"tokens/{'s' if unit == 's' else 'time'} per {per}": lambda point: number(
                point.objective
            ),
            "below the best": below,
            "attention idle": lambda point: share(point.attention_idle_fraction),
            "FFN idle": lambda point: share(point.ffn_idle_fraction),
        },
        strong=[point.attention_workers for point in points].index(best),
        bars=[point.objective / answer.best.objective for point in points],
    )


def case_table(cases: Sequence[RatioCase], problem: RatioProblem) -> TextTable:
    """Return the best number of workers at other batch sizes and numbers of microbatches."""
    unit, per = problem.latency.time_unit, cost_unit(problem.latency, problem.ffn_weight)
    return TextTable.of(
        "The best number of workers for other batches",
        cases,
        {
            "B, m": lambda case: f"{case.batch_size:,}, {case.microbatches}",
            "slots per worker": lambda case: f"{case.batch_size * case.microbatches:,}",
            "best A": lambda case: f"{case.best.attention_workers:,}",
            "within 1 %": lambda case: f"{case.near_equal[0]:,} to {case.near_equal[1]:,}",
            f"per {per}": lambda case: rate(case.best.objective, unit),
            "step time": lambda case: time(case.best.step_time, unit),
            "binds": lambda case: NAMES[case.bottleneck],
        },
    )


def sensitivity_table(entries: Sequence[RatioSensitivity], of: str) -> TextTable:
    """Return what 20 % less and 20 % more of each input do."""
    return TextTable.of(
        f"Sensitivity in numbers{of}: 20 % less / 20 % more",
        entries,
        {
            "input": lambda entry: entry.input,
            "throughput": lambda entry: " / ".join(map(change, entry.objective_change)),
            "best A": lambda entry: " / ".join(f"{best:,}" for best in entry.best),
            "given up by keeping A": lambda entry: " / ".join(map(share, entry.regret)),
        },
    )
