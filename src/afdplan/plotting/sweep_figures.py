"""What is drawn of a study's results: the ratio over time, or the regret of every choice?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from afdplan.errors import InsufficientDataError
from afdplan.plotting.figure import Axis, Figure, Layer, Role, layer, single
from afdplan.studies.summary import ChoiceRegret, StudySummary, WindowSeries

__all__ = ["study_figures"]

ROLES: tuple[Role, ...] = ("main", "second", "third", "latency", "best", "neutral")
"""Of settings: more of them no eye tells apart."""
MOST_CHOICES = 4


def study_figures(summary: StudySummary) -> tuple[Figure, ...]:
    """Return the ratio over time if windows vary, else the regret of every value of each choice.

    Raises
    ------
    InsufficientDataError
        If the results vary neither windows nor a choice.
    """
    if summary.series:
        return _windows(summary.series[: len(ROLES)])
    names = list(dict.fromkeys(regret.variable for regret in summary.regrets))
    if not names:
        raise InsufficientDataError(
            "there is nothing to draw: the results vary neither windows nor a choice with 2 to 50 "
            "values"
        )
    return tuple(
        _choice(name, [regret for regret in summary.regrets if regret.variable == name])
        for name in names[:MOST_CHOICES]
    )


def _windows(series: Sequence[WindowSeries]) -> tuple[Figure, ...]:
    """Return A of every window beside the best fixed A, and what the fixed one loses."""
    ratios, losses = [], []
    known = [all(start is not None for start in one.answer.starts) for one in series]
    for role, one in zip(ROLES, series, strict=False):
        answer, fixed = one.answer, one.answer.best_fixed
        label = ", ".join(f"{n.replace('_', ' ')} {value}" for n, value in one.setting.items())
        starts = [s / 3600 for s in answer.starts if s is not None] if all(known) else []
        times = _edges(starts or [float(window) for window in answer.windows])
        fixed_role: Role = "second" if len(series) == 1 else role
        ratios += [
            Layer(
                kind="line",
                name=label or "best of each window",
                role=role,
                columns=_steps(times, answer.adaptive),
            ),
            layer(
                "rule_y",
                name=f"best fixed: {fixed.attention_workers}, "
                f"{100 * fixed.total_regret:.1f} % more device time",
                role=fixed_role,
                y=[fixed.attention_workers],
            ),
        ]
        losses.append(
            Layer(
                kind="line",
                name=label,
                role=fixed_role,
                columns=_steps(times, [100 * regret for regret in answer.regrets]),
            )
        )
    x = Axis(label="time since the first arrival [h]" if all(known) else "window")
    return (
        single(
            "ratio-over-time",
            "The best ratio over time",
            "The best A of each window, and the one A that is best for all of them.",
            x=x,
            y=Axis(label="attention workers A", from_zero=True),
            layers=ratios,
        ),
        single(
            "fixed-loss",
            "What the best fixed ratio loses",
            "By window, against the best A of that window.",
            x=x,
            y=Axis(label="loss of the best fixed A [%]", from_zero=True),
            layers=losses,
            height=220,
        ),
    )


def _edges(times: Sequence[float]) -> list[float]:
    """Return the starts of windows and the end of the last one."""
    width = times[-1] - times[-2] if len(times) > 1 else 1.0
    return [*times, times[-1] + width]


def _steps(edges: Sequence[float], values: Sequence[float]) -> dict[str, list[float]]:
    """Return a line that keeps each value from one edge to the next."""
    return {
        "x": [edge for pair in pairwise(edges) for edge in pair],
        "y": [value for value in values for _ in range(2)],
    }


def _choice(name: str, regrets: Sequence[ChoiceRegret]) -> Figure:
    values = _named([regret.value for regret in regrets])
    mean, worst = ([100 * getattr(r, side) for r in regrets] for side in ("mean", "worst"))
    # Values may be names or paths, up to 50 of them: beside their bars they have room everywhere.
    return single(
        f"regret-{name}".replace("_", "-"),
        f"What a fixed choice of {name.replace('_', ' ')} costs",
        "Regret against the best value of each group of cases.",
        x=Axis(label="regret [%]", limits=(0.0, max(1.0, 1.15 * max(worst)))),
        y=Axis(label="", scale="category", limits=values),
        layers=[
            layer(
                "rect",
                name="mean regret",
                y=values,
                x1=[0.0] * len(mean),
                x2=mean,
                words=[f"{v}: {m:.1f} % on average" for v, m in zip(values, mean, strict=True)],
            ),
            layer(
                "dot",
                name="worst group",
                role="best",
                x=worst,
                y=values,
                words=[f"{v}: {w:.1f} % at worst" for v, w in zip(values, worst, strict=True)],
            ),
        ],
        height=90 + 26 * len(values),
    )


def _named(values: Sequence[object]) -> tuple[str, ...]:
    """Return the values in words: numbers with as few digits as tell them apart, at least three.

    Examples
    --------
    >>> _named([0.528028644817, 1.106, 2])
    ('0.528', '1.11', '2')
    >>> _named([0.52801, 0.52802])
    ('0.52801', '0.52802')
    """
    for digits in range(3, 17):
        names = [f"{v:.{digits}g}" if isinstance(v, float) else str(v) for v in values]
        if len(set(names)) == len(names):
            break
    return tuple(names)
