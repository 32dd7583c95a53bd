"""How much shorter is a round than with frozen loads, since not every change is followed?

The frozen round law takes the slowest resource of every round: a worker, or the FFN or link that
no round can beat. The schedule is a longest path through the stages, and such a path can leave
one worker for another only through the FFN. Where two workers tie at a round of t that detour
costs

    s(t) = (1 - 1/m) t - (f + c_out + c_back)

(nothing where this is negative: m <= 2 in balance), and to the FFN and back once as much. So a
change of the slowest is followed only if it lasts, and the mean round is shorter by

    gain = p s e_1 h(z) / L,    z = (s / L) e_1^3 / e_2^2,    h(z) = (1 + 6.34 z^(3/4))^(-4/9)

with p the density of ties, e_1 and e_2 mean size and mean square of what the difference of the
two moves by per step, L the rounds of a step. h is universal: 1 where every tie is followed by a
lasting change (rare large jumps), 0.44 z^(-1/3) where the difference diffuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.lengths.load_motion import LoadMotion

__all__ = ["WorkerMotion", "followed_share", "moving_load_gain", "worker_motion"]

EVENEST = 1e6
DIFFUSIVE = 6.34
"""``0.44^(-9/4)``: h(z) z^(1/3) -> 0.44 was computed from the reduced problem of two resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMotion:
    """What one worker's round moves by, from one step to the next.

    Attributes
    ----------
    jumps
        Mean number of its jumps per step.
    mean_jumps, mean_growth
        Mean total size of its jumps, and of its growth between them, per step [time].
    evenness
        Of its jumps, ``E|J|^2 / Var|J|``: 1 if their sizes are exponential, large if they are
        alike, small if a few are huge.
    mean_square
        Mean square of its change about the common growth, per step [time^2].
    """

    jumps: float
    mean_jumps: float
    mean_growth: float
    evenness: float
    mean_square: float


def worker_motion(
    motion: LoadMotion, slots: int, seconds_per_token: float, tokens_per_step: float
) -> WorkerMotion:
    """Return the motion of one worker's round.

    Parameters
    ----------
    motion
        Of one slot.
    slots
        All slots of a worker, m B.
    seconds_per_token
        Slope of the attention time [time/token]; of a curve, std of time over std of load.
    tokens_per_step
        Output tokens of a request per step.
    """
    rate = min(motion.renewal_rate * tokens_per_step, 1.0)
    drift = rate * motion.mean_jump
    typical = motion.mean_absolute_jump**2
    spread = max(motion.mean_square_jump - typical, typical / EVENEST)
    return WorkerMotion(
        jumps=slots * rate,
        mean_jumps=slots * rate * motion.mean_absolute_jump * seconds_per_token,
        mean_growth=slots * abs(drift) * seconds_per_token,
        evenness=typical / spread if spread else EVENEST,
        mean_square=slots
        * max(rate * motion.mean_square_jump - drift**2, 0.0)
        * seconds_per_token**2,
    )


def followed_share(scale: npt.ArrayLike) -> FloatArray:
    """Return h(z): the cost of ties over the detours that following each of them would take.

    Parameters
    ----------
    scale
        ``z = (s / L) e_1^3 / e_2^2 >= 0``, any shape.

    Notes
    -----
    Two resources, the difference of their rounds a compound Poisson process, s paid per change:
    the long-run gain was computed by dynamic programming for z from 0.0005 to 150 at rates of 0.02
    to 2 jumps per step; this form is within 7 % of it (docs/theory/moving-loads.md).

    Examples
    --------
    >>> followed_share([0.0, 1.0, 1000.0]).round(3)
    array([1.   , 0.412, 0.044])
    """
    z = np.asarray(scale, dtype=np.float64)
    share: FloatArray = (1 + DIFFUSIVE * z**0.75) ** (-4 / 9)
    return share


