"""What is the best ratio when every worker holds exactly its mean load, in closed form?

With constant loads the step time is a sum of maxima of piecewise-linear functions of ``r``, so
it is itself piecewise linear, and on a piece ``p + q r`` the objective

    r m B tokens_per_step / ((r + w) (p + q r))

peaks at ``r = sqrt(w p / q)``. Kinks and such peaks are all candidates; the best one is exact.
The paper's rule ``r* = max(r_A, r_C, r_peak)`` is the special case of straight lines, ideal
overlap and transfers that do not grow with r.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from afdplan.model.coupling import UNCOUPLED
from afdplan.model.curve import Curve
from afdplan.model.latency import LatencyModel
from afdplan.theory.problem import Overlap
from afdplan.theory.shared_times import shared_times

__all__ = ["MeanField"]

BETWEEN = 512
"""Ratios looked at within one of the best whole one, where times jump."""
FARTHEST = 1e6
"""Ratio beyond which the FFN is taken as never catching up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanField:
    """A bundle whose workers all hold their mean load.

    Attributes
    ----------
    latency
        Times of the stages.
    mean_token_loads
        theta of one slot as each kind of attention layers sees it [tokens], one per kind.
    batch_size
        B [requests].
    microbatches
        m; ideal overlap counts as one.
    overlap
        ``ideal`` is the paper's ``max(t_A, t_C, t_F)``; ``pipelined`` adds the round trip.

    References
    ----------
    arXiv:2601.21351, Eq. 8-12 (regimes and r*); the general envelope: docs/theory/optimum.md.

    Examples
    --------
    >>> latency = LatencyModel.linear(
    ...     attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0))
    >>> bundle = MeanField(latency=latency, mean_token_loads=(599.0,), batch_size=256,
    ...                    microbatches=1, overlap="ideal")
    >>> round(bundle.optimal_ratio(ffn_weight=1.0, lowest=0.1, highest=64.0), 3)
    9.555
    """

    latency: LatencyModel
    mean_token_loads: tuple[float, ...]
    batch_size: int
    microbatches: int
    overlap: Overlap

    @property
    def attention_times(self) -> tuple[float, ...]:
        """t_A of one layer of each kind, with the transfers that occupy its worker [time]."""
        latency = self.latency
        occupied = latency.coupling.attention_occupied(
            latency.send, latency.receive, self.batch_size
        )
        return tuple(
            kind.time(self.batch_size * load, self.batch_size) + occupied
            for kind, load in zip(self.latency.attention, self.mean_token_loads, strict=True)
        )

    def step_time(self, ratio: float) -> float:
        """Return the time of one output step at real ratio r = A/F > 0 [time]."""
        maxima = sum(weight * max(values) for weight, values in self._terms(ratio))
        return maxima + self.latency.step_overhead

    def objective(self, ratio: float, ffn_weight: float) -> float:
        """Return tokens per time and per unit of cost, ``tokens / (A + w F)`` [tokens/time]."""
        tokens = self.microbatches * self.batch_size * self.latency.tokens_per_step
        return ratio / (ratio + ffn_weight) * tokens / self.step_time(ratio)

    def optimal_ratio(self, *, ffn_weight: float, lowest: float, highest: float) -> float:
        """Return the real r in [lowest, highest] with the largest objective.

        Parameters
        ----------
        ffn_weight
            w, cost of one FFN worker over that of one attention worker, > 0.
        lowest, highest
            Allowed ratios, 0 < lowest <= highest.

        Notes
        -----
        Exact. Of equally good ratios the smallest is returned. Where times jump behind each whole
        ratio, the best whole one and 512 ratios around it.
        """
        if self.latency.coupling.is_stepped:
            return self._stepped_ratio(ffn_weight, lowest, highest)
        kinks = sorted(set(self._kinks(lowest, highest)))
        candidates = list(kinks)
        times = [self.step_time(r) for r in kinks]
        for i in range(len(kinks) - 1):
            width = kinks[i + 1] - kinks[i]
            slope = (times[i + 1] - times[i]) / width
            start = times[i] - slope * kinks[i]
            if slope > 0 and start > 0:
                peak = math.sqrt(ffn_weight * start / slope)
                if kinks[i] < peak < kinks[i + 1]:
                    candidates.append(peak)
        candidates.sort()
        return max(candidates, key=lambda r: self.objective(r, ffn_weight))

    def attention_bound_ratio(self) -> float | None:
        """Return r_A, where the FFN catches up with attention; None if it never does.

        ``r_A = (t_A - beta_F) / (alpha_F B)`` for a straight line; with several kinds of
        attention layers t_A is their mean. Negative where the FFN is slower at any load.
        """
        layers = self.latency.layers
        mean = (
            sum(
                kind.layers * time
                for kind, time in zip(self.latency.attention, self.attention_times, strict=True)
            )
            / layers
        )
        if self.latency.coupling != UNCOUPLED:
            return self._caught_up(lambda ratio: mean)
        load = _load_at(self.latency.ffn, mean)
        return None if load is None else load / self.batch_size

    def communication_bound_ratio(self) -> float | None:
        """Return r_C, where the FFN catches up with the slower transfer; None if it never does."""
        if self.latency.coupling != UNCOUPLED:
            return self._caught_up(lambda ratio: max(self._shared_times(ratio)[1:3]))
        crossings = []
        for transfer in (self.latency.send, self.latency.receive):
            if transfer.load == "worker":
                load = _load_at(self.latency.ffn, transfer.curve(float(self.batch_size)))
            else:
                load = _crossing(self.latency.ffn, transfer.curve)
            if load is None:
                return None
            crossings.append(load / self.batch_size)
        return max(crossings)

    def interior_ratio(self, ffn_weight: float) -> float | None:
        """Return r_peak = sqrt(w beta_F / (alpha_F B)) of the FFN's last line; None without one.

        A launch is part of beta_F; what transfers occupy, or A / F makes jump, is not.
        """
        start, value, slope = (float(part[-1]) for part in self.latency.ffn.segments())
        intercept = value - slope * start + self.latency.coupling.launch
        if slope <= 0 or intercept < 0:
            return None
        ratio = math.sqrt(ffn_weight * intercept / slope / self.batch_size)
        return ratio if math.isfinite(ratio) else None

    def _caught_up(self, others: Callable[[float], float]) -> float | None:
        """Return the largest r at which the FFN is no slower than `others`; None if it never is."""
        low, high = 0.0, FARTHEST
        if self._shared_times(high)[0] <= others(high):
            return None
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            faster = self._shared_times(middle)[0] <= others(middle)
            low, high = (middle, high) if faster else (low, middle)
        return low

    def _shared_times(self, ratio: Any) -> Any:
        """Return f, c_out, c_back, and by how much a trip is shorter than all; as `ratio` is."""
        latency = self.latency
        if latency.coupling == UNCOUPLED:
            tokens = ratio * self.batch_size
            links = (link.time(self.batch_size, tokens) for link in (latency.send, latency.receive))
            return (latency.ffn(tokens), *links, 0.0)
        times = shared_times(latency, np.atleast_1d(np.asarray(ratio, float)), 1, self.batch_size)
        found = (times.ffn, times.out, times.back, times.saved + np.zeros_like(times.ffn))
        return found if isinstance(ratio, np.ndarray) else tuple(float(x[0]) for x in found)

    def _stepped_ratio(self, ffn_weight: float, lowest: float, highest: float) -> float:
        """Return the best r where times jump behind each whole one: of those, and near the best."""
        whole = np.arange(math.ceil(lowest), math.floor(highest) + 1, dtype=np.float64)
        ratios = np.concatenate([[lowest], whole, [highest]])
        for _ in range(2):
            steps = self.latency.step_overhead + sum(
                weight * np.maximum.reduce(np.broadcast_arrays(*values))
                for weight, values in self._terms(ratios)
            )
            best = float(ratios[np.argmax(ratios / (ratios + ffn_weight) / steps)])
            ends = max(best - 1, lowest), min(best + 1, highest)
            ratios = np.unique(np.append(np.linspace(*ends, BETWEEN), [best]))
        return best

    def _terms(self, ratio: Any) -> list[tuple[int, tuple[float, ...]]]:
        """Return (layers, candidates of the maximum) whose weighted maxima make the step."""
        f, out, back, saved = self._shared_times(ratio)
        m, c = self.microbatches, out + back - saved
        terms: list[tuple[int, tuple[float, ...]]] = []
        for kind, a in zip(self.latency.attention, self.attention_times, strict=True):
            if self.overlap == "ideal":
                terms.append((kind.layers, (a, out, back, f)))
            else:
                terms.append((kind.layers, (m * a, m * f, m * out, m * back, a + f + c)))
        if self.latency.drain and self.overlap == "pipelined":
            # The last layer ends when the pipeline is empty, not when its period is over.
            layers, values = terms.pop()
            terms.append((layers - 1, values))
            a = self.attention_times[-1]
            trip = a + f + c
            terms.append(
                (
                    1,
                    (
                        m * a + f + c,
                        a + m * f + c,
                        trip + (m - 1) * out,
                        trip + (m - 1) * back,
                    ),
                )
            )
        return terms

    def _kinks(self, lowest: float, highest: float) -> Iterator[float]:
        """Yield the ratios between which the step time is a straight line."""
        yield lowest
        yield highest
        curves = [self.latency.ffn]
        curves += [
            transfer.curve
            for transfer in (self.latency.send, self.latency.receive)
            if transfer.load == "aggregate"
        ]
        starts = {float(s) / self.batch_size for curve in curves for s in curve.segments().starts}
        ends = sorted({lowest, highest, *(s for s in starts if lowest < s < highest)})
        yield from ends
        for left, right in pairwise(ends):
            for (_, at_left), (_, at_right) in zip(
                self._terms(left), self._terms(right), strict=True
            ):
                for i, j in combinations(range(len(at_left)), 2):
                    gap_left, gap_right = at_left[i] - at_left[j], at_right[i] - at_right[j]
                    if gap_left * gap_right < 0:
                        yield left + (right - left) * gap_left / (gap_left - gap_right)


def _load_at(curve: Curve, time: float) -> float | None:
    """Return the largest load at which `curve` takes `time`, its first line extended below 0."""
    pieces = zip(*(part.tolist() for part in curve.segments()), strict=True)
    for start, value, slope in reversed(list(pieces)):
        if slope > 0 and (time >= value or start == 0):
            load = start + (time - value) / slope
            return load if math.isfinite(load) else None
        if slope == 0 and time >= value:
            return None
    return 0.0


def _crossing(upper: Curve, lower: Curve) -> float | None:
    """Return the last load beyond which `upper` stays above `lower`; None if it never does."""
    first, second = upper.segments(), lower.segments()
    starts = sorted({*map(float, first.starts), *map(float, second.starts)})
    for left in reversed(starts):
        slope = _slope(upper, left) - _slope(lower, left)
        gap = upper(left) - lower(left)
        if slope > 0 and (gap <= 0 or left == 0):
            load = left - gap / slope
            return load if math.isfinite(load) else None
        if left == starts[-1] and (slope < 0 or gap <= 0):  # what rises less falls behind again
            return None
    return 0.0


def _slope(curve: Curve, load: float) -> float:
    starts, _, slopes = curve.segments()
    return float(slopes[starts <= load][-1])
