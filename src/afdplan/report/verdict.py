"""Do the declared bands hold, in one sentence each?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afdplan.errors import ValidationError
from afdplan.report.quantities import percent

if TYPE_CHECKING:
    from afdplan.validation.bands import BandCheck
    from afdplan.validation.run import Validation

__all__ = ["READING", "headline", "verdict", "verdict_error"]

READING = """\
Theory and simulation share no code but the description of the bundle. Errors are signed, theory
over simulation minus 1: positive means that the theory says slower than it is. Latency models of
laws and traces are made up, so that the named resource binds at the named size; requests are
independent draws from the named law or trace. For the bands an error counts from the end
of the simulation's 95 % interval, and runs go on until that interval is narrow (0.5 %, or 0.2 %
with `--full`)."""
"""What must be known to read the numbers."""


def headline(result: Validation) -> str:
    """Return how much of what is declared holds, without a full stop."""
    if not result.checks:
        facts = result.paper.facts if result.paper else ()
        good = sum(fact.verdict == "reproduced" for fact in facts)
        bad = sum(fact.verdict == "not reproducible" for fact in facts)
        return f"{good} published numbers reproduced, {bad} not reproducible (each says why)"
    cells, count = result.all_cells, len(result.checks)
    looked = f", over {len(cells)} bundles simulated" if cells else ""
    if result.broken:
        does = "does" if len(result.broken) == 1 else "do"
        return f"{len(result.broken)} of {count} declared bands {does} not hold{looked}"
    return f"All {count} declared bands hold{looked}"


def verdict(check: BandCheck) -> str:
    """Return one sentence on one band."""
    limit, worst = _limit(check, check.limit), _limit(check, check.worst)
    if check.holds:
        of = "" if check.limit == 1.0 else f" of {limit}"
        return f"{check.band}: at most {worst}{of} ({check.worst_case})"
    count = len(check.broken)
    return f"{check.band} must be at most {limit}, got {worst} at {check.worst_case!r}" + (
        f" and {count - 1} more of {check.cases}" if count > 1 else f", 1 of {check.cases}"
    )


def verdict_error(result: Validation) -> ValidationError:
    """Return the error of a validation some of whose bands do not hold: one line."""
    first, others = result.broken[0], len(result.broken) - 1
    also = f"; {others} other band{'s' if others > 1 else ''} broken too" if others else ""
    return ValidationError(f"{verdict(first)}{also}: see `afdplan validate --json`")


def _limit(check: BandCheck, value: float) -> str:
    if check.limit == 1.0:
        return f"{value:.2f} of what is stated" if value != 1.0 else "what is stated"
    return percent(value)
