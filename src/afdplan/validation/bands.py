"""What is declared, and does it hold?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from afdplan.theory.validity import BARRIER_FREE_ERROR
from afdplan.validation.cell import CellResult
from afdplan.validation.mode_regret import ModeResult
from afdplan.validation.published import PublishedSystem
from afdplan.validation.regret import RECOMMENDED, RatioResult

__all__ = [
    "BARRIER_FREE",
    "EFFECTS",
    "MEASURED",
    "MEASURED_REGRET",
    "REGRET",
    "SYNCHRONOUS",
    "VERDICT_REGRET",
    "BandCheck",
    "Limits",
    "cell_checks",
    "effect_checks",
    "mode_checks",
    "published_checks",
    "regret_check",
]

REGRET = 0.005
MODE_REGRET = 0.01
VERDICT_REGRET = 0.02
MEASURED = 0.03
MEASURED_REGRET = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is declared of one way to run a bundle.

    Attributes
    ----------
    cycle_time, median
        Largest error of E[tau], and that in the middle.
    p99
        Largest error of the 99th percentile of the step time.
    """

    cycle_time: float
    median: float
    p99: float


SYNCHRONOUS = Limits(cycle_time=0.01, median=0.005, p99=0.02)
EFFECTS = Limits(cycle_time=0.02, median=0.003, p99=0.02)
"""With every effect at once; E[tau] as SYNCHRONOUS where stages scatter by 10 % at most."""
BARRIER_FREE = Limits(cycle_time=BARRIER_FREE_ERROR, median=0.01, p99=0.03)
"""Of the 99th percentile an interval is told, which is held to this limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandCheck:
    """One declared band and what was seen.

    Attributes
    ----------
    band
        What is declared, in words.
    limit
        Its limit; of bands whose limit differs by cell, 1 (and `worst` is a share of it).
    cases
        How many were held against it.
    worst, worst_case
        Largest value and where.
    broken
        Names of all cases outside, worst first.
    undecided
        Cases whose simulation's interval is wider than the limit: they would not show a breach
        of its size.
    """

    band: str
    limit: float
    cases: int
    worst: float
    worst_case: str
    broken: tuple[str, ...]
    undecided: int = 0

    @property
    def holds(self) -> bool:
        """Whether no case lies outside."""
        return not self.broken


def _check(
    band: str,
    limit: float,
    values: Iterable[tuple[float, str]],
    half_widths: Iterable[float] = (),
) -> list[BandCheck]:
    """Return the check of a band, nothing if there is no case of it."""
    rows = sorted(values, key=lambda row: -row[0])
    return [
        BandCheck(
            band=band,
            limit=limit,
            cases=len(rows),
            worst=worst,
            worst_case=worst_case,
            broken=tuple(name for value, name in rows if not value <= limit),
            undecided=sum(width > limit for width in half_widths),
        )
        for worst, worst_case in rows[:1]
    ]


def _median(cells: Sequence[CellResult]) -> list[tuple[float, str]]:
    return [(median(abs(cell.error) for cell in cells), f"{len(cells)} cells")] if cells else []


def cell_checks(cells: Sequence[CellResult], limits: Limits = SYNCHRONOUS) -> list[BandCheck]:
    """Return the bands of cycle time and percentiles over all cells."""
    declared = [cell for cell in cells if cell.is_declared]
    short = [cell for cell in cells if not cell.is_declared]
    return [
        *_check(
            "E[tau], distance from the simulated interval",
            limits.cycle_time,
            ((cell.distance, cell.name) for cell in declared),
            (cell.half_width for cell in declared),
        ),
        *_check("E[tau], median |error|", limits.median, _median(declared)),
        *_check(
            "p99 of the step time, distance from the simulated interval",
            limits.p99,
            ((cell.p99_distance, cell.name) for cell in declared),
            (cell.simulated.step_time_p99.relative_half_width for cell in declared),
        ),
        *_check(
            "E[tau] below the validity, share of the tabulated error"
            if limits is SYNCHRONOUS
            else "E[tau] outside the validity, share of the stated error",
            1.0,
            ((cell.distance / cell.allowed, cell.name) for cell in short),
        ),
    ]


def effect_checks(cells: Sequence[CellResult]) -> list[BandCheck]:
    """Return the bands of bundles that have every effect at once."""
    return [
        *_check(
            "E[tau] with every effect, share of its limit",
            1.0,
            ((cell.distance / cell.allowed, cell.name) for cell in cells),
            (cell.half_width / cell.allowed for cell in cells),
        ),
        *_check("E[tau] with every effect, median |error|", EFFECTS.median, _median(cells)),
        *_check(
            "p99 of the step time with every effect",
            EFFECTS.p99,
            ((cell.p99_distance, cell.name) for cell in cells),
            (cell.simulated.step_time_p99.relative_half_width for cell in cells),
        ),
    ]


def regret_check(results: Sequence[RatioResult]) -> list[BandCheck]:
    """Return the band of the recommended ratio's regret."""
    return _check(
        "regret of the recommended ratio, lower end",
        REGRET,
        (
            (max(pick.regret - pick.regret_half_width, 0.0), result.name)
            for result in results
            for pick in (result.of(RECOMMENDED),)
        ),
        (result.of(RECOMMENDED).regret_half_width for result in results),
    )


def mode_checks(results: Sequence[ModeResult]) -> list[BandCheck]:
    """Return the bands of what is recommended without a barrier, and of the verdict."""
    return [
        *_check(
            "regret of the recommended workers and rule, lower end",
            MODE_REGRET,
            ((max(one.regret - one.regret_half_width, 0.0), one.name) for one in results),
            (one.regret_half_width for one in results),
        ),
        *_check(
            "regret of the verdict which way pays, lower end",
            VERDICT_REGRET,
            (
                (
                    max(one.verdict_regret - one.gain_half_width, 0.0)
                    if one.verdict_regret
                    else 0.0,
                    one.name,
                )
                for one in results
            ),
            (one.gain_half_width for one in results),
        ),
    ]


def published_checks(systems: Sequence[PublishedSystem]) -> list[BandCheck]:
    """Return the bands on measured systems."""
    return [
        *_check(
            "step time of measured designs not calibrated on",
            MEASURED,
            (
                (abs(point.error), f"{system.title}, {point.ratio}")
                for system in systems
                for point in system.points
                if not point.is_calibration
            ),
        ),
        *_check(
            "regret among the measured ratios",
            MEASURED_REGRET,
            ((system.regret, system.title) for system in systems if system.regret is not None),
        ),
    ]
