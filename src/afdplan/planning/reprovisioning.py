"""Should the ratio follow the traffic, or is one fixed ratio nearly as good?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from afdplan.errors import InsufficientDataError

__all__ = ["FixedChoice", "Reprovisioning", "WindowCurve", "compare_fixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCurve:
    """What every number of attention workers yields in one window.

    Attributes
    ----------
    number
        Of the window, in the order of time.
    start
        Seconds after the first arrival; None if unknown.
    output_tokens
        Tokens that the window's requests produce, W.
    objective
        Output tokens per time and cost, X(A), by attention workers A.
    """

    number: int
    start: float | None
    output_tokens: float
    objective: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedChoice:
    """One number of attention workers kept for the whole period.

    Attributes
    ----------
    attention_workers
        A.
    total_regret
        Extra cost over the adaptive choice, as a fraction of the adaptive cost, >= 0.
    worst_regret
        Largest share of a window's best objective that is given up.
    worst_window
        Where that happens.
    """

    attention_workers: int
    total_regret: float
    worst_regret: float
    worst_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprovisioning:
    """A fixed ratio against one that follows the traffic.

    Attributes
    ----------
    windows
        Numbers of the windows.
    starts
        When they start [s]; None where unknown.
    adaptive
        Best A of each window.
    regrets
        What the best fixed A gives up in each window.
    best_fixed
        The choice of minimum total regret.
    fixed
        Every choice common to all windows, in increasing A.
    changes
        How often the adaptive A differs from that of the window before.
    at_limit
        Whether the best fixed A is the largest common one: then more should be considered.
    """

    windows: tuple[int, ...]
    starts: tuple[float | None, ...]
    adaptive: tuple[int, ...]
    regrets: tuple[float, ...]
    best_fixed: FixedChoice
    fixed: tuple[FixedChoice, ...]
    changes: int
    at_limit: bool


def compare_fixed(windows: Sequence[WindowCurve]) -> Reprovisioning:
    """Return the best fixed number of attention workers and what following the traffic saves.

    To produce W tokens at the objective X (tokens per time and cost) takes the cost-time W / X.
    So a fixed A costs ``C(A) = sum_w W_w / X_w(A)`` over all windows, the adaptive choice
    ``C* = sum_w W_w / max_A X_w(A)``, and the total regret of A is ``C(A) / C* - 1``: the extra
    device-hours of not re-provisioning.

    Parameters
    ----------
    windows
        In the order of time; at least one.

    Raises
    ------
    InsufficientDataError
        If there is no window, or no A was evaluated in all of them.

    Notes
    -----
    Both keep the devices busy: how many bundles an hour needs is another question. What a change
    of the ratio itself costs (draining, moving weights) is not counted; it has to be less than
    the saving.

    Examples
    --------
    >>> night = WindowCurve(number=0, start=0.0, output_tokens=1, objective={1: 2.0, 2: 1.0})
    >>> day = WindowCurve(number=1, start=1.0, output_tokens=3, objective={1: 1.0, 2: 2.0})
    >>> answer = compare_fixed([night, day])
    >>> answer.adaptive, answer.best_fixed.attention_workers, answer.best_fixed.total_regret
    ((1, 2), 2, 0.25)
    """
    if not windows:
        raise InsufficientDataError("no window is done: run the study first")
    common = sorted(set.intersection(*(set(window.objective) for window in windows)))
    if not common:
        raise InsufficientDataError(
            "the windows have no number of attention workers in common: "
            "set max_attention_workers in the study"
        )
    work = np.array([window.output_tokens for window in windows], dtype=np.float64)
    curves = np.array([[w.objective[a] for a in common] for w in windows])
    best = np.array([max(window.objective.values()) for window in windows])
    # The smallest of equals, as in the ratio command.
    adaptive = [min(a for a, x in w.objective.items() if x == max(w.objective.values()))
                for w in windows]  # fmt: skip
    needed = float((work / best).sum())
    extra = (work[:, None] / curves).sum(axis=0) / needed - 1
    regrets = 1 - curves / best[:, None]
    fixed = tuple(
        FixedChoice(
            attention_workers=workers,
            total_regret=max(float(extra[i]), 0.0),
            worst_regret=float(regrets[:, i].max()),
            worst_window=windows[int(regrets[:, i].argmax())].number,
        )
        for i, workers in enumerate(common)
    )
    chosen = int(np.argmin(extra))
    return Reprovisioning(
        windows=tuple(window.number for window in windows),
        starts=tuple(window.start for window in windows),
        adaptive=tuple(adaptive),
        regrets=tuple(float(r) for r in regrets[:, chosen]),
        best_fixed=fixed[chosen],
        fixed=fixed,
        changes=sum(a != b for a, b in pairwise(adaptive)),
        at_limit=len(common) > 1 and chosen == len(common) - 1,
    )
