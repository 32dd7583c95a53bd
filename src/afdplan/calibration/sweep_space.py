"""Which coefficients may a sweep move, how likely is each a priori, and which fit best?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.calibration.least_squares import least_squares
from afdplan.calibration.posterior import posterior_draws
from afdplan.calibration.sweep_round import COLUMNS, SweepRound
from afdplan.model.latency import LatencyModel
from afdplan.model.sweep import RatioSweep

__all__ = ["SweepSpace", "expected_coefficients", "sweep_space"]


_SEED = 20260121
_TRIP_SHARE = 0.05
"""Mean a priori of the exposed trip over the longest microbatch time: transfers mostly hide, but
a limit of zero would push what little shows into the FFN line (see the user guide)."""

_PRIOR_SPREAD = np.log(1.5)
"""A prior model is trusted to a factor of 1.5 (one standard deviation)."""

_PRIOR_TAIL = 3.0
"""Degrees of freedom of a prior model's error: one that is far off gives way to the data."""

_TOLD_APART = 0.1
"""What requests and their length add must vary by this share beyond what the tokens explain."""

_STARTS, _START_TIE, _TIE = 24, 0.1, 0.01
"""Draws from which the best point is sought; weight of what the data leave open against them, in
choosing those draws and in the search itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepSpace:
    """A box of coefficients around what stays fixed.

    Attributes
    ----------
    sweep, form
        The points, and what is known of their rounds.
    free
        Indices into `COLUMNS` of what moves; shares beyond the first are those of what is left.
    low, high
        Corners of the box, in units of `scale`, shape (8,).
    scale
        Unit of each coefficient, shape (8,).
    rest
        Values of what does not move, shape (8,).
    """

    sweep: RatioSweep
    form: SweepRound
    free: tuple[int, ...]
    low: FloatArray
    high: FloatArray
    scale: FloatArray
    rest: FloatArray

    def complete(self, points: FloatArray) -> FloatArray:
        """Return all coefficients of points of the box, shape (points, 8)."""
        free = list(self.free)
        every: FloatArray = np.broadcast_to(self.rest, (points.shape[0], len(COLUMNS))).copy()
        every[:, free] = points * self.scale[free]
        if 6 in free:
            left = 1 - every[:, 1]
            every[:, 6] *= left
            every[:, 7] *= left - every[:, 6]
        return every

    def misses(self, every: FloatArray) -> FloatArray:
        """Return fitted over measured step times, minus 1, shape (points, sweep)."""
        with np.errstate(over="ignore"):  # infinitely unlikely: refused by whoever draws
            return self.form.times(every, self.sweep) / self.sweep.step_times - 1.0

    def misfit(self, every: FloatArray) -> float:
        """Return the least root-mean-square relative error among points of all coefficients."""
        return float(np.sqrt((self.misses(every) ** 2).mean(axis=1)).min())

    def draws(self, noise: float, expected: FloatArray | None) -> FloatArray:
        """Return points (all coefficients) as likely as the data and the prior make them.

        Parameters
        ----------
        noise
            Relative error of a step time.
        expected
            A prior's coefficients.
        """
        free = list(self.free)
        lent = () if expected is None else tuple(k for k in (0, 2, 3, 4) if expected[k] > 0)

        def log_density(points: FloatArray) -> FloatArray:
            every = self.complete(points)
            with np.errstate(over="ignore"):
                density: FloatArray = -0.5 * ((self.misses(every) / noise) ** 2).sum(axis=1)
            if 4 in free and 4 not in lent:
                density = density - every[:, 4] / (_TRIP_SHARE * self.scale[4])
            for k in lent:
                if k in free and expected is not None:
                    ratio = np.maximum(every[:, k], 1e-300) / expected[k]
                    error = (np.log(ratio) / _PRIOR_SPREAD) ** 2
                    density = density - (_PRIOR_TAIL + 1) / 2 * np.log1p(error / _PRIOR_TAIL)
            return density

        generator = np.random.default_rng(_SEED)
        return self.complete(
            posterior_draws(log_density, self.low[free], self.high[free], generator)
        )

    def best(
        self, draws: FloatArray, noise: float, wanted: Callable[[FloatArray], FloatArray]
    ) -> FloatArray:
        """Return the one point that is nearest to the data, shape (8,).

        Parameters
        ----------
        draws
            Where to start: all coefficients of likely points.
        noise
            Relative error of a step time.
        wanted
            What decides where the data leave a choice: how far points (all coefficients) miss a
            wish, relative, shape (points, n).
        """
        moved = [k for k in self.free if k != 5]  # a model file has no soft maximum

        def all_of(points: FloatArray) -> FloatArray:
            whole = np.zeros((points.shape[0], len(COLUMNS)))
            whole[:, moved] = points
            return self.complete(whole[:, list(self.free)])

        def residuals(every: FloatArray, tie: float) -> FloatArray:
            times = self.form.times(every, self.sweep, "hard")
            misses = times / self.sweep.step_times - 1.0
            return np.concatenate([misses, tie * wanted(every)], axis=1) / noise

        nearest = np.argsort((residuals(draws, _START_TIE) ** 2).sum(axis=1))[:_STARTS]
        found = least_squares(
            lambda points: residuals(all_of(points), _TIE),
            self._inverse(draws[nearest])[:, moved],
            self.low[moved],
            self.high[moved],
        )
        best: FloatArray = all_of(found[None, :])[0]
        return best

    def _inverse(self, every: FloatArray) -> FloatArray:
        """Return the points of the box that `complete` makes these of, shape (points, 8)."""
        points = every / self.scale
        if 6 in self.free:
            left = 1 - every[:, 1]
            points[:, 6] = every[:, 6] / np.maximum(left, 1e-12)
            points[:, 7] = every[:, 7] / np.maximum(left - every[:, 6], 1e-12)
        return points


def sweep_space(
    sweep: RatioSweep, form: SweepRound, transfer_time: float | None, expected: FloatArray | None
) -> SweepSpace:
    """Return what the points can tell apart, and the box in which it lies.

    Parameters
    ----------
    sweep, form
        The points, and what is known of their rounds.
    transfer_time
        c there and back if it is known [s].
    expected
        A prior's coefficients, for the shares of attention that these points cannot tell.
    """
    rounds = (sweep.step_times - form.step_overhead) / form.layers
    # No stage of a layer can take longer than the longest round.
    unit = float((rounds / np.where(sweep.microbatches > 1, sweep.microbatches, 1)).max())
    rest = np.zeros(len(COLUMNS))
    rest[4] = transfer_time or 0.0
    if expected is not None:
        rest[[1, 6, 7]] = expected[[1, 6, 7]]
    free = [0, 2, 3]
    if np.ptp(sweep.attention_tokens) > 0.2 * form.tokens:
        free.append(1)
    if _lengths_tell(sweep):
        free += [6, 7]
        rest[1] = 0.0
    free += [4] if transfer_time is None else []
    free += [5] if form.maximum == "soft" else []
    return SweepSpace(
        sweep=sweep,
        form=form,
        free=tuple(sorted(free)),
        low=np.array([0, 0, 0, 0, 0, np.log(2.0), 0, 0]),
        high=np.array([1.5, 1.0, 1.5, 1.5, 1.5, np.log(100.0), 1.0, 1.0]),
        scale=np.array([unit, 1.0, unit, unit / sweep.ffn_tokens.max(), unit, 1.0, 1.0, 1.0]),
        rest=rest,
    )


def _lengths_tell(sweep: RatioSweep) -> bool:
    """Return whether points of equal KV tokens have different mean lengths."""
    design = np.column_stack([np.ones(sweep.count), sweep.attention_tokens])
    design /= np.linalg.norm(design, axis=0)
    line, *_ = np.linalg.lstsq(design, sweep.mean_tokens, rcond=1e-6)
    left = sweep.mean_tokens - design @ line
    return float(np.ptp(left)) > _TOLD_APART * float(sweep.mean_tokens.mean())


def expected_coefficients(prior: LatencyModel, sweep: RatioSweep, form: SweepRound) -> FloatArray:
    """Return a prior's coefficients in the order of `COLUMNS`, shape (8,)."""
    layers = prior.layers
    size, tokens = round(form.requests), float(sweep.ffn_tokens.mean())

    def attention(kv_tokens: float, requests: int) -> float:
        kinds = prior.attention
        return sum(k.layers * float(k.time(kv_tokens, requests)) for k in kinds) / layers

    at_reference = attention(form.tokens, size)
    idle, empty = attention(0.0, size), attention(0.0, 0)
    low, high = float(sweep.ffn_tokens.min()), float(sweep.ffn_tokens.max())
    if low == high:
        low = 0.5 * high
    slope = float(prior.ffn(high) - prior.ffn(low)) / (high - low)
    expected = np.zeros(len(COLUMNS))
    expected[0] = at_reference
    if at_reference > 0:
        length = sum(k.layers * k.time_per_context for k in prior.attention) / layers
        shares = np.array([empty, idle - empty, length * form.tokens / form.requests])
        expected[[1, 6, 7]] = shares / at_reference
    expected[2] = max(float(prior.ffn(high)) - slope * high, 0.0)
    expected[3] = slope
    expected[4] = sum(link.time(form.requests, tokens) for link in (prior.send, prior.receive))
    return expected
