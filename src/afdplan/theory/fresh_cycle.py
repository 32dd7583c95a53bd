"""How long is a stage of two stations whose times are drawn afresh, m microbatches in flight?

Of an FFN and one attention worker with independent times, ``xi = f - a`` of mean d and deviation x,
the schedule is exactly, for m = 2 and a way ``2 C = c`` that both directions share,

    w' = clip(-w, -C, C) + xi,        E[tau] = E[a] + E[(w + C)^+]

with w how far the FFN is late. Each stage takes turns with the other; what m > 2 adds is a buffer:
with ``2 C = trip - a - f - (m - 2) tau`` negative, lateness no longer changes sides but is kept,

    w' = clip(w, C, -C) + xi

a walk between two walls. The law of w is taken as normal, its two moments in balance; the walk as
Brownian, its walls 0.63 x farther out as those of a walk with jumps are, which is also what a
single maximum, C = 0, asks for.
"""

from __future__ import annotations

import math

import numpy as np

from afdplan.arrays import FloatArray

__all__ = ["behind_link", "fresh_stage"]

TURNS = 14
"""Steps to the balance of w, each half-way: the mean stage stands still to 1e-4."""
JUMP = math.sqrt(math.pi / 2)
"""Both walls of a walk with jumps are farther out, by so many deviations of a jump."""
UNHIDDEN = 0.65
"""Share of a round's fresh variance that a busy link feels; what is in flight hides the rest."""
STATIONS = 4
"""Microbatches from which a busy link is a station of its own."""
TINY, NEAR = 1e-9, 1e-4
"""Deviation that counts as none, and distance of walls at which a walk counts as even."""


def fresh_stage(
    attention: FloatArray,
    ffn: FloatArray,
    trip: FloatArray,
    std: FloatArray,
    microbatches: int,
    uneven: FloatArray | float = 0.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return E[tau] of m microbatches between two stations, and whose jobs it waits for.

    Shapes broadcast. Of a long schedule the critical path holds a share of attention's jobs, and of
    the FFN's: together all where one of them is always busy, 2 / m where trips bind.

    Parameters
    ----------
    attention, ffn
        Mean times of the stations.
    trip
        Mean of what one microbatch takes for a layer, both times and the ways, at least their sum.
    std
        Deviation of the difference of both times.
    microbatches
        m >= 1.
    uneven
        How much longer the longest of the m attention times is than their mean, part of `trip`.

    Examples
    --------
    Nothing scatters, then a maximum of two, then 40 of way between:

    >>> a, f, x = np.array([200.0]), np.array([200.0]), np.array([60.0])
    >>> for way, std in ((0, 0 * x), (0, x), (40, x)):
    ...     print(fresh_stage(a, f, a + f + way, std, 2)[0].round(1))
    [200.]
    [223.9]
    [236.3]
    """
    m = microbatches
    if m == 1:
        return trip, np.ones_like(trip), np.ones_like(trip)
    still = np.maximum(np.maximum(attention, ffn), trip / m)
    way = (trip - attention - ffn - (m - 2) * still) / 2
    x = np.maximum(std, TINY * still)
    drift = ffn - attention
    pushed, ffn_share = _kept(drift, x, np.maximum(-way, 0.0))
    found, attention_share = attention + pushed, 1 - ffn_share
    swing = np.broadcast_to(uneven if m == 2 else 0.0, found.shape)
    apart = swing <= 2 * way
    way, swing = np.where(apart, way - swing / 2, way), np.where(apart, swing, 0.0)
    turns = way >= 0
    if turns.any():
        a, d, s, c, e = (
            np.broadcast_to(v, found.shape)[turns] for v in (attention, drift, x, way, swing)
        )
        pushed, late, early = _in_turn(d, s, c, e)
        found[turns] = a + pushed
        ffn_share[turns] = late + (1 - late - early) / m
        attention_share[turns] = early + (1 - late - early) / m
    found = np.where(std > TINY * still, np.maximum(found, still), still)
    return found, attention_share, ffn_share


def behind_link(
    stage: FloatArray, link: FloatArray, trip: FloatArray, variance: FloatArray, microbatches: int
) -> FloatArray:
    """Return the mean time of a microbatch that a link, which never scatters, may hold up [time].

    Of four microbatches and more the link is a station before the others. Fewer are bound by
    their trips, of which the link is a part: then what is in flight hides some of the scatter.

    Parameters
    ----------
    stage, variance
        Mean of m microbatches without the link, per microbatch, and what is drawn afresh in it.
    link
        Time of a microbatch in the slower direction.
    trip
        As of `fresh_stage`.
    microbatches
        m >= 1; shapes of the others broadcast.

    Examples
    --------
    >>> stage, link, trip, variance = (np.array([x]) for x in (10.0, 10.0, 25.0, 4.0))
    >>> [float(behind_link(stage, link, trip, variance, m)[0].round(2)) for m in (1, 3, 4)]
    [10.0, 10.37, 10.11]
    """
    m = microbatches
    if m == 1:
        return stage
    if m >= STATIONS:
        link = np.broadcast_to(link, stage.shape)
        return fresh_stage(link, stage, np.maximum(trip, link + stage), np.sqrt(variance), m)[0]
    deviation = np.maximum(np.sqrt(UNHIDDEN / m * np.maximum(variance, 0.0)), TINY * stage)
    return link + _over(stage - link, np.maximum(deviation, 1e-300))[0]


def _kept(drift: FloatArray, x: FloatArray, wall: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how much the upper wall of a walk in [-wall, wall] pushes in a step, and q."""
    between = 2 * wall + JUMP * x
    apart = np.clip(2 * drift * between / x**2, -500, 500)
    apart = np.where(np.abs(apart) < NEAR, NEAR, apart)
    chance = 1 / -np.expm1(-apart)
    return apart * chance * x**2 / (2 * between), chance - apart * chance * (chance - 1)


def _in_turn(
    drift: FloatArray, x: FloatArray, way: FloatArray, swing: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return E[(w + C)^+] where lateness changes sides, P(w > C) and P(w < -C).

    Attention is long and short in turn.
    """
    from scipy import special

    drifts = np.stack([drift - swing, drift + swing])
    mean = np.broadcast_to(drift / 2, drifts.shape)
    variance = np.broadcast_to(x**2 + np.minimum(way**2 / 3, 2 * x**2), drifts.shape)
    for _ in range(TURNS):
        deviation = np.sqrt(variance)
        above, above_square = _over(mean - way, deviation)
        below, below_square = _over(-mean - way, deviation)
        clipped = above - below - mean
        square = mean**2 + variance - above_square - below_square - 2 * way * (above + below)
        left = np.maximum(square - clipped**2, 0.0)[::-1] + x**2
        mean, variance = (mean + clipped[::-1] + drifts) / 2, (variance + left) / 2
    deviation = np.sqrt(variance)
    late, early = (special.ndtr((side - way) / deviation) for side in (mean, -mean))
    pushed = _over(mean + way, deviation)[0]
    return pushed.mean(axis=0), late.mean(axis=0), early.mean(axis=0)


def _over(mean: FloatArray, deviation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``E[Z^+]`` and ``E[(Z^+)^2]`` of normal Z."""
    from scipy import special

    t = mean / deviation
    chance, density = special.ndtr(t), np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    first = deviation * (t * chance + density)
    return first, deviation**2 * ((t * t + 1) * chance + t * density)
