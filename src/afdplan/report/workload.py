"""How is a workload told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.quantities import (
    chance,
    change,
    counted,
    number,
    plus_minus,
    share,
    spark,
    value_and_interval,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling
from afdplan.workload.report import LawReport, WorkloadReport
from afdplan.workload.warnings import rounded_count

if TYPE_CHECKING:
    from afdplan.workload.arrivals import Arrivals
    from afdplan.workload.drift import Drift
    from afdplan.workload.lengths import LengthSummary

__all__ = [
    "drift_table",
    "drift_words",
    "length_table",
    "shortcut_words",
    "split_table",
    "split_words",
    "workload_answer",
    "workload_told",
]


def workload_answer(report: WorkloadReport | LawReport) -> dict[str, Any]:
    """Return the names that ``afdplan workload --json`` promises; times in seconds.

    A law of the mini-language has no requests, arrivals or drift: `requests` is null, and
    the others are absent.
    """
    load = report.token_load
    answer: dict[str, Any] = {
        "requests": None,
        "mean_prompt_tokens": report.prompt.mean,
        "mean_decode_tokens": report.decode.mean,
        "token_load": {
            "mean": load.value,
            "std": report.token_load_std,
            "mean_low": load.low,
            "mean_high": load.high,
            **chosen(load, "confidence method"),
        },
        "token_load_split": report.split,
        "prompt_tokens": _lengths(report.prompt),
        "decode_tokens": _lengths(report.decode),
        "geometric_shortcut": report.geometric,
    }
    if isinstance(report, LawReport):
        return answer
    drift = report.drift
    return answer | {
        **chosen(report, "requests dropped_requests precision"),
        "correlation": {"pearson": report.correlation, "rank": report.rank_correlation},
        "drift": {
            **chosen(drift, "by_time std probability"),
            "interval_half_width": drift.half_width,
            "exceeds_interval": drift.exceeds_interval,
            "windows": [
                {
                    **chosen(window, "start end requests"),
                    "mean": window.token_load.value,
                    "mean_low": window.token_load.low,
                    "mean_high": window.token_load.high,
                }
                for window in drift.windows
            ],
        },
        "largest_request": report.largest,
        **chosen(report, "arrivals sessions notes"),
    }


def _lengths(summary: LengthSummary) -> dict[str, Any]:
    return {
        "mean": summary.mean,
        "std": summary.std,
        "coefficient_of_variation": summary.variation,
        "min": summary.minimum,
        **{f"p{q}": value for q, value in summary.quantiles.items()},
        "max": summary.maximum,
    }


def workload_told(report: WorkloadReport | LawReport) -> Telling:
    """Return what text and page say of requests."""
    notes = report.notes if isinstance(report, WorkloadReport) else ()
    return Telling(
        subject=_subject(report),
        answer=_sentence(report),
        facts=tuple(_facts(report)),
        words=tuple(_words(report)),
        tables=(length_table(report), split_table(report)),
        warnings=report.warnings,
        assumptions=(
            "A slot is always occupied; a finished request is replaced at once.",
            "In its step i a request holds its prompt and i tokens of output.",
            *notes,
        ),
        brief=(*_facts(report), *_brief(report)),
    )


def _brief(report: WorkloadReport | LawReport) -> Iterable[Fact]:
    """Yield what a screen shows besides the numbers."""
    yield Fact("Where it comes from", split_words(report))
    if isinstance(report, LawReport):
        return
    if report.drift.windows:
        yield Fact("Windows", _windows(report.drift))
    largest = report.largest
    yield Fact(
        "Largest request",
        f"{share(largest.load_fraction)} of the load: number {largest.request:,}",
    )


def _subject(report: WorkloadReport | LawReport) -> str:
    if isinstance(report, LawReport):
        return f"{report.name}: a law, known without error"
    words = [f"{report.source}: {counted(report.requests, 'request')}", f"format {report.format}"]
    if report.dropped_requests:
        words.append(f"{report.dropped_requests:,} dropped (failed or without output)")
    if report.arrivals is not None and not report.arrivals.is_evenly_spaced:
        words.append(f"over {_duration(report.arrivals.duration)}")
    if report.time_unit_in_file:
        words.append(f"arrivals read as {report.time_unit_in_file}")
    return ", ".join(words)


def _confidence(report: WorkloadReport | LawReport) -> str:
    return f"{100 * report.token_load.confidence:.4g} % confidence"


def _sentence(report: WorkloadReport | LawReport) -> str:
    load = report.token_load
    value, ends = value_and_interval(load)
    text = f"One occupied slot holds {value} KV tokens on average"
    if load.low < load.high:
        text += f", {ends} with {_confidence(report)}"
    if isinstance(report, LawReport) or not report.drift.windows:
        return text + "."
    drifts = "and it drifts" if report.drift.exceeds_interval else "with no drift beyond that"
    return f"{text}, {drifts}."


def _facts(report: WorkloadReport | LawReport) -> Iterable[Fact]:
    load = report.token_load
    known = f"{plus_minus(load.relative_half_width)}, {_confidence(report)}"
    if load.confidence == 1.0:
        known = "exact"
    elif load.low == load.high:
        known = "all requests alike"
    yield Fact("Mean token load", f"{value_and_interval(load)[0]} tokens", known)
    yield Fact("Spread of a slot", f"{number(report.token_load_std)} tokens", "standard deviation")
    for name, summary in (("Prompt", report.prompt), ("Output", report.decode)):
        yield Fact(name, f"{number(summary.mean)} tokens", f"mean; p99 {summary.quantiles[99]:,}")
    if isinstance(report, LawReport):
        return
    yield Fact(
        "Worth",
        f"{report.precision.effective_requests:,.0f} requests",
        f"independent ones, of {report.requests:,}",
    )
    arrivals = report.arrivals
    if arrivals is not None and arrivals.duration > 0:
        yield Fact(
            "Arrivals",
            f"{number(arrivals.rate)} requests/s",
            f"gaps vary by {arrivals.interarrival_variation:.2f} of their mean (Poisson 1)",
        )


def _words(report: WorkloadReport | LawReport) -> Iterable[Fact]:
    for name, summary in (("prompts", report.prompt), ("outputs", report.decode)):
        span = f"{summary.minimum:,} to {summary.maximum:,} tokens, on a logarithm"
        yield Fact(f"Shape of {name}", f"{spark(summary.shape)} {span}")
    yield Fact("Where it comes from", split_words(report))
    yield Fact("Geometric shortcut", shortcut_words(report))
    if isinstance(report, LawReport):
        return
    precision, largest, sessions = report.precision, report.largest, report.sessions
    yield Fact(
        "Prompt with output",
        f"correlation {report.correlation:+.3f}, of ranks {report.rank_correlation:+.3f}",
    )
    yield Fact(
        "Precision",
        f"standard error {precision.widening:.1f} times that of independent requests; "
        f"± 1 % takes about {rounded_count(precision.requests_for_one_percent)} requests like "
        "these",
    )
    yield Fact("Drift", drift_words(report.drift))
    if report.drift.windows:
        yield Fact("Windows", _windows(report.drift))
    yield Fact(
        "Largest request",
        f"{share(largest.load_fraction)} of the total load: number {largest.request:,}, "
        f"prompt {largest.prompt_tokens:,}, output {largest.decode_tokens:,}",
    )
    if report.arrivals is not None:
        yield Fact("Bursts", _bursts(report.arrivals))
    if sessions is not None:
        yield Fact(
            "Sessions",
            f"{sessions.count:,}, {sessions.mean_requests:.1f} requests each on average, at "
            f"most {sessions.most_requests:,}",
        )


def shortcut_words(report: WorkloadReport | LawReport) -> str:
    """Return what independent prompts and geometric outputs would give."""
    found = report.geometric
    return (
        f"The shortcut for independent prompts and geometric outputs would say "
        f"{number(found.mean_token_load)} tokens ({change(found.mean_error_fraction)}), standard "
        f"deviation {number(found.std_token_load)} (variance "
        f"{change(found.variance_error_fraction)}): outputs vary by {found.variation:.2f} of their "
        f"mean, geometric ones by {found.geometric_variation:.2f}."
    )


def split_words(report: WorkloadReport | LawReport) -> str:
    """Return where the load comes from."""
    split = report.split
    longer, does = ("longer", "adds") if split.dependence >= 0 else ("shorter", "takes away")
    return (
        f"Prompts give {number(split.prompt)} tokens, outputs so far {number(split.growth)}, and "
        f"that the slots with long outputs hold {longer} prompts {does} "
        f"{number(abs(split.dependence))}."
    )


def split_table(report: WorkloadReport | LawReport) -> TextTable:
    """Return the three parts of the mean token load."""
    split = report.split
    parts = {
        "mean prompt": split.prompt,
        "output so far, E[D^2]/(2 E[D]) - 1/2": split.growth,
        "long outputs' prompts, Cov(P, D)/E[D]": split.dependence,
    }
    shares = [value / split.total if split.total else 0.0 for value in parts.values()]
    return TextTable(
        title="Where the load comes from, in numbers",
        columns=("part", "tokens", "share"),
        rows=[
            (name, number(value), share(part))
            for (name, value), part in zip(parts.items(), shares, strict=True)
        ],
        bars=[min(abs(part), 1.0) for part in shares],
    )


def drift_words(drift: Drift) -> str:
    """Return how the windows' means differ beyond noise."""
    if not drift.windows:
        return "The trace has too few requests to be cut into windows."
    probability = "below 0.001" if drift.probability < 0.001 else chance(drift.probability)
    return (
        f"Beyond sampling noise the windows' means spread by {number(drift.std)} tokens (standard "
        f"deviation); the chance of such differences without drift is {probability}."
    )


