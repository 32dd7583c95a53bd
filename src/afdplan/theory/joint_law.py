"""What is the joint law of sum and largest of m attention times, all times on one even grid?

Times are counted in grid points above the least. With F_m the cdf of the sum of m draws, F = F_1,

    J(i, k) = P(largest <= i, sum <= k),    k = i + d

is read along diagonals: d belongs to a design. On most of a diagonal at most one draw can be
larger than i while the sum is at most k, and one correlation gives all of it at once:

    J = F(i)^m                                          where d >= (m - 1) i
    J = F_m(k) - m sum_(x = 1..d) p(i + x) F_(m-1)(d - x)   where d <= i

Between (m >= 3, i < d < (m - 1) i) the law truncated at i is convolved, at some i (nodes), with
cubic interpolation of J along the diagonal.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import ComplexArray, FloatArray, IntArray

__all__ = ["JointLaw"]


NODES = 96
"""Truncation points that are enough for a smooth law."""
ROUGHNESS = 1e-6
"""Largest error of F, found from the nodes, at which they are enough: means of the round then err
by 3e-6 at most, mostly by less than 1e-7, against every truncation (hundreds of random laws with
peaks, atoms, ripples and heavy tails, up to 8 microbatches and 4,096 workers)."""
NEGLIGIBLE = 1e-13
"""Probability that is as good as none."""


class JointLaw:
    """P(largest <= i, sum <= i + d) of m draws of one law.

    Parameters
    ----------
    probabilities
        Of the grid points 0, 1, ..., shape (n,); the sum is below 1 if the law goes on.
    microbatches
        m >= 1.
    points
        Only ``i < points`` will be asked for; all of them if None.

    Attributes
    ----------
    first, last
        Grid points between which all but 1e-13 of the probability of one draw lies.
    first_sum, last_sum
        The same for the sum.
    sums
        F_m, shape (m (n - 1) + 1,); right up to n - 1 if the law goes on.
    """

    def __init__(
        self, probabilities: FloatArray, microbatches: int, points: int | None = None
    ) -> None:
        self.microbatches = m = microbatches
        self.probabilities = probabilities
        self.cumulative = np.minimum(np.cumsum(probabilities), 1.0)
        self._none_exceeds = self.cumulative**m
        # m times the spectrum of the probabilities, by the length of the transform.
        self._spectra: dict[int, ComplexArray] = {}
        size = probabilities.size
        length = m * (size - 1) + 1
        spectrum = np.fft.rfft(probabilities, _transform_size(length))
        self.sums = _cumulated(_power(spectrum, m), length)
        # F_(m-1)(0), F_(m-1)(1), ...: what the others than the largest may add up to.
        self._others = _cumulated(_power(spectrum, m - 1), length)[:size]
        self.first, self.last = _bulk(self.cumulative)
        self.first_sum, self.last_sum = _bulk(self.sums)
        self._points = size if points is None else min(points, size)
        span = min(self.last, self._points) - self.first + 1
        self._step = 1 << max((span // NODES).bit_length() - 1, 0)
        while self._step > 1 and not self._is_smooth():
            self._step //= 2
        # Row of the table that holds the law of the sum truncated at each i, -1 for none yet.
        self._row = np.full(self._points + 4 * self._step, -1)
        self._table = np.empty((0, m * (self._points - 1) + 1))
        self._tabulated = 0

    def diagonals(self, largest: IntArray, difference: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return J(i, i + d) and J(i, i + d + 1), each of shape (designs, i).

        Parameters
        ----------
        largest
            i, shape (designs, i), consecutive.
        difference
            d >= 0, shape (designs,).
        """
        m, end = self.microbatches, self.probabilities.size - 1
        i, d = largest, difference[:, None]
        free = self._none_exceeds[np.clip(i, 0, end)]
        free[i < 0] = 0.0
        exceeding = self._one_exceeds(i, difference)
        joint = []
        for more in (0, 1):
            total = np.clip(i + d + more, 0, self.sums.size - 1)
            alone = ((m - 1) * i <= d + more) | (i < self.first)
            value = np.where(alone, free, self.sums[total] - exceeding[more])
            between = (i < d + more) & ~alone & (i < self.last)
            if between.any():
                rows, columns = np.nonzero(between)
                value[rows, columns] = self._interpolated(i[rows, columns], difference[rows] + more)
            joint.append(np.maximum(value, 0.0))
        return joint[0], joint[1]

    def begins(self, chance: FloatArray) -> tuple[IntArray, IntArray]:
        """Return the first grid points at which largest and sum are at most there with `chance`."""
        largest = np.searchsorted(self._none_exceeds, chance)
        total = np.searchsorted(self.sums, chance)
        return np.maximum(largest, self.first), np.maximum(total, self.first_sum)

    def _one_exceeds(self, i: IntArray, difference: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return P(one draw > i, sum <= i + d) for d and d + 1, where i >= d (and i + 1 >= d)."""
        m, size = self.microbatches, self.probabilities.size
        last = max(int(min(i.max(), size - 1)), 0)
        reach = last + 2  # one more for d + 1
        own, inverse = np.unique(np.clip(difference, 0, last), return_inverse=True)
        correlation = self._correlation(own, reach)
        at = np.clip(i, 0, reach)
        rows = inverse[:, None]
        probability = np.append(self.probabilities, 0.0)
        rest = self._others[np.clip(difference, 0, size - 1)][:, None]
        following = np.minimum(at + 1, reach)
        one_more = correlation[rows, following]
        one_more += m * probability[np.clip(i + 1, 0, size)] * rest
        return correlation[rows, at], one_more

    def _correlation(self, own: IntArray, reach: int) -> FloatArray:
        """Return P(one draw > i, sum <= i + d) of each d of `own`, for i < `reach`, then 0."""
        size = self.probabilities.size
        length = 1 << (max(size, reach + int(own[-1])) - 1).bit_length()  # nothing wraps around
        x = np.arange(1, int(own[-1]) + 1)
        left = own[:, None] - x
        weights = np.zeros((own.size, x.size + 1))
        weights[:, 1:] = np.where(left >= 0, self._others[np.clip(left, 0, size - 1)], 0.0)
        if length not in self._spectra:
            self._spectra[length] = self.microbatches * np.fft.rfft(self.probabilities, length)
        product = np.conj(np.fft.rfft(weights, length, axis=1))
        product *= self._spectra[length]
        correlation = np.zeros((own.size, reach + 1))
        correlation[:, :reach] = np.fft.irfft(product, length, axis=1)[:, :reach]
        return correlation

    def _is_smooth(self) -> bool:
        """Return whether F itself is found from the nodes: a comb may look smooth at its teeth."""
        index = np.arange(self.first, min(self.last, self._points))
        nodes, weights = self._neighbours(index, self._step)
        at_nodes = self.cumulative[np.clip(nodes, 0, self.cumulative.size - 1)]
        found = (np.where(nodes < 0, 0.0, at_nodes) * weights).sum(axis=0)
        return bool(np.abs(found - self.cumulative[index]).max(initial=0.0) <= ROUGHNESS)

    def _neighbours(self, index: IntArray, step: int) -> tuple[IntArray, FloatArray]:
        """Return the four nodes around each index and their weights, each of shape (4, n)."""
        cell = (index - self.first) // step
        x = (index - self.first) / step - cell
        weights = np.stack(
            [
                -x * (x - 1) * (x - 2) / 6,
                (x + 1) * (x - 1) * (x - 2) / 2,
                -(x + 1) * x * (x - 2) / 2,
                (x + 1) * x * (x - 1) / 6,
            ]
        )
        return self.first + step * (cell + np.arange(-1, 3)[:, None]), weights

    def _interpolated(self, index: IntArray, difference: IntArray) -> FloatArray:
        """Return J(index, index + difference), by cubic interpolation between nodes."""
        nodes, weights = self._neighbours(index, self._step)
        self._tabulate(nodes)
        total = np.minimum(nodes + difference, self._table.shape[1] - 1)
        joint = self._table[self._row[nodes + self._step], np.maximum(total, 0)]
        joint[total < 0] = 0.0
        value: FloatArray = np.clip((joint * weights).sum(axis=0), 0.0, 1.0)
        return value

    def _tabulate(self, nodes: IntArray) -> None:
        """Add the law of the sum truncated at each of `nodes`, where it is not known yet."""
        nodes = np.unique(nodes[self._row[nodes + self._step] < 0])
        if nodes.size == 0:
            return
        begin, end = self._tabulated, self._tabulated + nodes.size
        self._row[nodes + self._step] = np.arange(begin, end)
        length = self._table.shape[1]
        if end > len(self._table):  # room for as many again: few nodes are added at a time
            table, self._table = self._table, np.empty((2 * end, length))
            self._table[:begin] = table[:begin]
        # Draws of at most i add up to at most m i: shorter transforms do for small i.
        longest = np.clip(self.microbatches * nodes, 0, length - 1).tolist()
        sizes = np.array([_transform_size(most + 1) for most in longest])
        for size in np.unique(sizes).tolist():
            rows = np.flatnonzero(sizes == size)
            pmf = self.probabilities[: min(self._points, size)]
            kept = np.where(np.arange(pmf.size) <= nodes[rows, None], pmf, 0.0)
            spectrum = _power(np.fft.rfft(kept, size, axis=1), self.microbatches)
            sums = _cumulated(spectrum, min(size, length))
            self._table[begin + rows, : sums.shape[1]] = sums
            self._table[begin + rows, sums.shape[1] :] = sums[:, -1:]
        self._tabulated = end


def _transform_size(length: int) -> int:
    return 1 << (length - 1).bit_length()


def _power(spectrum: ComplexArray, exponent: int) -> ComplexArray:
    """Return ``spectrum ** exponent``, by multiplication: a complex power is slow."""
    power = np.ones_like(spectrum)
    for _ in range(exponent):
        power *= spectrum
    return power


def _cumulated(spectrum: ComplexArray, length: int) -> FloatArray:
    """Return the first `length` points of the cdf whose probabilities have this spectrum."""
    sums = np.fft.irfft(spectrum, _transform_size(length))[..., :length]
    cumulative: FloatArray = np.minimum(np.cumsum(np.maximum(sums, 0.0), axis=-1), 1.0)
    return cumulative


def _bulk(cumulative: FloatArray) -> tuple[int, int]:
    """Return the grid points between which all but 2e-13 of the probability lies."""
    first, last = np.searchsorted(cumulative, (NEGLIGIBLE, 1 - NEGLIGIBLE))
    return int(first), min(int(last), cumulative.size - 1)
