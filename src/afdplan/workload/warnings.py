"""What should one know before trusting the statistics of a trace?"""

from __future__ import annotations

from collections.abc import Iterator

from afdplan.workload.arrivals import Arrivals
from afdplan.workload.report import LawReport, WorkloadReport

__all__ = ["law_warnings", "load_warnings", "rounded_count", "workload_warnings"]

LARGE_LOAD_FRACTION = 0.01
LEAST_MOVE = 0.005
"""By how much a large request must move the mean load before anybody needs to look at it."""
WANTED_HALF_WIDTH = 0.01
FEWEST_UNITS = 40
"""Independent-looking units below which intervals are too narrow for skewed lengths."""
MANY_EQUAL_FRACTION = 0.1
HISTORY_FRACTION = 0.5
CACHED = "prompts include cached prefixes"


def workload_warnings(report: WorkloadReport) -> tuple[str, ...]:
    """Return the warnings of a report, each with its evidence and what to do about it."""
    return (
        *load_warnings(report),
        *_about_constant_outputs(report),
        *_about_arrivals(report.arrivals),
    )


def load_warnings(report: WorkloadReport) -> tuple[str, ...]:
    """Return those warnings that bear on the token load itself."""
    return (
        *report.doubts,
        *_about_empty_prompts(report),
        *_about_precision(report),
        *_about_drift(report),
        *_about_prefixes(report),
    )


def law_warnings(report: LawReport) -> tuple[str, ...]:
    """Return the warnings of laws of the mini-language."""
    return tuple(_about_constant_outputs(report))


def _about_empty_prompts(report: WorkloadReport) -> Iterator[str]:
    if report.prompt.maximum == 0:
        yield (
            "every prompt has 0 tokens: real requests have some, so this is probably the wrong "
            "column or a log that leaves them out; loads are too small."
        )


def _about_precision(report: WorkloadReport) -> Iterator[str]:
    largest, load, precision = report.largest, report.token_load, report.precision
    moved = abs(largest.token_load_without / load.value - 1) if load.value > 0 else 0.0
    if largest.load_fraction > LARGE_LOAD_FRACTION and moved > LEAST_MOVE:
        yield (
            f"request {largest.request:,} (prompt {largest.prompt_tokens:,}, output "
            f"{largest.decode_tokens:,}) alone carries {100 * largest.load_fraction:.1f} % of the "
            f"total load; without it the mean token load is {largest.token_load_without:,.0f}, "
            f"not {load.value:,.0f}: check that it is real, and cap lengths as your service does."
        )
    units = (
        "sessions" if report.sessions and precision.units == report.sessions.count else ("requests")
    )
    if precision.units < FEWEST_UNITS:
        yield (
            f"only {precision.units} {units} to judge by: with fewer than {FEWEST_UNITS} even the "
            "interval is uncertain, and too narrow when lengths are skewed; collect more."
        )
    if load.high - load.low > 2 * WANTED_HALF_WIDTH * load.value:
        half = (load.high - load.low) / 2 / load.value
        yield (
            f"{report.requests:,} requests (worth {precision.effective_requests:,.0f} independent "
            f"ones) give the mean token load to ± {100 * half:.1f} % only; ± 1 % would take about "
            f"{rounded_count(precision.requests_for_one_percent)} such requests: use a "
            "longer trace, or plan for the whole interval."
        )


def _about_drift(report: WorkloadReport) -> Iterator[str]:
    drift = report.drift
    if drift.exceeds_interval:
        values = [window.token_load.value for window in drift.windows]
        yield (
            f"the load drifts: windows range from {min(values):,.0f} to {max(values):,.0f} tokens, "
            f"std {drift.std:,.0f} beyond noise against an interval of ± "
            f"{drift.half_width:,.0f}; one ratio will not fit all hours: plan for the window that "
            "matters (peak), or for the range."
        )


def _about_prefixes(report: WorkloadReport) -> Iterator[str]:
    noted = [note for note in report.notes if note.startswith(CACHED)]
    sessions = report.sessions
    if noted or (sessions is not None and sessions.history_fraction > HISTORY_FRACTION):
        evidence = (
            noted[0].partition(": ")[0]
            if noted or sessions is None
            else f"{CACHED} (in {100 * sessions.history_fraction:.0f} % of follow-up requests the "
            "prompt repeats the session so far)"
        )
        yield (
            f"{evidence}: right for decode, whose attention reads the whole context, but do not "
            "take prompt tokens for prefill work, and if slots share prefixes in memory, fewer "
            "tokens are stored than read."
        )


def _about_constant_outputs(report: WorkloadReport | LawReport) -> Iterator[str]:
    if report.decode.minimum == report.decode.maximum > 1:
        yield (
            f"every output has {report.decode.maximum:,} tokens: slots that start together stay "
            "in step and empty together, so the load swings with their common age; say how they "
            "start (aligned or random phase), or use a trace of real outputs."
        )


def _about_arrivals(arrivals: Arrivals | None) -> Iterator[str]:
    if arrivals is None:
        yield (
            "no arrival times: the order of the file is taken for the order of arrival, and "
            "nothing is said of rate or bursts; if the file is sorted or shuffled, so is the "
            "interval."
        )
        return
    if arrivals.is_evenly_spaced:
        yield (
            f"arrivals are exactly {1 / arrivals.rate:g} s apart, like row numbers or a "
            "constant-rate test: rate and burstiness are not those of real traffic."
        )
    elif arrivals.duration == 0 or arrivals.equal_fraction > MANY_EQUAL_FRACTION:
        yield (
            f"{100 * arrivals.equal_fraction:.0f} % of requests arrive at the very time of the "
            "one before: the clock of the file is coarse or requests were sent in batches, so "
            "bursts shorter than its step are unknown."
        )


def rounded_count(count: int) -> str:
    """Return a count to two digits, as befits an extrapolation.

    Examples
    --------
    >>> rounded_count(202_684)
    '200,000'
    """
    scale = 10 ** max(len(str(count)) - 2, 0)
    return f"{round(count / scale) * scale:,}"