def moving_load_gain(
    times: FloatArray,
    cumulative: FloatArray,
    motion: WorkerMotion,
    *,
    attention_workers: FloatArray,
    microbatches: int,
    layers: int,
    floor: FloatArray,
    trip: FloatArray,
    ceiling: float = math.inf,
) -> FloatArray:
    """Return how much shorter the mean round is than with frozen loads, shape (n,) [time].

    Parameters
    ----------
    times, cumulative
        One worker's round ``sum_u a_u`` [time]: increasing times and the chance that it is at
        most as long; the density is taken as constant between them, shape (points,).
    motion
        How that moves per step.
    attention_workers
        A > 0, shape (n,).
    microbatches, layers
        m, and L, the rounds of a step.
    floor
        Least time of a round, ``m max(f, c_stage)``, shape (n,) [time].
    trip
        ``f + c_out + c_back``, shape (n,) [time].
    ceiling
        Largest possible round of a worker, all of its requests beyond a context window [time]:
        workers that tie there are alike, there is nothing to follow.

    Notes
    -----
    Ties of two workers above the floor have the density
    ``p = A (A - 1) / 2 Integral g^2 G^(A-2)``, those of the slowest with the floor
    ``p = A g G^(A-1)``; g and G are density and cdf of one worker's round. Gaps have a typical
    size: a jump J changes places with a chance of ``1 - exp(-p |J|)``, not p |J|, on average
    ``1 - (1 + p E|J| / k)^-k`` with |J| taken as gamma distributed, k its evenness. Left out: ties
    of three, and the fourth term of the round (the trip of one microbatch), where nothing is lost.
    """
    if microbatches < 2 or times.size < 3 or motion.mean_square <= 0:
        return np.zeros_like(floor)
    widths = np.diff(times)
    density = np.diff(cumulative) / widths
    times, cumulative = (times[1:] + times[:-1]) / 2, (cumulative[1:] + cumulative[:-1]) / 2
    kept = 1 - 1 / microbatches
    workers, least, away = (x[:, None] for x in (attention_workers, floor, trip))

    pairs = np.maximum(workers * (workers - 1) / 2, 0.0)
    others = np.maximum(workers - 2, 0.0)
    ties = pairs * cumulative**others * density**2 * widths * (times > least)
    ties *= times + 1.5 * widths < ceiling
    among_workers = _cost(
        ties,
        kept * times - away,
        jump=motion.mean_jumps / motion.jumps,
        evenness=motion.evenness,
        size=2 * motion.mean_jumps,
        square=2 * motion.mean_square,
        layers=layers,
    )
    at_floor = np.interp(least, times, density, left=0.0, right=0.0)
    below = np.interp(least, times, cumulative, left=0.0, right=1.0)
    with_floor = _cost(
        workers * at_floor * below ** np.maximum(workers - 1, 0.0),
        (kept * least - away) / 2,
        jump=motion.mean_jumps / motion.jumps,
        evenness=motion.evenness,
        size=motion.mean_jumps + motion.mean_growth,
        square=motion.mean_square,
        layers=layers,
    )
    gain: FloatArray = (among_workers + with_floor) / layers
    return gain


def _cost(
    ties: FloatArray,
    detour: FloatArray,
    *,
    jump: float,
    evenness: float,
    size: float,
    square: float,
    layers: int,
) -> FloatArray:
    """Return what the ties of one kind cost per step, shape (n,) [time].

    `ties` is their density by place, `detour` what each costs, shape (n, k); `jump` and `evenness`
    tell one jump, `size` and `square` what the difference moves by per step.
    """
    detour = np.maximum(detour, 0.0)
    # Few jumps add up their sizes, many their squares.
    scale = math.sqrt(square)
    moved = 1 / math.sqrt(size**-2 + math.pi / (2 * square))
    followed = followed_share(detour / layers * ((moved / scale) ** 3 / scale))
    # A jump over more than the typical gap still changes places once, and a step does so once.
    density = np.maximum(ties.sum(axis=1), 1e-300)
    single = -np.expm1(-evenness * np.log1p(density * jump / evenness)) / (density * jump)
    changes = np.minimum(density * moved * single, 1.0)
    cost: FloatArray = (ties * detour * followed).sum(axis=1) * (changes / density)
    return cost
