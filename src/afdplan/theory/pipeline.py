"""How long is one round of m pipelined microbatches, as a law, for all ratios at once?

With frozen loads, ``a_ju`` the attention time of worker j on microbatch u, ``f`` the FFN time,
``c = c_out + c_back`` and ``c_stage = max(c_out, c_back)``, one round of all m microbatches takes

    round = max( max_j sum_u a_ju,  m f,  m c_stage,  max_ju a_ju + f + c )

(the exact max-plus period for m <= 2, a tight lower bound for m >= 3). Workers are independent
and alike, so for ``t >= m max(f, c_stage)``

    P(round <= t) = P( sum_u a_u <= t  and  max_u a_u <= t - f - c )^A

Only the joint law of (sum, largest) of m draws of one worker is needed (`JointLaw`): it is
tabulated once, and every ratio reads it along its own diagonal.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.theory.attention_time import TimeLaw, spread
from afdplan.theory.joint_law import JointLaw

__all__ = ["RoundLaw", "RoundLawTable", "resolved"]


GRID_POINTS = 2048
"""Grid points of one worker's time on each level."""
BULK_POINTS = 256
"""Grid points wanted between its 1 % and 50 % quantiles: a heavy tail needs several levels."""
BLOCK = 64
"""Designs evaluated together: bounds the memory."""
NEGLIGIBLE = 1e-12
"""Probability in either tail that goes to the ends of the grid."""
LOG_IMPOSSIBLE = -46.0
"""Logarithm of a probability that no mean feels, 1e-20."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundLaw:
    """Mean and quantiles of the round of n designs.

    Attributes
    ----------
    mean
        E[round], shape (n,) [time].
    quantiles
        Smallest t with ``P(round <= t) >= probability``, shape (n, probabilities) [time]; linear
        between the points of a grid that is coarser than the law's own.
    """

    mean: FloatArray
    quantiles: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Level:
    """The joint law on one grid, for rounds at least `begin` and less than `end` grid points late.

    Late against the least possible round; the last level has no end.
    """

    joint: JointLaw
    spacing: float
    begin: int
    end: int | None


class RoundLawTable:
    """The joint law of (sum, largest) of m attention times of one worker.

    Parameters
    ----------
    law
        Time of one worker on one microbatch.
    microbatches
        m >= 1.

    Notes
    -----
    A law on at most 2,048 grid points is taken as it is. A longer one is put on a grid of so many
    (its mean kept) if 256 of them lie between its 1 % and 50 % quantiles. If not, its tail is long:
    the grid is made fine enough and ends at its 2,048th point, what is later is read from a grid
    twice as coarse, after that from one four times as coarse as this, and so on. On the finest
    grid of all, with every truncation, the mean round would differ by less than 2e-5, its 99th
    percentile by less than 2e-4.

    Examples
    --------
    >>> coin = TimeLaw(lowest=1.0, spacing=1.0, probabilities=np.array([0.5, 0.5]))
    >>> table = RoundLawTable(coin, microbatches=2)
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> table.evaluate(one, longest_delay=zero, floor=zero).mean  # E[a_1 + a_2], one worker
    array([3.])
    """

    def __init__(self, law: TimeLaw, microbatches: int) -> None:
        self.microbatches = microbatches
        finest = resolved(law)
        self._lowest = finest.lowest
        self._levels = _levels(finest, microbatches)
        # Between the points of a coarser grid quantiles are interpolated, atoms are not.
        self._smooth = finest.spacing != law.spacing or len(self._levels) > 1

    def later(self, added: float) -> RoundLawTable:
        """Return the table of a law whose every time is `added` longer; all tables stay shared."""
        other = copy.copy(self)
        other._lowest = self._lowest + added
        return other

    def sum_cumulative(self, points: int) -> tuple[FloatArray, FloatArray]:
        """Return increasing times t and ``P(sum_u a_u <= t)``, about `points` per level [time]."""
        times, cumulative = [], []
        for level in self._levels:
            sums = level.joint.sums
            end = sums.size if level.end is None else level.end
            step = -(-end // points)
            index = np.arange(level.begin, end, step)
            if level.end is None:
                index = np.append(index, end - 1) if index[-1] < end - 1 else index
            # A grid point stands for the half cells on either side.
            times.append((index + 0.5) * level.spacing)
            cumulative.append(sums[index])
        # One level may begin some 1e-7 below where the other ended.
        rising = np.maximum.accumulate(np.concatenate(cumulative))
        return self.microbatches * self._lowest + np.concatenate(times), rising

    def evaluate(
        self,
        attention_workers: FloatArray,
        *,
        longest_delay: FloatArray,
        floor: FloatArray,
        probabilities: tuple[float, ...] = (),
    ) -> RoundLaw:
        """Return mean and quantiles of ``max(floor, sum, largest + longest_delay)``.

        Parameters
        ----------
        attention_workers
            A, real numbers > 0, shape (n,); sum and largest are those of the worst worker.
        longest_delay
            What follows the longest single attention, f + c for a round [time], shape (n,).
        floor
            Least time of the round, m max(f, c_stage) [time], shape (n,).
        probabilities
            For which the quantiles are wanted, each in (0, 1).
        """
        designs = np.stack([attention_workers, longest_delay, floor], axis=1)
        blocks = [
            self._evaluate(designs[at : at + BLOCK], probabilities)
            for at in range(0, len(designs), BLOCK)
        ]
        return RoundLaw(
            mean=np.concatenate([mean for mean, _ in blocks]),
            quantiles=np.concatenate([quantiles for _, quantiles in blocks]),
        )

    def _evaluate(
        self, designs: FloatArray, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        """Integrate 1 - P(round <= t), constant on the half-cells of two interleaved grids.

        At ``t = origin + (i + x) h`` with x in [0, 1), the largest may be grid
        point i, the sum grid point ``floor(i + offset + x)``: two half-cells per i.
        """
        workers, longest_delay, floor = designs.T
        # The m - 1 others take their least at least: a shorter delay of the largest never binds.
        shortest = (self.microbatches - 1) * self._lowest
        shift = np.maximum(longest_delay - shortest, 0.0)
        origin = self._lowest + shortest + shift
        # Where the integral begins and ends: at the floor if nothing ever takes longer.
        starts, ends = np.full(len(designs), np.inf), floor.copy()
        late = np.zeros(len(designs))
        quantiles = np.full((len(designs), len(probabilities)), np.inf)
        for level in self._levels:
            h, joint = level.spacing, level.joint
            offset = shift / h
            whole = np.floor(offset).astype(np.int64)
            # Before `first` the round is impossible or below its floor, after `last` it is over.
            at_floor = np.floor((floor - origin) / h).astype(np.int64)
            # Of many workers the worst is never where a single one may well be.
            low, low_sum = joint.begins(np.exp(LOG_IMPOSSIBLE / workers))
            first = np.maximum(low, low_sum - whole) - 1
            first = np.maximum(np.maximum(first, at_floor - 1), level.begin - 1)
            last = np.maximum(joint.last, joint.last_sum - whole)
            if level.end is not None:
                last = np.minimum(last, level.end - 1)
            rows = np.flatnonzero(first <= last)
            if rows.size == 0:
                continue
            first, last, part = first[rows], last[rows, None], (offset - whole)[rows, None]
            index = first[:, None] + np.arange(int((last[:, 0] - first).max()) + 1)
            cumulative = np.stack(joint.diagonals(np.minimum(index, last), whole[rows]))
            with np.errstate(divide="ignore"):
                np.log(cumulative, out=cumulative)
            cumulative *= workers[rows, None]
            np.exp(cumulative, out=cumulative)
            zero = origin[rows, None]
            least = np.maximum(floor[rows, None], zero + h * level.begin)
            begin = zero + h * index
            edges = np.stack([begin, begin + (1 - part) * h, begin + h])
            np.clip(edges, least, np.maximum(zero + h * (last + 1), least), out=edges)
            late[rows] += (np.diff(edges, axis=0) * (1 - cumulative)).sum(axis=(0, 2))
            starts[rows] = np.minimum(starts[rows], edges[0, :, 0])
            ends[rows] = np.maximum(ends[rows], edges[2, :, -1])
            if probabilities:
                wanted = np.minimum(probabilities, 1 - NEGLIGIBLE)
                quantile = _crossing if self._smooth else _atom
                found = quantile(begin, part, h, cumulative, wanted)
                quantiles[rows] = np.minimum(quantiles[rows], found)
        quantiles = np.clip(quantiles, floor[:, None], ends[:, None])
        return np.minimum(starts, ends) + late, quantiles


def _first(values: FloatArray, wanted: FloatArray) -> tuple[IntArray, BoolArray]:
    """Return where each row first reaches each of `wanted`, shape (rows, wanted), and whether."""
    highest = np.maximum.accumulate(values, axis=1)
    at = np.stack([np.searchsorted(row, wanted) for row in highest])
    reached = at < values.shape[1]
    return np.where(reached, at, 0), reached


def _crossing(
    begin: FloatArray, part: FloatArray, h: float, cumulative: FloatArray, wanted: FloatArray
) -> FloatArray:
    """Return where the cdf, its mean over each cell taken at the middle, reaches `wanted`."""
    mean = (1 - part) * cumulative[0] + part * cumulative[1]
    at, reached = _first(mean, wanted)
    above, below = (np.take_along_axis(mean, cells, axis=1) for cells in (at, at - 1))
    rise = np.where(at > 0, above - below, np.inf)
    found = np.take_along_axis(begin, at, axis=1) + h / 2 - h * (above - wanted) / rise
    return np.where(reached, found, np.inf)


def _atom(
    begin: FloatArray, part: FloatArray, h: float, cumulative: FloatArray, wanted: FloatArray
) -> FloatArray:
    """Return the first half-cell on which the cdf is at least `wanted`."""
    found = np.full((len(begin), wanted.size), np.inf)
    for side, shift in ((0, 0.0), (1, (1 - part) * h)):
        at, reached = _first(cumulative[side], wanted)
        cell = np.take_along_axis(begin, at, axis=1) + shift
        found = np.where(reached, np.minimum(found, cell), found)
    return found


def resolved(law: TimeLaw) -> TimeLaw:
    """Return `law` on a grid that resolves its bulk, some 2,048 points or more if its tail is long.

    The mean is kept, and the tail to 1e-12.
    """
    cumulative = law.cumulative
    first, last = np.searchsorted(cumulative, (NEGLIGIBLE, 1 - NEGLIGIBLE))
    size = min(int(last), cumulative.size - 1) - int(first) + 1
    low, middle = np.searchsorted(cumulative, (0.01, 0.5))
    factor = max(min(-(-size // GRID_POINTS), int(middle - low) // BULK_POINTS), 1)
    return law.coarsened(-(-size // factor)) if size > GRID_POINTS else law


def _levels(law: TimeLaw, microbatches: int) -> list[_Level]:
    levels = []
    begin = 0
    while law.probabilities.size > GRID_POINTS:
        # Two times as long as it is read: the sum may be twice the largest.
        joint = JointLaw(law.probabilities[: 2 * GRID_POINTS], microbatches, GRID_POINTS)
        levels.append(_Level(joint=joint, spacing=law.spacing, begin=begin, end=GRID_POINTS))
        coarser = 2 ** len(levels)  # the farther out, the fewer points are enough
        law = spread(law.support, law.probabilities, coarser * law.spacing)
        begin = GRID_POINTS // coarser
    joint = JointLaw(law.probabilities, microbatches)
    levels.append(_Level(joint=joint, spacing=law.spacing, begin=begin, end=None))
    return levels
