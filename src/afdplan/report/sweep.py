"""How are a study's cost, its end and its results told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from afdplan.report.quantities import share, time
from afdplan.studies.forecast import Forecast
from afdplan.studies.run import Tally
from afdplan.studies.study import Study
from afdplan.studies.summary import StudySummary, WindowSeries

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = [
    "cost_line",
    "duration",
    "rate",
    "render_forecast",
    "render_summary",
    "summary_answer",
    "tally_line",
    "trouble",
]

TABLE_ROWS = 15
TEXT_WIDTH = 28
UNKNOWN = "cost unknown, a worker died on a case tried"
_SHORT = {
    "microbatches": "micro-\nbatches",
    "bottleneck": "binds",
    "optimal_attention_workers": "best\nA",
    "planned_attention_workers": "best\nA",
    "planned_ffn_workers": "best\nF",
    "planned_batch_size": "best\nbatch",
    "planned_bundles": "bundles",
    "gain_over_colocated": "gain over\ncolocated",
}
_RATES = ("objective", "throughput_per_instance", "tokens_per_second_per_device")


def duration(seconds: float) -> str:
    """Return a span of time for people, two digits.

    Examples
    --------
    >>> [duration(s) for s in (0.4, 83, 6000, 200_000)]
    ['1 s', '83 s', '1.7 h', '2.3 days']
    """
    if seconds < 1:
        return "1 s"
    for size, name, largest in ((1, "s", 120), (60, "min", 90), (3600, "h", 48)):
        if seconds < size * largest:
            value = seconds / size
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.2g} {name}"
    return f"{seconds / 86400:.2g} days"


def size_text(size: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> size_text(15_300), size_text(2.5e9)
    ('15 kB', '2.5 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.2g} {name}"
    return f"{max(size / 1e3, 1):.0f} kB"


def cost_line(cases: int, cost: Forecast | None, workers: int) -> str:
    """Return one line on what a run will take; `cost` is None if trying killed a worker."""
    taken = UNKNOWN
    if cost is not None:
        taken = f"about {duration(cost.seconds)}, about {size_text(cost.size)}"
    return f"{cases:,} case{'' if cases == 1 else 's'} on {_workers(workers)}: {taken}"


def _workers(count: int) -> str:
    return f"{count:,} worker{'' if count == 1 else 's'}"


def rate(speed: float) -> str:
    """Return a speed in cases per second, or per minute or hour where a case takes longer.

    Examples
    --------
    >>> [rate(s) for s in (1593.2, 12.34, 0.5, 0.01)]
    ['1,593 cases/s', '12.3 cases/s', '30 cases/min', '36 cases/h']
    """
    units = ((1, "s"), (60, "min"), (3600, "h"))
    seconds, name = next((unit for unit in units if speed * unit[0] >= 1), units[-1])
    number = speed * seconds
    return f"{number:,.0f} cases/{name}" if number >= 100 else f"{number:.3g} cases/{name}"


def trouble(tally: Tally) -> str:
    """Return refused and failed cases and deaths for the progress bar; empty if none."""
    counts = (
        (tally.refused, "refused"),
        (tally.failed, "failed"),
        (tally.deaths, "dead workers replaced"),
    )
    return ", ".join(f"{count:,} {name}" for count, name in counts if count)


def tally_line(tally: Tally, folder: str, size: int, warnings: Sequence[str]) -> str:
    """Return what became of a study and how to read it."""
    done = tally.finished - tally.refused - tally.failed
    lines = [f"{done:,} of {tally.cases:,} cases done, {size_text(size)} in {folder}"]
    lines += [f"warning: {warning}" for warning in warnings]
    if tally.refused:
        reason = tally.reasons.get("refused")
        lines.append(
            f"{tally.refused:,} refused, their inputs have no answer"
            + (f"; the first: {reason}" if reason else " (column reason)")
        )
    if tally.deaths:
        plural = "worker" if tally.deaths == 1 else "workers"
        lines.append(f"{tally.deaths} {plural} died and the cases in flight were computed again")
    lines.append(f"read them: afdplan sweep --summary {folder}")
    return "\n".join(lines)


def render_forecast(study: Study, cost: Forecast | None, workers: int) -> RenderableType:
    """Return what a dry run tells."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    sizes = " x ".join(f"{'+'.join(a.names)} {a.size:,}" for a in study.axes) or "one case"
    table.add_row("Computes", f"{study.compute}, time in {_unit(study.time_unit)}")
    table.add_row("Cases", f"{study.cases:,} = {sizes}")
    if cost is None:
        table.add_row("Time", UNKNOWN)
    else:
        table.add_row("Per case", f"{time(cost.seconds_per_case, 's')} on one core")
        table.add_row("Time", f"about {duration(cost.seconds)} on {_workers(workers)}")
        table.add_row("Results", f"about {size_text(cost.size)}")
    parts: list[RenderableType] = [f"[bold]{escape(study.name)}[/]: checked, nothing run", table]
    parts += [f"[yellow]warning:[/] {escape(warning)}" for warning in study.warnings]
    return Group(*parts)


def summary_answer(summary: StudySummary) -> dict[str, Any]:
    """Return the names that ``afdplan sweep --summary --json`` promises."""
    return {
        "name": summary.name,
        "compute": summary.compute,
        "measure": summary.measure,
        "cases": summary.cases,
        "done": summary.done,
        "refused": summary.refused,
        "failed": summary.failed,
        "missing": summary.cases - summary.done - summary.refused - summary.failed,
        "reasons": [
            {"status": status, "reason": reason, "cases": count}
            for status, reason, count in summary.reasons
        ],
        "groups": summary.groups,
        "choices": summary.choices,
        "group_count": summary.group_count,
        "best": summary.best,
        "regrets": summary.regrets,
        "windows": summary.series,
    }


