"""How long is one round of m pipelined microbatches, as a law, for all ratios at once?

With frozen loads, ``a_ju`` the attention time of worker j on microbatch u, ``f`` the FFN time,
``c = c_out + c_back`` and ``c_stage = max(c_out, c_back)``, one round of all m microbatches takes

    round = max( max_j sum_u a_ju,  m f,  m c_stage,  max_ju a_ju + f + c )

(the exact max-plus period for m <= 2, a tight lower bound for m >= 3). Workers are independent
and alike, so for ``t >= m max(f, c_stage)``

    P(round <= t) = P( sum_u a_u <= t  and  max_u a_u <= t - f - c )^A

Only the joint law of (sum, largest) of m draws of one worker is needed: its table over
truncation points is computed once, and every ratio reads it along its own diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.theory.attention_time import TimeLaw

__all__ = ["RoundLaw", "RoundLawTable"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

GRID_POINTS = 1024
"""Grid points of one worker's time, where that resolves its bulk."""
BULK_POINTS = 256
"""Grid points wanted between the 1 % and 99 % quantiles: heavy tails need a finer grid."""
LARGEST_TRANSFORM = 16_384
"""The finer grid times m is no larger than this: bounds time and memory."""
NODES = 96
"""Truncation points at which the joint law is computed at first."""
BLOCK = 64
"""Designs evaluated together: bounds the memory."""
MAXIMUM_NODES = 1024
NODE_TOLERANCE = 2e-6
"""Relative error of the mean round at which no more truncation points are added."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundLaw:
    """Mean and quantiles of the round of n designs.

    Attributes
    ----------
    mean
        E[round], shape (n,) [time].
    quantiles
        Smallest t with ``P(round <= t) >= probability``, shape (n, probabilities) [time].
    """

    mean: FloatArray
    quantiles: FloatArray


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
    The worker's law is put on at most 1,024 grid points (mean kept, standard deviation wrong by
    less than 1e-4), on more if its tail is so long that fewer than 256 of them would lie between
    its 1 % and 99 % quantiles (at most 16,384 / m). The joint law is computed at about 96
    truncation points with cubic interpolation between; their number doubles until the mean round
    moves by less than 2e-6, up to every grid point, where nothing is interpolated (or 1,024 on a
    finer grid).

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
        self.law = law.coarsened(_points(law, microbatches))
        self._cumulative = self.law.cumulative
        size = self.law.probabilities.size
        self._transform_size = 1 << (microbatches * (size - 1)).bit_length()
        self._sums = self._truncated_sums(np.array([size - 1]))[0]
        self._first, self._last = _bulk(self._cumulative)
        self._first_sum, self._last_sum = _bulk(self._sums)
        self._step = max(1, -(-(self._last - self._first + 1) // NODES))
        # (nodes, joint law at them), made when a design first needs it: many are bound elsewhere.
        self._tabulated: tuple[IntArray, FloatArray] | None = None

    @property
    def sum_law(self) -> TimeLaw:
        """Law of one worker's ``sum_u a_u``, all m microbatches."""
        return TimeLaw(
            lowest=self.microbatches * self.law.lowest,
            spacing=self.law.spacing,
            probabilities=np.diff(self._sums, prepend=0.0),
        )

    def evaluate(
        self,
        attention_workers: FloatArray,
        *,
        longest_delay: FloatArray,
        floor: FloatArray,
        sum_delay: FloatArray | None = None,
        probabilities: tuple[float, ...] = (),
    ) -> RoundLaw:
        """Return mean and quantiles of ``max(floor, sum + sum_delay, largest + longest_delay)``.

        Parameters
        ----------
        attention_workers
            A, real numbers > 0, shape (n,); sum and largest are those of the worst worker.
        longest_delay
            What follows the longest single attention, f + c for a round [time], shape (n,).
        floor
            Least time of the round, m max(f, c_stage) [time], shape (n,).
        sum_delay
            What follows the sum, zero for a round [time], at most `longest_delay`, shape (n,).
        probabilities
            For which the quantiles are wanted, each in (0, 1).
        """
        if sum_delay is None:
            sum_delay = np.zeros_like(floor)
        designs = np.stack([attention_workers, longest_delay, floor, sum_delay], axis=1)
        sample = designs[np.unique(np.linspace(0, len(designs) - 1, 8).astype(int))]
        while self._step > 1:
            fine, rough = (self._evaluate(sample, stride, ())[0] for stride in (1, 2))
            if np.all(np.abs(fine - rough) <= NODE_TOLERANCE * np.abs(fine)):
                break
            if self._table()[0].size >= MAXIMUM_NODES:
                break
            self._step = -(-self._step // 2)
            self._tabulated = None
        blocks = [
            self._evaluate(designs[at : at + BLOCK], 1, probabilities)
            for at in range(0, len(designs), BLOCK)
        ]
        return RoundLaw(
            mean=np.concatenate([mean for mean, _ in blocks]),
            quantiles=np.concatenate([quantiles for _, quantiles in blocks]),
        )

    def _evaluate(
        self, designs: FloatArray, stride: int, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        """Integrate 1 - P(round <= t), constant on the half-cells of two interleaved grids.

        At ``t = a_0 + longest_delay + (i + x) h`` with x in [0, 1), the largest may be grid
        point i, the sum grid point ``floor(i + offset + x)``: two half-cells per i.
        """
        m, h = self.microbatches, self.law.spacing
        workers, longest_delay, floor, sum_delay = designs.T
        offset = (longest_delay - sum_delay - (m - 1) * self.law.lowest) / h
        whole = np.floor(offset).astype(np.int64)
        part = (offset - whole)[:, None]
        # Before `start` the round is impossible or below its floor, after `stop` it is over.
        at_floor = np.floor((floor - self.law.lowest - longest_delay) / h).astype(np.int64)
        start = np.maximum(np.maximum(self._first, self._first_sum - whole) - 1, at_floor)
        stop = np.maximum(np.maximum(self._last, self._last_sum - whole), start)
        index = start[:, None] + np.arange(int((stop - start).max()) + 1)
        below = self._joint(index, whole, stride)
        above = self._joint(index, whole + 1, stride)
        cumulative = np.stack([below, above], axis=2).reshape(len(designs), -1)
        with np.errstate(divide="ignore"):
            np.log(cumulative, out=cumulative)
        cumulative *= workers[:, None]
        np.exp(cumulative, out=cumulative)
        begin = (self.law.lowest + longest_delay)[:, None] + h * index
        begins = np.stack([begin, begin + (1 - part) * h], axis=2).reshape(len(designs), -1)
        ends = np.stack([begin + (1 - part) * h, begin + h], axis=2).reshape(len(designs), -1)
        begins = np.maximum(begins, floor[:, None])
        widths = np.maximum(ends - begins, 0.0)
        mean = begins[:, 0] + (widths * (1 - cumulative)).sum(axis=1)
        rows = np.arange(len(designs))
        quantiles = np.empty((len(designs), len(probabilities)))
        for column, probability in enumerate(probabilities):
            at = np.argmax(cumulative >= min(probability, 1 - 1e-12), axis=1)
            quantiles[:, column] = begins[rows, at]
        return mean, quantiles

    def _joint(self, index: IntArray, offset: IntArray, stride: int) -> FloatArray:
        """Return P(largest <= point i, sum <= point i + offset) for `index` i, shape (n, i)."""
        m, size = self.microbatches, self.law.probabilities.size
        total = index + offset[:, None]
        largest = self._cumulative[np.clip(index, 0, size - 1)] ** m
        joint = np.where(
            index >= self._last, self._sums[np.clip(total, 0, self._sums.size - 1)], largest
        )
        # Both limits bind: read the table along the diagonal total - index = offset.
        rows, columns = np.nonzero(
            (index > self._first) & (index < self._last) & (m * index > total) & (total >= 0)
        )
        if rows.size:
            joint[rows, columns] = self._interpolate(index[rows, columns], offset, rows, stride)
        joint[(total < 0) | (index < 0)] = 0.0
        return joint

    def _interpolate(
        self, index: IntArray, offset: IntArray, rows: IntArray, stride: int
    ) -> FloatArray:
        nodes, table = self._table()
        nodes, table = nodes[::stride], table[::stride]
        step = self._step * stride
        diagonal_index = nodes[:, None] + offset
        inside = np.clip(diagonal_index, 0, self._sums.size - 1)
        diagonal = np.take_along_axis(table, inside, axis=1)
        diagonal[diagonal_index < 0] = 0.0
        cell = np.clip((index - nodes[0]) // step, 1, nodes.size - 3)
        x = (index - nodes[cell]) / step
        weights = (
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        )
        value = np.zeros(index.size)
        for shift, weight in enumerate(weights, start=-1):
            value += weight * diagonal[cell + shift, rows]
        return np.clip(value, 0.0, 1.0)

    def _table(self) -> tuple[IntArray, FloatArray]:
        """Return the truncation points and, for each, the law of the sum."""
        if self._tabulated is None:
            self._tabulated = self._tabulate()
        return self._tabulated

    def _tabulate(self) -> tuple[IntArray, FloatArray]:
        # Two nodes more on either side, so that cubic interpolation finds its four neighbours
        # at either stride.
        count = -(-(self._last - self._first) // self._step)
        nodes = self._first + self._step * np.arange(-2, count + 5)
        clipped = np.clip(nodes, 0, self.law.probabilities.size - 1)
        table = self._truncated_sums(clipped)
        table[nodes < 0] = 0.0
        return nodes, table

    def _truncated_sums(self, limits: IntArray) -> FloatArray:
        """Return ``P(sum_u a_u <= m a_0 + k h, all a_u <= a_0 + limit h)``, shape (limits, k)."""
        pmf = self.law.probabilities
        kept = np.where(np.arange(pmf.size) <= limits[:, None], pmf, 0.0)
        spectrum = np.fft.rfft(kept, self._transform_size, axis=1)
        power = spectrum.copy()
        for _ in range(self.microbatches - 1):
            power *= spectrum
        sums = np.fft.irfft(power, self._transform_size, axis=1)
        sums = sums[:, : self.microbatches * (pmf.size - 1) + 1]
        cumulative: FloatArray = np.minimum(np.cumsum(np.maximum(sums, 0.0), axis=1), 1.0)
        return cumulative


def _points(law: TimeLaw, microbatches: int) -> int:
    """Return how many grid points resolve the bulk of `law`."""
    first, last = _bulk(law.cumulative)
    low, high = np.searchsorted(law.cumulative, (0.01, 0.99))
    wanted = BULK_POINTS * (last - first + 1) / max(int(high - low), 1)
    return int(min(max(wanted, GRID_POINTS), max(LARGEST_TRANSFORM // microbatches, GRID_POINTS)))


def _bulk(cumulative: FloatArray) -> tuple[int, int]:
    """Return the grid points between which all but 2e-13 of the probability lies."""
    first, last = np.searchsorted(cumulative, (1e-13, 1 - 1e-13))
    return int(first), min(int(last), cumulative.size - 1)
