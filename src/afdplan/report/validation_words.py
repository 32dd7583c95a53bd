"""Which sentences and numbers tell the evidence on its page?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from afdplan.errors import ValidationError
from afdplan.report.quantities import change, share
from afdplan.report.telling import Fact
from afdplan.theory.validity import (
    BARRIER_FREE_MICROBATCHES,
    DECLARED_MICROBATCHES,
    DECLARED_ROUNDS,
    DECLARED_WORKERS,
)
from afdplan.validation.regret import RECOMMENDED

if TYPE_CHECKING:
    from afdplan.validation.bands import BandCheck
    from afdplan.validation.baseline import CurvePoint
    from afdplan.validation.cell import CellResult
    from afdplan.validation.mode_regret import ModeResult
    from afdplan.validation.regret import RatioResult
    from afdplan.validation.run import Validation
    from afdplan.validation.traces import TraceResult

__all__ = [
    "ASSUMPTIONS",
    "READING",
    "WITHOUT_BARRIER",
    "agreement",
    "cost_of_habit",
    "cost_of_order",
    "cost_of_verdict",
    "curve_agreement",
    "facts",
    "headline",
    "how_to_read",
    "undecided",
    "validation_subject",
    "verdict",
    "verdict_error",
]

PARTS = {
    "paper": "the paper's numbers",
    "simulation": "theory against simulation",
    "published": "measured systems",
}
HABIT = "lockstep"
"""What planners for one fixed context length do."""
READING = """\
Theory and simulation share no code but the description of the bundle. Errors are signed, theory
over simulation minus 1: positive means that the theory says slower than it is. Latency models of
laws and traces are made up, so that the named resource binds at the named size; requests are
independent draws from the named law or trace. For the bands an error counts from the end
of the simulation's 95 % interval, and runs go on until that interval is narrow (0.5 %, or 0.2 %
with `--full`; without the barrier 1.5 % and 0.5 %)."""
"""What must be known to read the numbers."""
DEFINITIONS = (
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
    f"Declared validity: requests live at least {DECLARED_ROUNDS:.0f} rounds, at most "
    f"{DECLARED_MICROBATCHES} microbatches, at most {DECLARED_WORKERS} attention workers. Below "
    "it the theory states a larger error, and is held to that.",
    "Latency models of laws and traces are made up, so that the named resource binds at the named "
    "size; that of the paper is its own, in cycles of unknown length; those of measured systems "
    "are calibrated on the points that are marked.",
    "Every simulated bundle is saturated: a finished request is replaced at once.",
)


WITHOUT_BARRIER = (
    f"Declared validity: requests live at least {DECLARED_ROUNDS:.0f} rounds, at most "
    f"{BARRIER_FREE_MICROBATCHES} microbatches, at most {DECLARED_WORKERS} attention workers, no "
    "rule of more than a quarter of the calls where attention times spread by less than 10%.",
    "Throughput is A m B tokens per L m E[tau]: its error is that of E[tau] with the other sign.",
    "Latency models are made up: the FFN's floor is the share of a departure with one call of "
    "every attention worker that is paid however few calls are on board.",
    "Every simulated bundle is saturated: a finished request is replaced at once.",
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
    way = "" if result.execution == "synchronous" else ", without the barrier"
    return f"{what[0].upper()}{what[1:]}{way}: {size}{traces}"


def how_to_read() -> tuple[str, ...]:
    """Return what errors, regrets and verdicts mean."""
    return (" ".join(READING.replace("`", "").split()), *DEFINITIONS)


def facts(result: Validation) -> Iterable[Fact]:
    """Return the numbers behind the answer, of what was looked at."""
    declared = [cell for cell in result.all_cells if cell.is_declared]
    if declared:
        errors = [abs(cell.error) for cell in declared]
        yield _spread("Error of E[tau]", errors, f" of {len(declared)} bundles; largest")
        tails = [abs(cell.p99_error) for cell in declared]
        yield _spread("Error of step p99", tails, "; largest")
    if result.ratios:
        for method in (RECOMMENDED, HABIT):
            picks = [case.of(method).regret for case in result.ratios]
            yield _spread(f"Regret of {method}", picks, f" of {len(picks)} cases; worst")
    if result.modes:
        lost = [one.regret for one in result.modes]
        of = f" of {len(lost)} cases without the barrier; worst"
        yield _spread("Regret of workers and rule", lost, of)
        lost = [one.verdict_regret for one in result.modes]
        right = sum(value == 0 for value in lost)
        yield Fact(
            "Which way pays",
            f"right in {right} of {len(lost)} cases",
            f"a wrong word gives up {share(max(lost))} at most",
        )
    if result.pool:
        kinds = ("reproduced", "in part", "not reproducible")
        counts = [sum(fact.verdict == kind for fact in result.pool) for kind in kinds]
        yield Fact(
            "A measured pool",
            f"{counts[0] + counts[1]} of {sum(counts)} figures",
            f"{counts[0]} reproduced, {counts[1]} in part; the others each say why not",
        )
    if result.paper is not None:
        verdicts = [fact.verdict for fact in result.paper.facts]
        yield Fact(
            "The paper's numbers",
            f"{verdicts.count('reproduced')} reproduced",
            f"{verdicts.count('not reproducible')} not reproducible, each says why",
        )
    predicted = [
        point.error
        for system in result.published
        for point in system.points
        if not point.is_calibration
    ]
    if predicted:
        yield Fact(
            "Measured step times",
            change(max(predicted, key=abs)),
            f"worst of {len(predicted)} designs not calibrated on",
        )


def _spread(name: str, values: Sequence[float], of: str) -> Fact:
    return Fact(name, share(median(values)), f"median{of} {share(max(values))}")


def undecided(checks: Sequence[BandCheck]) -> tuple[str, ...]:
    """Return a sentence on each band of simulations that some cases cannot break."""
    return tuple(
        f"{check.band}: {check.undecided} of {check.cases} cases are undecided, for their "
        "simulation's interval is wider than the limit."
        for check in checks
        if check.undecided
    ) or ("No case is undecided.",)


def agreement(declared: Sequence[CellResult]) -> str:
    """Return how well theory and simulation agree over the cells of the declared validity."""
    inside = sum(cell.is_inside for cell in declared)
    exact = median(abs(cell.error) for cell in declared)
    mean_field = median(abs(cell.errors["mean-field"]) for cell in declared)
    return (
        f"In {inside} of {len(declared)} bundles of the declared validity the exact method lies "
        f"inside the simulation's interval; its error is {share(exact)} in the median, "
        f"that of the mean field, which knows no barrier, {share(mean_field)}."
    )


def curve_agreement(curve: Sequence[CurvePoint]) -> str:
    """Return what the simulations of the paper's baseline say."""
    best = max(curve, key=lambda point: point.stationary.value)
    errors = {
        point.attention_workers: point.pipelined / point.stationary.value - 1 for point in curve
    }
    worst = max(errors, key=lambda ratio: abs(errors[ratio]))
    return (
        "On the baseline of arXiv:2601.21351 the steady simulation is best at "
        f"r = {best.attention_workers}; the pipelined theory is {change(errors[worst])} from it "
        f"at worst, at r = {worst}."
    )


