"""What is drawn of a study's results, and how?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afdplan.errors import InsufficientDataError
from afdplan.studies.summary import StudySummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ChoiceData", "WindowData", "choice_data", "draw_sweep", "window_data"]

_COLORS = ("#1f5fa8", "#c77700", "#2e7d32", "#7b3fa0", "#5f6368", "#a8481f")
_MOST_CHOICES = 4
_RED = "#b3261e"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowData:
    """The lines of one setting's windows.

    Attributes
    ----------
    label
        The setting; empty if there is one only.
    times
        Where windows are drawn: hours after the start, or their numbers.
    has_hours
        Which of both.
    adaptive
        Best A of each window.
    fixed
        Best fixed A.
    regrets
        What it gives up in each window [%].
    total_regret
        Its extra cost over the whole period [%].
    """

    label: str
    times: tuple[float, ...]
    has_hours: bool
    adaptive: tuple[int, ...]
    fixed: int
    regrets: tuple[float, ...]
    total_regret: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceData:
    """The bars of one choice: mean and worst regret [%] of every value."""

    variable: str
    values: tuple[str, ...]
    mean: tuple[float, ...]
    worst: tuple[float, ...]


def window_data(summary: StudySummary) -> tuple[WindowData, ...]:
    """Return what the figure of windows shows, one entry per setting."""
    found = []
    for one in summary.series:
        answer = one.answer
        starts = [start for start in answer.starts if start is not None]
        has_hours = len(starts) == len(answer.windows)
        found.append(
            WindowData(
                label=", ".join(f"{name} {value}" for name, value in one.setting.items()),
                times=tuple(s / 3600 for s in starts) if has_hours else answer.windows,
                has_hours=has_hours,
                adaptive=answer.adaptive,
                fixed=answer.best_fixed.attention_workers,
                regrets=tuple(100 * regret for regret in answer.regrets),
                total_regret=100 * answer.best_fixed.total_regret,
            )
        )
    return tuple(found)


def choice_data(summary: StudySummary) -> tuple[ChoiceData, ...]:
    """Return what the figure of choices shows, one entry per varied choice."""
    names = list(dict.fromkeys(regret.variable for regret in summary.regrets))
    found = []
    for name in names[:_MOST_CHOICES]:
        regrets = [regret for regret in summary.regrets if regret.variable == name]
        found.append(
            ChoiceData(
                variable=name,
                values=tuple(str(regret.value) for regret in regrets),
                mean=tuple(100 * regret.mean for regret in regrets),
                worst=tuple(100 * regret.worst for regret in regrets),
            )
        )
    return tuple(found)


def draw_sweep(summary: StudySummary) -> Figure:
    """Return the figure: the ratio over time if windows vary, else the regret of every choice.

    Raises
    ------
    InsufficientDataError
        If the results vary neither windows nor a choice.
    """
    from matplotlib.figure import Figure

    windows = window_data(summary)
    if windows:
        figure = Figure(figsize=(8.0, 5.5), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _draw_windows(upper, lower, windows[: len(_COLORS)], summary.name)
        return figure
    choices = choice_data(summary)
    if not choices:
        raise InsufficientDataError(
            "there is nothing to draw: the results vary neither windows nor a choice with 2 to 50 "
            "values"
        )
    figure = Figure(figsize=(7.5, 1.0 + 2.2 * len(choices)), layout="constrained")
    for axes, data in zip(
        figure.subplots(len(choices), 1, squeeze=False)[:, 0], choices, strict=True
    ):
        _draw_choice(axes, data, is_first=data is choices[0])
    figure.suptitle(f"{summary.name}: what a fixed choice costs", x=0.01, ha="left", fontsize=11)
    return figure


def _draw_windows(upper: Axes, lower: Axes, windows: tuple[WindowData, ...], name: str) -> None:
    single = len(windows) == 1
    for color, data in zip(_COLORS, windows, strict=False):
        times = _edges(data.times)
        upper.step(
            times,
            [*data.adaptive, data.adaptive[-1]],
            where="post",
            color=color,
            label=data.label or "best of each window",
        )
        upper.axhline(
            data.fixed,
            color=_RED if single else color,
            linestyle="--",
            linewidth=1.2,
            label=f"best fixed: {data.fixed}, {data.total_regret:.1f} % more device time",
        )
        lower.step(times, [*data.regrets, data.regrets[-1]], where="post",
                   color=_RED if single else color)  # fmt: skip
    largest = max(max(data.adaptive) for data in windows)
    upper.set_ylim(0, 1.25 * largest)
    upper.set_ylabel("attention workers A")
    upper.set_title(f"{name}: the ratio over time", loc="left", fontsize=11)
    upper.legend(loc="lower left", frameon=False, fontsize=9)
    lower.set_ylim(bottom=0)
    lower.set_ylabel("best fixed A\nloses [%]")
    hours = windows[0].has_hours
    lower.set_xlabel("time since the first arrival [h]" if hours else "window")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)


def _edges(times: tuple[float, ...]) -> list[float]:
    """Return the starts of windows and the end of the last one."""
    width = times[-1] - times[-2] if len(times) > 1 else 1.0
    return [*times, times[-1] + width]


def _draw_choice(axes: Axes, data: ChoiceData, is_first: bool) -> None:
    places: Any = range(len(data.values))
    axes.bar(places, data.mean, width=0.6, color=_COLORS[0], label="mean regret")
    axes.plot(places, data.worst, "o", color=_RED, markersize=5, label="worst group")
    axes.set_xticks(places, data.values, rotation=0 if len(data.values) <= 10 else 90)
    axes.set_xlabel(data.variable.replace("_", " "))
    axes.set_ylabel("regret [%]")
    axes.set_ylim(0, max(1.0, 1.15 * max(data.worst)))
    if is_first:
        axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
