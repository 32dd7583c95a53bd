"""How is a workload told to a person and to a machine?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.workload.report import LawReport, WorkloadReport
from afdplan.workload.warnings import rounded_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from afdplan.workload.arrivals import Arrivals
    from afdplan.workload.drift import Drift
    from afdplan.workload.lengths import LengthSummary

__all__ = ["render_workload", "workload_answer"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS = "_.-=+*%#"
_SHOWN_QUANTILES = (5, 50, 95, 99)


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
            "confidence": load.confidence,
            "method": load.method,
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
        "requests": report.requests,
        "dropped_requests": report.dropped_requests,
        "precision": report.precision,
        "correlation": {"pearson": report.correlation, "rank": report.rank_correlation},
        "drift": {
            "by_time": drift.by_time,
            "std": drift.std,
            "probability": drift.probability,
            "interval_half_width": drift.half_width,
            "exceeds_interval": drift.exceeds_interval,
            "windows": [
                {
                    "start": window.start,
                    "end": window.end,
                    "requests": window.requests,
                    "mean": window.token_load.value,
                    "mean_low": window.token_load.low,
                    "mean_high": window.token_load.high,
                }
                for window in drift.windows
            ],
        },
        "largest_request": report.largest,
        "arrivals": report.arrivals,
        "sessions": report.sessions,
        "notes": list(report.notes),
    }


def render_workload(report: WorkloadReport | LawReport, unicode: bool = True) -> RenderableType:
    """Return the report for a terminal.

    Parameters
    ----------
    report
        What to tell.
    unicode
        Whether the terminal can show block characters; else plain ones are used.
    """
    from rich.console import Group
    from rich.text import Text

    load = report.token_load
    parts: list[RenderableType] = []
    if isinstance(report, WorkloadReport):
        parts.append(Text(report.source, style="bold"))
        parts.append(Text(_headline(report), style="dim"))
        parts += [Text(f"note: {note}", style="dim") for note in report.notes]
    else:
        parts.append(Text(report.name, style="bold"))
        parts.append(Text("a law, known without error", style="dim"))
    answer = _grid()
    answer.add_row("Mean token load of a slot", f"{_count(load.value)} tokens", _interval(report))
    answer.add_row("Spread of a slot (std)", f"{_count(report.token_load_std)} tokens", "")
    parts += ["", answer, "", _length_table(report, unicode), "", _split_table(report, unicode)]
    facts = _grid()
    facts.add_row("Geometric shortcut", _geometric(report))
    if isinstance(report, WorkloadReport):
        facts.add_row("Prompt with output", _correlations(report))
        facts.add_row("Precision", _precision(report))
        facts.add_row("Drift", _drift(report.drift, unicode))
        facts.add_row("Largest request", _largest(report))
        if report.arrivals is not None:
            facts.add_row("Arrivals", _arrivals(report.arrivals))
        if report.sessions is not None:
            facts.add_row("Sessions", _sessions(report))
    parts += ["", facts]
    if isinstance(report, WorkloadReport):
        parts += [Text(f"note: {note}", style="dim") for note in report.notes]
    if report.warnings:
        parts += ["", *(_hanging("warning: ", warning) for warning in report.warnings)]
    return Group(*parts)


def spark(values: Sequence[float], unicode: bool = True, floor: float | None = 0.0) -> str:
    """Return values as a row of small bars, the lowest at `floor` (None: at their minimum).

    Examples
    --------
    >>> spark([0, 1, 2, 7])
    '▁▂▃█'
    """
    blocks = _BLOCKS if unicode else _PLAIN_BLOCKS
    if not values:
        return ""
    low = min(values) if floor is None else floor
    span = max(values) - low
    if span <= 0:
        return blocks[0] * len(values)
    return "".join(blocks[round((value - low) / span * (len(blocks) - 1))] for value in values)


def _lengths(summary: LengthSummary) -> dict[str, Any]:
    return {
        "mean": summary.mean,
        "std": summary.std,
        "coefficient_of_variation": summary.variation,
        "min": summary.minimum,
        **{f"p{q}": value for q, value in summary.quantiles.items()},
        "max": summary.maximum,
    }


def _grid() -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    return grid


def _hanging(head: str, text: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_column(style="yellow", no_wrap=True)
    grid.add_column()
    grid.add_row(head, Text(text))
    return grid


def _count(value: float) -> str:
    """Return a number of tokens with at least four digits worth reading."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _interval(report: WorkloadReport | LawReport) -> str:
    load = report.token_load
    if load.confidence == 1.0:
        return "exact"
    if load.low == load.high:
        return "all requests alike"
    half = load.relative_half_width
    return (
        f"{_count(load.low)} to {_count(load.high)} with {100 * load.confidence:.4g} % confidence "
        f"(+/- {100 * half:.1f} %)"
    )