def render_summary(summary: StudySummary) -> RenderableType:
    """Return the results for a terminal: counts, windows, best per group, regrets, warnings."""
    from rich.console import Group
    from rich.markup import escape

    missing = summary.cases - summary.done - summary.refused - summary.failed
    counts = [f"{summary.done:,} of {summary.cases:,} cases done"]
    rest = ((summary.refused, "refused"), (summary.failed, "failed"), (missing, "missing"))
    counts += [f"{count:,} {name}" for count, name in rest if count]
    parts: list[RenderableType] = [f"[bold]{escape(summary.name)}[/]: {', '.join(counts)}"]
    for status, reason, count in summary.reasons[:5]:
        parts.append(f"  {count:,} {status}: {escape(reason)}")
    for one in summary.series:
        parts += ["", *_windows(one)]
    # A study of windows and nothing else is told by its series.
    if summary.best and (summary.choices or not summary.series):
        parts += ["", *_best(summary)]
    if summary.regrets:
        parts += ["", "What it costs to fix one choice, the others chosen best:", _regrets(summary)]
    for warning in summary.warnings:
        parts += ["", f"[yellow]warning:[/] {escape(warning)}"]
    return Group(*parts)


def _windows(series: WindowSeries) -> list[RenderableType]:
    from rich.markup import escape
    from rich.table import Table

    answer, fixed = series.answer, series.answer.best_fixed
    setting = ", ".join(f"{name} {escape(str(value))}" for name, value in series.setting.items())
    low, high = min(answer.adaptive), max(answer.adaptive)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(
        "Adaptive",
        f"{low} to {high} attention workers in {len(answer.windows):,} windows, "
        f"changed {answer.changes:,} times",
    )
    table.add_row(
        "Best fixed",
        f"{fixed.attention_workers} attention workers: {share(fixed.total_regret)} more "
        f"device time than adaptive; at worst {share(fixed.worst_regret)} below the best "
        f"(window {fixed.worst_window})",
    )
    others = [
        c for c in answer.fixed if 0 < abs(c.attention_workers - fixed.attention_workers) <= 2
    ]
    table.add_row(
        "Its neighbours",
        ", ".join(f"{c.attention_workers}: {share(c.total_regret)}" for c in others) or "none",
    )
    verdict = (
        "re-provisioning during the period saves under 1 %: keep one ratio"
        if fixed.total_regret < 0.01
        else f"re-provisioning saves up to {share(fixed.total_regret / (1 + fixed.total_regret))} "
        "of the device time, less what the changes cost"
    )
    title = f"Ratio over time{f' ({setting})' if setting else ''}: {verdict}"
    return [title, table, _sparkline(answer.adaptive)]


def _sparkline(values: Sequence[int]) -> str:
    """Return the adaptive workers over time as one line of blocks, at most 72 wide."""
    blocks, width = "▁▂▃▄▅▆▇█", 72
    step = max(1, -(-len(values) // width))
    means = [
        sum(values[i : i + step]) / len(values[i : i + step]) for i in range(0, len(values), step)
    ]
    low, high = min(means), max(means)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0
    line = "".join(blocks[round((mean - low) * scale)] for mean in means)
    return f"  {low:.3g} {line} {high:.3g}"


def _best(summary: StudySummary) -> list[RenderableType]:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    hidden = ("case", "near_equal_low", "near_equal_high")
    names = [name for name in summary.best[0] if name not in hidden]
    has_span = "near_equal_low" in summary.best[0]
    for name in names:
        numeric = not isinstance(summary.best[0][name], str)
        # One word per line: narrow columns leave room for the names of traces and models.
        title = _SHORT.get(name, name.replace("_", "\n"))
        if name in _RATES:
            title += "\ntok/s" if summary.time_unit == "s" else "\ntok/time"
        table.add_column(
            title, justify="right" if numeric else "left", overflow="fold", vertical="bottom"
        )
    if has_span:
        table.add_column("within\n1 %", justify="right", vertical="bottom")
    for row in summary.best[:TABLE_ROWS]:
        cells = [escape(_cell(name, row[name])) for name in names]
        if has_span:
            cells.append(f"{row['near_equal_low']}-{row['near_equal_high']}")
        table.add_row(*cells)
    by = f" by {', '.join(summary.groups)}" if summary.groups else ""
    parts: list[RenderableType] = [f"Best {summary.measure.replace('_', ' ')}{by}:", table]
    more = summary.group_count - TABLE_ROWS
    if more > 0:
        parts.append(f"  ... and {more:,} more groups (--json has up to 1,000)")
    return parts


def _regrets(summary: StudySummary) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("choice")
    for name in ("mean regret", "worst regret", "groups", "not there"):
        table.add_column(name, justify="right")
    for regret in summary.regrets:
        table.add_row(
            f"{regret.variable} = {escape(_cell(regret.variable, regret.value))}",
            share(regret.mean),
            share(regret.worst),
            f"{regret.groups:,}",
            f"{regret.missing:,}" if regret.missing else "",
        )
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.startswith("gain_"):
        return share(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= TEXT_WIDTH else f"...{text[3 - TEXT_WIDTH :]}"


def _unit(unit: str) -> str:
    return "seconds" if unit == "s" else "abstract units"
