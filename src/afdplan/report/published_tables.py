"""Which tables tell what the paper and measured systems say beside ours?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.report.quantities import change, number, plus_minus, share, time
from afdplan.report.tables import TextTable

if TYPE_CHECKING:
    from afdplan.model.estimate import Estimate
    from afdplan.validation.ablation import Ablation
    from afdplan.validation.baseline import CurvePoint
    from afdplan.validation.paper import PaperFact
    from afdplan.validation.published import PublishedSystem

__all__ = ["ablation_table", "curve_table", "fact_table", "source_table", "system_table"]


def fact_table(
    facts: Sequence[PaperFact],
    title: str = "Numbers of arXiv:2601.21351",
    note: str = "Published coefficients, time in cycles of unknown length.",
) -> TextTable:
    """Return published numbers, the paper's or others, beside ours, each with its verdict."""
    return TextTable(
        title=title,
        is_open=True,
        columns=("what", "published", "ours", "verdict", "why"),
        left=5,
        rows=[(f.what, f.published, f.ours, f.verdict, f.why) for f in facts],
        note=note,
    )


def curve_table(curve: Sequence[CurvePoint]) -> TextTable:
    """Return throughput and idle fractions over the ratio on the paper's baseline."""
    return TextTable.of(
        "Throughput per instance over r on the paper's baseline [tokens per 1000 time units]",
        curve,
        {
            "r": lambda p: f"{p.attention_workers}",
            "mean field": lambda p: number(1e3 * p.mean_field),
            "Gaussian": lambda p: number(1e3 * p.gaussian),
            "exact": lambda p: number(1e3 * p.exact),
            "pipelined m=2": lambda p: number(1e3 * p.pipelined),
            "simulated, steady": lambda p: _interval(p.stationary),
            "pipelined error": lambda p: change(p.pipelined / p.stationary.value - 1),
            "simulated, fresh start": lambda p: _interval(p.fresh),
            "idle A": lambda p: share(p.stationary_idle[0]),
            "idle F": lambda p: share(p.stationary_idle[1]),
        },
        note="B=256, mean prompt 100, mean output 500, geometric. Mean field, Gaussian and exact "
        "assume ideal overlap; idle fractions are those of the steady simulation. Fresh start, as "
        "in the paper: 10,000 requests per worker, first 80 % of completions.",
    )


def ablation_table(ablations: Sequence[Ablation]) -> TextTable:
    """Return what other batch sizes and lengths do to the paper's rule and to ours."""
    return TextTable.of(
        "Batch size and workload on the paper's coefficients",
        ablations,
        {
            "B": lambda a: f"{a.batch_size}",
            "mean prompt": lambda a: f"{a.mean_prompt}",
            "mean output": lambda a: f"{a.mean_decode}",
            "paper's rule r*": lambda a: number(a.rule),
            "pipelined m=2": lambda a: f"{a.pipelined}",
            "best simulated": lambda a: f"{a.simulated}",
            "regret of the rule": lambda a: share(a.regret_of_rule),
            "regret of pipelined": lambda a: share(a.regret_of_pipelined),
        },
        is_open=True,
        left=0,
    )


def _interval(estimate: Estimate) -> str:
    return f"{number(1e3 * estimate.value)} {plus_minus(estimate.relative_half_width)}"


def system_table(systems: Sequence[PublishedSystem]) -> TextTable:
    """Return measured step times beside the model's; no rows where none can be compared."""
    return TextTable(
        title="Measured systems",
        is_open=True,
        columns=("system", "A:F", "point", "measured", "model", "error"),
        left=3,
        rows=[
            (
                system.title,
                point.ratio,
                "calibrated on" if point.is_calibration else "predicted",
                time(point.measured, "s"),
                time(point.predicted, "s"),
                change(point.error),
            )
            for system in systems
            for point in system.points
        ],
        note="Step times.",
    )


def source_table(systems: Sequence[PublishedSystem]) -> TextTable:
    """Return where measurements come from and what the model was given."""
    return TextTable(
        title="Where the measurements come from",
        is_open=True,
        columns=("system", "source"),
        left=2,
        rows=[(system.title, _provenance(system)) for system in systems],
    )


def _provenance(system: PublishedSystem) -> str:
    calibrated = f"calibrated on {system.calibration}" if system.points else "not calibrated"
    regret = "" if system.regret is None else f"; regret {share(system.regret)}"
    return f"{system.setup}; {system.source}, {system.url}; {calibrated}{regret}; {system.note}"