def _windows(drift: Drift) -> str:
    values = [window.token_load.value for window in drift.windows]
    size = counted(round(sum(w.requests for w in drift.windows) / len(values)), "request")
    if drift.by_time:
        size = _duration((drift.windows[-1].end - drift.windows[0].start) / len(values))
    return (
        f"{spark(values, floor=None)} {number(min(values))} to {number(max(values))} over "
        f"{len(values)} windows of about {size}"
    )


def drift_table(drift: Drift) -> TextTable:
    """Return the mean token load of each window."""
    from afdplan.plotting.workload_figures import drift_times

    starts, ends, unit = drift_times(drift)
    unit = "" if unit == "requests" else f" [{unit}]"
    return TextTable(
        title="The windows in numbers",
        columns=(f"from{unit}", f"to{unit}", "requests", "mean token load", "interval"),
        rows=[
            (
                f"{start:,.5g}",
                f"{end:,.5g}",
                f"{window.requests:,}",
                *value_and_interval(window.token_load),
            )
            for start, end, window in zip(starts, ends, drift.windows, strict=True)
        ],
    )


def length_table(report: WorkloadReport | LawReport) -> TextTable:
    """Return the lengths of prompts and outputs."""

    def row(name: str, *told: str) -> tuple[str, ...]:
        return (name, *told)

    both = (report.prompt, report.decode)
    return TextTable(
        title="Lengths in tokens",
        columns=("length", "prompt", "output"),
        rows=[
            row("mean", *(number(one.mean) for one in both)),
            row("std", *(number(one.std) for one in both)),
            row("min", *(f"{one.minimum:,}" for one in both)),
            *(row(f"p{q}", *(f"{one.quantiles[q]:,}" for one in both)) for q in both[0].quantiles),
            row("max", *(f"{one.maximum:,}" for one in both)),
        ],
        is_open=True,
    )


def _bursts(arrivals: Arrivals) -> str:
    if arrivals.duration == 0:
        return "all arrive at once"
    counts = ", ".join(
        f"{number(d.index)} in {_duration(d.window_seconds)}" for d in arrivals.dispersion
    )
    return f"variance over mean of counts (Poisson 1): {counts or 'too few to say'}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (seconds == size and unit != "d"):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
