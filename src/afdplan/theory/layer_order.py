"""How long is a step whose layers are of several kinds, in their order, or that ends empty?

The rounds of each kind know neither of the other kinds nor of the ends of a step. What a step
differs by from their sum is small and follows from a few workers: for each kind the worker that is
slowest in it, at a quantile of how slow that is, with its times in the other kinds by regression
and its microbatches as far apart as normal order statistics are. Their schedule is a max-plus
recursion without chance,

    attention  e_j = max(e_j, back_u) + a_ju        transfer out  s = max(s, max_j e_j) + c_out
    FFN        g   = max(g, s) + f                  and back      back_u = b = max(b, g) + c_back

played layer by layer; its step less the same workers' rounds, averaged over the quantiles, is added
to the sum of the rounds. For one kind the step that ends empty is known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from afdplan.arrays import FloatArray

__all__ = ["drained_step", "order_period", "played_step", "slow_workers", "worker_rounds"]

SETTLING_LAYERS = 8
PLAYED_LAYERS = 24
"""After which growth per step is taken as that of the long run, and over how many at least."""
CHUNK = 8192
_SCORES = {
    2: (0.5642,),
    3: (0.8463, 0.0),
    4: (1.0294, 0.2970),
    5: (1.1630, 0.4950, 0.0),
    6: (1.2672, 0.6418, 0.2015),
    7: (1.3522, 0.7574, 0.3527, 0.0),
    8: (1.4236, 0.8522, 0.4728, 0.1525),
}
"""Means of the order statistics of m standard normals, the upper half (Teichroew 1956)."""


def order_scores(microbatches: int) -> FloatArray:
    """Return by how many standard deviations m microbatches differ from their mean, falling.

    Examples
    --------
    >>> order_scores(3).tolist()
    [0.8463, 0.0, -0.8463]
    """
    if microbatches == 1:
        return np.zeros(1)
    upper = np.array(_SCORES[microbatches])
    lower = -upper[::-1] if microbatches % 2 == 0 else -upper[-2::-1]
    return np.concatenate([upper, lower + 0.0])


def slow_workers(
    slowest: Sequence[FloatArray],
    means: Sequence[float],
    stds: Sequence[float],
    correlations: FloatArray,
    *,
    attention_workers: FloatArray,
    microbatches: int,
) -> FloatArray:
    """Return attention times of the worker that is slowest in each kind of layers.

    Parameters
    ----------
    slowest
        Of each kind, the sum over microbatches of its slowest worker, shape (levels, n) [time].
    means, stds
        Of each kind, of one worker's time on one microbatch [time].
    correlations
        Of a worker's loads in the kinds, shape (kinds, kinds).
    attention_workers
        A, shape (n,); one worker is the slowest of all kinds.
    microbatches
        m.

    Returns
    -------
    ndarray
        Shape (kinds, m, workers, levels, n) [time].
    """
    kinds, m = len(slowest), microbatches
    times = np.empty((kinds, m, kinds, *slowest[0].shape))
    scores = order_scores(m)[:, None, None]
    for k, own in enumerate(slowest):
        for w in range(kinds):
            shared = np.where(attention_workers < 2, 1.0, correlations[w, k])
            total = np.minimum(own, m * means[k] + shared * (own - m * means[k]))
            times[k, :, w] = np.maximum(total / m + scores * (shared * stds[k]), 0.0)
    return times


def worker_rounds(attention: FloatArray, floor: FloatArray, trip: FloatArray) -> FloatArray:
    """Return the rounds of the workers of `slow_workers`, each kind for itself [time].

    Parameters
    ----------
    attention
        Shape (kinds, m, workers, levels, n) [time].
    floor, trip
        ``m max(f, c_stage)`` and ``f + c_out + c_back``, shape (n,) [time].

    Returns
    -------
    ndarray
        Shape (kinds, levels, n) [time].
    """
    sums, longest = attention.sum(axis=1).max(axis=1), attention.max(axis=(1, 2))
    rounds: FloatArray = np.maximum(np.maximum(sums, floor), longest + trip)
    return rounds


def order_period(order: Sequence[int]) -> tuple[int, ...]:
    """Return the shortest part of an order whose whole repetitions are that order.

    Examples
    --------
    >>> order_period((0, 1, 0, 1)), order_period((0, 1, 0))
    ((0, 1), (0, 1, 0))
    """
    layers = len(order)
    return next(
        tuple(order[:n])
        for n in range(1, layers + 1)
        if layers % n == 0 and tuple(order) == tuple(order[:n]) * (layers // n)
    )


def played_step(
    attention: FloatArray,
    order: Sequence[int],
    ffn: FloatArray,
    out: FloatArray,
    back: FloatArray,
    *,
    is_drained: bool,
    delays: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """Return how long a step of constant times is, its layers in their order [time].

    Parameters
    ----------
    attention
        Of the workers, shape (kinds, m, workers, levels, n) [time].
    order
        Kind of each layer, shape (L,).
    ffn, out, back
        f, c_out, c_back, shape (n,) [time].
    is_drained
        Whether a step begins with the pipeline empty; otherwise the long run of steps.
    delays
        What follows attention until the FFN can begin, and back, where it is not the whole
        transfer: a transfer that occupies a worker is part of its time [time].

    Returns
    -------
    ndarray
        Shape (levels, n) [time].

    Notes
    -----
    The long run is what steps grow by after 8 layers, over at least 24 and whole steps. Cost:
    O(layers played * m * workers * levels * n).

    Examples
    --------
    Two layers, attention 4 and 2, FFN 3, two microbatches: empty at first, the FFN begins after 4
    and serves until 7, from 8 to 11, from 11 to 14 and, since it is still busy when the second
    microbatch comes again at 13, until 17.

    >>> times = np.array([4.0, 2.0]).reshape(2, 1, 1, 1, 1).repeat(2, axis=1)
    >>> three, none = np.array([3.0]), np.array([0.0])
    >>> played_step(times, (0, 1), three, none, none, is_drained=True)
    array([[17.]])
    """
    kinds, m, workers = attention.shape[:3]
    shape = attention.shape[3:]
    flat = attention.reshape(kinds, m, workers, -1)
    shared = [np.broadcast_to(x, shape).ravel() for x in (ffn, out, back, *(delays or (out, back)))]
    period = tuple(order) if is_drained else order_period(order)
    steps = [
        _played(
            flat[..., at : at + CHUNK],
            period,
            *(x[at : at + CHUNK] for x in shared),
            is_drained=is_drained,
        )
        for at in range(0, flat.shape[-1], CHUNK)
    ]
    step: FloatArray = np.concatenate(steps).reshape(shape) * (len(order) / len(period))
    return step


def _played(
    attention: FloatArray,
    order: Sequence[int],
    ffn: FloatArray,
    out: FloatArray,
    back: FloatArray,
    out_delay: FloatArray,
    back_delay: FloatArray,
    *,
    is_drained: bool,
) -> FloatArray:
    m, workers, designs = attention.shape[1:]
    settling = 0 if is_drained else math.ceil(SETTLING_LAYERS / len(order))
    counted = 1 if is_drained else math.ceil(PLAYED_LAYERS / len(order))
    ended = np.zeros((workers, designs))
    sent, served, returned = (np.zeros(designs) for _ in range(3))
    ready = np.zeros((m, designs))
    before = returned
    for step in range(settling + counted):
        if step == settling:
            before = returned.copy()
        for kind in order:
            for u in range(m):
                np.maximum(ended, ready[u], out=ended)
                ended += attention[kind, u]
                sent += out
                np.maximum(sent, ended.max(axis=0) + out_delay, out=sent)
                np.maximum(served, sent, out=served)
                served += ffn
                returned += back
                np.maximum(returned, served + back_delay, out=returned)
                ready[u] = returned
    grown: FloatArray = (returned - before) / counted
    return grown


def drained_step(
    total: FloatArray,
    longest: FloatArray,
    first: FloatArray,
    *,
    layers: int,
    microbatches: int,
    busiest: FloatArray,
    trip: FloatArray,
) -> FloatArray:
    """Return how long a step of one kind of layers is that begins and ends empty [time].

    Parameters
    ----------
    total, longest
        Of the slowest worker: its sum over microbatches and its longest microbatch, shape
        (levels, n) [time].
    first
        Slowest worker's time on the first microbatch of a step, same shape [time].
    layers, microbatches
        L, m.
    busiest, trip
        ``max(f, c_stage)`` and ``f + c_out + c_back``, shape (n,) [time].

    Notes
    -----
    The last layer leaves attention, or the first one waits for it, or each makes its trip:

        max( L total + trip,   first + trip + (L m - 1) busiest,
             first + trip + (L - 1) (longest + trip) + (m - 1) max(busiest, total / m) )

    Exact for constant times a = first = longest = total / m, where it is L rounds and
    ``min(T - M, (m - 1) M)`` more, T the trip with its attention and M the slowest stage.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> drained_step(6 * one, 2 * one, 2 * one, layers=10, microbatches=3,
    ...              busiest=np.array([3.0]), trip=np.array([4.0]))
    array([[93.]])
    """
    m, entry = microbatches, first + trip
    serial = (layers - 1) * (longest + trip) + (m - 1) * np.maximum(busiest, total / m)
    shared = np.maximum((layers * m - 1) * busiest, serial)
    step: FloatArray = np.maximum(layers * total + trip, entry + shared)
    return step
