"""Which batch size is best, for which pair of workers, without a look at each?

Where more slots never shorten a step, the step of a pair (A, F) is convex in what its stages take
(longest paths, expectations). So from an exact step at B, with what each further request adds to
every stage at least (attention, as if all workers got the mean: E max >= max E), follows a line

    step(B') >= step(B) + slope (B' - B)    for B' > B

(less, where the blocks of attention fill their rounds better than at B: `step_line`) that bounds
the score of a whole range of batch sizes. Ranges whose bound is below the best design
found are never looked at; the others are cut in two at a size that is evaluated exactly. Where
more slots may shorten a step, ranges have the bound of mean loads only.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, groupby
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.planning.design import Candidate, Combination
from afdplan.planning.limits import TIE, Limits, limited
from afdplan.planning.pair_scores import PairScores
from afdplan.planning.ratio_bounds import BlockScores
from afdplan.planning.space import PairLattice
from afdplan.planning.step_line import Line, StepLines

__all__ = ["BatchSearch", "least_score"]


CHUNK, FIRST, MOST = 16, 1024, 1 << 17
"""Pairs evaluated together, and bounded together before and after there is a design to beat."""
WIDEST = 1.25
"""Ranges of batch sizes begin with at most this ratio of their ends."""


def least_score(best: Candidate | None, limits: Limits) -> float:
    """Return the score from which on a candidate is looked at; with a rate ties are left out."""
    slack = 1 - TIE if limits.requests_per_second is None else 1 + TIE
    return 0.0 if best is None else best.score * slack


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Start:
    """A range whose pairs are not known yet, only the most score of every block of ratios.

    Attributes
    ----------
    group
        Devices per attention worker, and m.
    first, last
        Positions in the sizes of the group.
    listed
        Those of the sizes in it whose bounds are known.
    bounds
        For each listed size, the position of its row of bounds, and how much larger the sizes are
        for which it stands.
    """

    group: tuple[int, int]
    first: int
    last: int
    listed: tuple[int, ...]
    bounds: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Range:
    """Batch sizes ``sizes[first..last]`` of some pairs, and the most that each pair can score.

    Attributes
    ----------
    group, first, last
        As of a start.
    listed
        Sizes in it at which bounds of the pairs may still tell more.
    has_means
        Whether `bound` knows the pairs' mean loads and whole bundles.
    pairs, bound
        Positions in the lattice and most score, shape (n,).
    line
        Of each pair, from a smaller batch size; None before any was evaluated.
    """

    group: tuple[int, int]
    first: int
    last: int
    listed: tuple[int, ...] = ()
    pairs: IntArray
    bound: FloatArray
    has_means: bool = False
    line: Line | None = None

    def of(self, chosen: IntArray) -> _Range:
        """Return the range of some of its pairs."""
        line = None if self.line is None else self.line.of(chosen)
        return replace(self, pairs=self.pairs[chosen], bound=self.bound[chosen], line=line)


class BatchSearch:
    """The best design over all batch sizes of the space, under some limits.

    Parameters
    ----------
    pairs
        Scores and step times.
    lines
        Of steps against batch sizes; None where more slots may shorten a step.
    bounds
        Most score of the listed batch sizes in every block of ratios.
    lattices
        Legal pairs by devices per attention worker.
    limits
        All of them.
    sizes
        Batch sizes to look at by (devices per attention worker, m), ascending, shape (n,).
    """

    def __init__(
        self,
        pairs: PairScores,
        lines: StepLines | None,
        bounds: BlockScores,
        lattices: dict[int, PairLattice],
        limits: Limits,
        sizes: dict[tuple[int, int], IntArray],
    ) -> None:
        self._pairs = pairs
        self._lines = lines
        self._bounds = bounds
        self._lattices = lattices
        self._limits = limits
        self._sizes = sizes
        self._longest = limits.longest_step(pairs.models.tokens_per_step)
        self._best: Candidate | None = None
        self._queue: list[tuple[float, int, _Start | _Range]] = []
        self._number = count()

    def best(self, best: Candidate | None) -> Candidate | None:
        """Return the best design, or `best` if none is better."""
        self._best, self._queue = best, []
        for start, most in self._starts():
            self._push(start, most)
        while self._queue:
            most, _, found = heapq.heappop(self._queue)
            if -most < self._least:
                break
            if isinstance(found, _Start):
                found = self._opened(found)
            # The most promising first: what they give spares the others.
            order = np.argsort(-found.bound, kind="stable")
            order = order[found.bound[order] >= self._least]
            size = CHUNK
            if found.listed:  # bounds are cheap for many at once, and most go by a design to beat
                size = FIRST if self._best is None else MOST
            # The rest in parts that double: as one it would be sorted anew each time.
            begin = size
            while begin < order.size:
                self._push_range(found.of(order[begin : 2 * begin]))
                begin *= 2
            found = found.of(order[:size])
            if not found.pairs.size:
                continue
            parts = [self._tightened(found)] if found.listed else self._cut(found)
            for part in parts:
                self._push_range(part)
        return self._best

    @property
    def _least(self) -> float:
        return least_score(self._best, self._limits)

    def _push(self, found: _Start | _Range, most: float) -> None:
        if most > 0 and most >= self._least:
            heapq.heappush(self._queue, (-most, next(self._number), found))

    def _push_range(self, found: _Range) -> None:
        kept = np.flatnonzero((found.bound > 0) & (found.bound >= self._least))
        if kept.size:
            self._push(found.of(kept), float(found.bound[kept].max()))

    def _starts(self) -> Iterator[tuple[_Start, float]]:
        """Yield ranges of neighbouring sizes that cover all, with their bounds."""
        combinations, most = self._bounds.combinations, self._bounds.most()
        ranked = sorted(range(len(combinations)), key=combinations.__getitem__)
        for group, members in groupby(ranked, key=lambda at: combinations[at][:2]):
            sizes, listed = self._sizes[group], list(members)
            firsts = np.searchsorted(sizes, [combinations[at].batch_size for at in listed])
            lasts = np.append(firsts[1:], sizes.size) - 1
            gains = sizes[lasts] / sizes[firsts]
            begin, widest = 0, WIDEST if self._lines else 1.0
            for end in range(1, len(listed) + 1):
                if end < len(listed) and sizes[lasts[end]] <= widest * sizes[firsts[begin]]:
                    continue
                part = tuple(zip(listed[begin:end], gains[begin:end].tolist(), strict=True))
                start = _Start(
                    group=group,
                    first=int(firsts[begin]),
                    last=int(lasts[end - 1]),
                    listed=tuple(firsts[begin:end].tolist()),
                    bounds=part,
                )
                yield start, max(float(most[at] * gain) for at, gain in part)
                begin = end

    def _opened(self, start: _Start) -> _Range:
        """Return the pairs of a start that may be good enough."""
        devices = start.group[0]
        row = np.max([self._bounds.rows[at] * gain for at, gain in start.bounds], axis=0)
        columns = self._bounds.columns[devices]
        able = self._pairs.able(self._lattices[devices], self._least, self._limits)
        pairs = able[((row > 0) & (row >= self._least))[columns[able]]]
        return _Range(
            group=start.group,
            first=start.first,
            last=start.last,
            listed=start.listed,
            pairs=pairs,
            bound=row[columns[pairs]],
        )

    def _tightened(self, found: _Range) -> _Range:
        """Return a range with better bounds: from mean loads, then from the barrier at its first.

        The second need a law, as any exact step does: they pay for many pairs.
        """
        lattice, sizes = self._lattices[found.group[0]], self._sizes[found.group]
        base = Combination(*found.group, int(sizes[found.first])) if found.has_means else None
        lasts = [*(first - 1 for first in found.listed[1:]), found.last]
        bound = np.zeros(found.pairs.size)
        for first, last in zip(found.listed, lasts, strict=True):
            combination = Combination(*found.group, int(sizes[first]))
            mean, statistic = self._pairs.least_times(
                combination, lattice, found.pairs, self._limits, base
            )
            score = self._score(found, sizes[last], mean)
            bound = np.maximum(bound, np.where(statistic <= self._longest, score, 0.0))
        few = np.count_nonzero(bound >= self._least) <= CHUNK
        listed = () if found.has_means or few or self._lines is None else found.listed
        return replace(found, listed=listed, has_means=True, bound=np.minimum(bound, found.bound))

    def _cut(self, found: _Range) -> list[_Range]:
        """Evaluate a batch size of a range; return what is left of it on either side."""
        pairs, limits = self._pairs, self._limits
        devices, m = found.group
        lattice, sizes = self._lattices[devices], self._sizes[found.group]
        at = self._middle(found)
        combination = Combination(devices, m, int(sizes[at]))
        a, f = lattice.attention[found.pairs], lattice.ffn[found.pairs]
        times = pairs.models.evaluate(combination, a, f, limits.probabilities)
        held = limited(times) <= self._longest
        score, bundles = pairs.scores(combination, lattice, found.pairs, times.mean, limits)
        for n in np.flatnonzero(held & (score > 0)):
            candidate = Candidate(
                score=float(score[n]),
                design=pairs.design_of(combination, lattice, int(found.pairs[n]), int(bundles[n])),
            )
            if candidate.beats(self._best):
                self._best = candidate
        parts = []
        if found.first < at:
            parts.append(self._bounded(replace(found, last=at - 1)))
        ahead = replace(found, first=at + 1)
        if at < found.last and self._lines is None:
            parts.append(self._means(ahead))
            return parts
        if at < found.last and self._lines is not None:
            share = self._lines.share(combination, int(sizes[found.last]))
            # What is too slow already only grows, but by reading that is faster.
            most = self._score(ahead, sizes[found.last], share * times.mean)
            able = share * limited(times) <= self._longest
            worth = np.flatnonzero(able & (most >= self._least))
            ahead, mean = ahead.of(worth), times.mean[worth]
            if worth.size:
                workers = lattice.attention[ahead.pairs], lattice.ffn[ahead.pairs]
                line = self._lines.of(combination, int(sizes[found.last]), *workers, mean)
                parts.append(self._bounded(replace(ahead, line=line)))
        return parts

    def _means(self, found: _Range) -> _Range:
        """Return a range with bounds from the mean loads of its first size."""
        combination = Combination(*found.group, int(self._sizes[found.group][found.first]))
        mean, statistic = self._pairs.least_times(
            combination, self._lattices[found.group[0]], found.pairs, self._limits, None
        )
        score = self._score(found, self._sizes[found.group][found.last], mean)
        most = np.where(statistic <= self._longest, score, 0.0)
        return replace(found, bound=np.minimum(most, found.bound))

    def _middle(self, found: _Range) -> int:
        """Return where to look: at the beginning, or near the end that promises more."""
        if found.line is None:
            return found.first
        first, last = (
            self._score(found, size, found.line.at(size))
            for size in self._sizes[found.group][[found.first, found.last]]
        )
        if first.max() > last.max():
            return found.first
        return found.last - (found.last - found.first) // 4

    def _bounded(self, found: _Range) -> _Range:
        """Return a range with bounds from its lines, cut where all pairs are too slow."""
        line = found.line
        if line is None:
            return found
        sizes = self._sizes[found.group]
        last = np.full(found.pairs.size, found.last)
        if not self._limits.probabilities:
            longest = line.largest(self._longest)
            last = np.minimum(last, np.searchsorted(sizes, longest, side="right") - 1)
        fits = last >= found.first
        last = np.maximum(last, found.first)
        ends = [
            self._score(found, size, line.at(size))
            for size in (sizes[last], np.broadcast_to(sizes[found.first], last.shape))
        ]
        bound = np.where(fits, np.minimum(np.maximum(*ends), found.bound), 0.0)
        return replace(found, last=int(last[fits].max(initial=found.first)), bound=bound)

    def _score(self, found: _Range, batch_size: Any, step_time: FloatArray) -> FloatArray:
        devices, m = found.group
        lattice = self._lattices[devices]
        return self._pairs.scores_of(m * batch_size, lattice, found.pairs, step_time, self._limits)[
            0
        ]