def cost_of_habit(ratios: Sequence[RatioResult]) -> str:
    """Return what following afdplan costs, and what following today's habit does."""
    ours = [case.of(RECOMMENDED).regret for case in ratios]
    habit = [case.of(HABIT).regret for case in ratios]
    promise = max(case.of(HABIT).promise_error for case in ratios)
    return (
        f"Over {len(ratios)} cases, the {RECOMMENDED} method gives up {share(median(ours))} "
        f"of the throughput in the median and {share(max(ours))} at worst. Taking every "
        f"request at one fixed length ({HABIT}) gives up {share(median(habit))} and "
        f"{share(max(habit))}, and promises up to {share(promise)} more than is "
        "delivered."
    )


def cost_of_verdict(modes: Sequence[ModeResult]) -> str:
    """Return how often the way that is said to pay does, and what a wrong word costs."""
    told = [one for one in modes if one.verdict_regret > 0]
    worst = max(one.verdict_regret for one in modes)
    lost = [one.regret for one in modes]
    return (
        f"The way that is said to pay gives more in {len(modes) - len(told)} of {len(modes)} cases"
        + (f"; in the others it gives up {share(worst)} at most" if told else "")
        + f". The recommended workers and rule give up {share(median(lost))} of the throughput "
        f"without the barrier in the median and {share(max(lost))} at worst."
    )


def cost_of_order(traces: Sequence[TraceResult]) -> tuple[str, ...]:
    """Return what replaying traces in their order changes, and for how many it cannot be told."""
    long = [trace.replay_error for trace in traces if not trace.is_too_short]
    short = len(traces) - len(long)
    words = []
    if long:
        words.append(
            f"On the traces that are long enough, {len(long)} of {len(traces)}, the theory is "
            f"{change(min(long))} to {change(max(long))} from a replay in their order."
        )
    if short:
        words.append(
            f"{short} of {len(traces)} traces are too short for their order to show: their "
            "requests fill the slots of the bundle too rarely."
        )
    return tuple(words)


def headline(result: Validation) -> str:
    """Return how much of what is declared holds, without a full stop."""
    if not result.checks:
        facts = result.paper.facts if result.paper else result.pool
        good, partly, bad = (
            sum(fact.verdict == kind for fact in facts)
            for kind in ("reproduced", "in part", "not reproducible")
        )
        between = f", {partly} in part" if partly else ""
        return (
            f"{good} published numbers reproduced{between}, {bad} not reproducible (each says why)"
        )
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
    return share(value)