def _headline(report: WorkloadReport) -> str:
    words = [f"{report.requests:,} requests", f"format {report.format}"]
    if report.dropped_requests:
        words.append(f"{report.dropped_requests:,} dropped (failed or without output)")
    if report.arrivals is not None and not report.arrivals.is_evenly_spaced:
        words.append(f"over {_duration(report.arrivals.duration)}")
    if report.time_unit_in_file:
        words.append(f"arrivals read as {report.time_unit_in_file}")
    return ", ".join(words)


def _length_table(report: WorkloadReport | LawReport, unicode: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("tokens", style="cyan", no_wrap=True)
    for name in ("mean", *(f"p{q}" for q in _SHOWN_QUANTILES), "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("shape (log)")  # the one that gives way in a narrow terminal
    for name, summary in (("prompt", report.prompt), ("output", report.decode)):
        table.add_row(
            name,
            _count(summary.mean),
            *(f"{summary.quantiles[q]:,}" for q in _SHOWN_QUANTILES),
            f"{summary.maximum:,}",
            Text(spark(summary.shape, unicode), no_wrap=True, overflow="crop"),
        )
    return table


def _split_table(report: WorkloadReport | LawReport, unicode: bool) -> Table:
    from rich import box
    from rich.table import Table

    split, total = report.split, report.split.total
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("where the load comes from", style="cyan")
    table.add_column("tokens", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    for name, value in (
        ("mean prompt", split.prompt),
        ("output so far, E[D^2]/(2 E[D]) - 1/2", split.growth),
        ("long outputs' prompts, Cov(P, D)/E[D]", split.dependence),
    ):
        share = value / total if total else 0.0
        sign = "" if value >= 0 else "-"
        bar = ("█" if unicode else "#") * min(round(abs(share) * 20), 40)
        table.add_row(name, f"{sign}{_count(abs(value))}", f"{100 * share:.1f} %", sign + bar)
    return table


def _geometric(report: WorkloadReport | LawReport) -> str:
    found = report.geometric
    return (
        f"would say mean {_count(found.mean_token_load)} "
        f"({100 * found.mean_error_fraction:+.1f} %), std {_count(found.std_token_load)} "
        f"(variance {100 * found.variance_error_fraction:+.1f} %); "
        f"outputs vary by {found.variation:.2f} of their mean, geometric ones by "
        f"{found.geometric_variation:.2f}"
    )


def _correlations(report: WorkloadReport) -> str:
    return f"correlation {report.correlation:+.3f}, of ranks {report.rank_correlation:+.3f}"


def _precision(report: WorkloadReport) -> str:
    precision = report.precision
    return (
        f"worth {precision.effective_requests:,.0f} independent requests (standard error "
        f"{precision.widening:.1f} times theirs); +/- 1 % takes about "
        f"{rounded_count(precision.requests_for_one_percent)} requests like these"
    )


def _drift(drift: Drift, unicode: bool) -> str:
    if not drift.windows:
        return "too few requests for windows"
    values = [window.token_load.value for window in drift.windows]
    chance = "< 0.001" if drift.probability < 0.001 else f"{drift.probability:.3f}"
    unit = (
        _duration((drift.windows[-1].end - drift.windows[0].start) / len(values))
        if drift.by_time
        else f"{sum(w.requests for w in drift.windows) / len(values):,.0f} requests"
    )
    return (
        f"{spark(values, unicode, floor=None)}  {_count(min(values))} to {_count(max(values))} "
        f"over {len(values)} windows of about {unit}; std beyond noise {_count(drift.std)} "
        f"(chance of such differences {chance})"
    )


def _largest(report: WorkloadReport) -> str:
    found = report.largest
    return (
        f"{100 * found.load_fraction:.2f} % of the total load: number {found.request:,}, prompt "
        f"{found.prompt_tokens:,}, output {found.decode_tokens:,}"
    )


def _arrivals(arrivals: Arrivals) -> str:
    if arrivals.duration == 0:
        return "all at once"
    text = (
        f"{arrivals.rate:.3g} requests/s; gaps vary by {arrivals.interarrival_variation:.2f} of "
        "their mean (Poisson 1)"
    )
    if arrivals.dispersion:
        counts = ", ".join(
            f"{_short(d.index)} in {_duration(d.window_seconds)}" for d in arrivals.dispersion
        )
        text += f"; variance over mean of counts {counts} (Poisson 1)"
    return text


def _sessions(report: WorkloadReport) -> str:
    found = report.sessions
    if found is None:
        return "none named"
    return (
        f"{found.count:,}, {found.mean_requests:.1f} requests each on average, at most "
        f"{found.most_requests:,}"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (seconds == size and unit != "d"):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
