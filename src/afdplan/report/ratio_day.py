"""How is the ratio over the day told, in words, tables, pictures and JSON?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.plotting.figure import Axis, Figure, layer, single
from afdplan.report.page import Section
from afdplan.report.quantities import counted, interval, number, sentence, share
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact

if TYPE_CHECKING:
    from afdplan.planning.ratio_day import RatioDay

__all__ = ["day_answer", "day_fact", "day_figure", "day_section", "day_table"]


def day_fact(day: RatioDay) -> Fact:
    """Return what one fixed ratio costs, in one sentence."""
    lows = [window.optimal_attention_workers for window in day.windows]
    fixed = day.fixed_attention_workers
    if min(lows) == max(lows) == fixed:
        where = f"all of {len(lows):,} windows" if len(lows) > 1 else "the only window"
        words = f"A = {fixed:,} is the best in {where}"
    else:
        words = (
            f"the best A goes from {min(lows):,} to {max(lows):,} over "
            f"{counted(len(day.windows), 'window')}; staying at {fixed:,} costs "
            f"{share(day.cost_of_fixed)} more than following, the best fixed A, "
            f"{day.best_fixed_attention_workers:,}, {share(day.cost_of_best_fixed)}"
        )
    if day.left_out:
        words += f"; {counted(day.left_out, 'window')} with too few requests left out"
    return Fact("Over the clock", words)


def day_table(day: RatioDay) -> TextTable:
    """Return the best ratio of every window, and what a fixed one gives up there."""
    fixed = {day.fixed_attention_workers, day.best_fixed_attention_workers}
    return TextTable(
        title="The ratio over the clock",
        columns=(
            *("from", "requests", "per s", "mean token load (interval)", "best A", "A (interval)"),
            f"given up at A = {day.fixed_attention_workers:,}",
            *(f"at A = {best:,}" for best in fixed - {day.fixed_attention_workers}),
        ),
        rows=[
            (
                window.start,
                f"{window.requests:,}",
                "-" if window.arrival_rate is None else number(window.arrival_rate),
                f"{number(window.token_load.value)} ({interval(window.token_load)})",
                f"{window.optimal_attention_workers:,}",
                f"{window.low:,} to {window.high:,}",
                share(max(window.regret_of_fixed, 0.0)),
                *([share(max(window.regret_of_best_fixed, 0.0))] * (len(fixed) - 1)),
            )
            for window in day.windows
        ],
        is_open=True,
    )


def day_figure(day: RatioDay) -> Figure:
    """Return the best A of every window with its interval, and both fixed ones."""
    hours = day.window_duration / 3600
    x = [hours * (window.number + 0.5) for window in day.windows]
    best = [float(window.optimal_attention_workers) for window in day.windows]
    return single(
        "day",
        "The ratio over the clock",
        "Each window with the interval that its requests leave; lines are fixed ratios.",
        x=Axis(label="hours since the first window began"),
        y=Axis(label="attention workers A", from_zero=True),
        layers=[
            layer(
                "rule_y",
                name="whole trace",
                role="neutral",
                y=[float(day.fixed_attention_workers)],
            ),
            layer(
                "rule_y",
                name="best fixed",
                role="best",
                y=[float(day.best_fixed_attention_workers)],
            ),
            layer(
                "interval",
                name="window, interval",
                x=x,
                low=[float(window.low) for window in day.windows],
                high=[float(window.high) for window in day.windows],
            ),
            layer(
                "dot",
                name="window, best A",
                x=x,
                y=best,
                words=[
                    f"{window.start}: A = {window.optimal_attention_workers:,}, "
                    f"{counted(window.requests, 'request')}"
                    for window in day.windows
                ],
            ),
        ],
    )


def day_section(day: RatioDay) -> Section:
    """Return the part of a page that shows it."""
    return Section(
        title="How does it move over the clock?",
        words=(sentence(day_fact(day).value),),
        figures=(day_figure(day),),
        tables=(day_table(day),),
    )


def day_answer(day: RatioDay) -> dict[str, Any]:
    """Return what `ratio --by --json` says under ``day``."""
    return {
        **chosen(day, "window_duration left_out"),
        "fixed": {
            "attention_workers": day.fixed_attention_workers,
            "extra_cost": day.cost_of_fixed,
        },
        "best_fixed": {
            "attention_workers": day.best_fixed_attention_workers,
            "extra_cost": day.cost_of_best_fixed,
        },
        "windows": [
            {
                **chosen(window, "start number requests arrival_rate"),
                "token_load": chosen(window.token_load, "value low high"),
                **chosen(
                    window,
                    "optimal_attention_workers low high objective regret_of_fixed "
                    "regret_of_best_fixed",
                ),
            }
            for window in day.windows
        ],
    }
