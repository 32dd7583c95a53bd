"""How long is a step of every candidate, exactly and at least?

A lower bound of the step time costs a hundredth of its law. With ``S(A)`` the step in which only
attention counts (its own barrier over A workers, f = c = 0) and L layers,

    step(A, f, c) >= overhead + max( S(A), L m f, L m c_stage, S(A) / m + L (f + c) )

because E[max(X, Y)] >= max(E X, E Y) and the largest of m attentions is at least their mean; the
same holds for quantiles. S grows with A, so its value at a smaller A is a bound too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.lengths.law import LengthLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.model import parameters as ask
from afdplan.model.curve import Curve
from afdplan.model.parameters import Placement
from afdplan.model.plan_parameters import STEP_PROBABILITIES
from afdplan.model.stages import AttentionLayers
from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits, limited
from afdplan.planning.source import LatencySource
from afdplan.planning.source_times import SourceTimes
from afdplan.theory.cycle import CycleModel, StepTimes
from afdplan.theory.placement import cycle_model
from afdplan.theory.problem import RatioProblem
from afdplan.theory.shared_times import StageTimes

__all__ = ["StepModels"]


SLACK = 1 - 2e-5
"""Interpolation error of the law that a bound must survive."""
BARRIER_POINTS = 8


class StepModels:
    """Step times of all candidates of one workload and one source; laws are computed once.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    source
        Stage times.
    load_factor
        Scales the load of every slot (> 0).
    placement
        Of requests; balanced loads have no bound from the barrier of a smaller bundle.
    times
        Of the source, where a search over other requests has them already.
    """

    def __init__(
        self,
        law: LengthLaw,
        source: LatencySource,
        load_factor: float = 1.0,
        placement: Placement = ask.PLACEMENT.default,
        times: SourceTimes | None = None,
    ) -> None:
        self.law = law
        self.placement = placement
        self.times = times or SourceTimes(source)
        self._load_factor = load_factor
        self._slots: dict[int | None, SlotLoad] = {}
        self._models: dict[Combination, CycleModel] = {}
        self._known: dict[Combination, dict[tuple[int, int], tuple[Any, ...]]] = {}
        self._barriers: dict[tuple[Combination, int, str], tuple[FloatArray, FloatArray]] = {}
        self._mean_attentions: dict[tuple[int, int], float] = {}
        first = self.times.attention_side(source.attention_devices[0], 1)
        self.tokens_per_step = first.tokens_per_step

    def model(self, combination: Combination) -> CycleModel:
        """Return the law of the attention side; computed once."""
        if combination not in self._models:
            devices, microbatches, batch_size = combination
            latency = self.times.attention_side(devices, batch_size)
            problem = RatioProblem(
                law=self.law,
                latency=latency,
                batch_size=batch_size,
                microbatches=microbatches,
                placement=self.placement,
            )
            slots = tuple(self.slot_of(kind) for kind in latency.attention)
            self._models[combination] = cycle_model(problem, slots)
        return self._models[combination]

    @property
    def grow(self) -> bool:
        """Whether more slots never shorten a step but by faster reading (`least_reading`).

        They may where loads are balanced (more requests enter together) and where a worker's time
        depends on its mean context (which scatters less): there only mean loads bound a step, as
        where transfers occupy workers, and are no longer a part of the way for themselves.
        """
        kinds = self.times.attention_of(self.times.source.attention_devices[0], 1)
        is_balanced = self.placement.startswith("longest-prompt")
        coupling = self.times.attention_side(self.times.source.attention_devices[0], 1).coupling
        if is_balanced or coupling.is_occupying:
            return False
        return all(kind.time_per_context == 0 for kind in kinds)

    @property
    def laws(self) -> int:
        """How many laws of the attention side were computed so far."""
        return len(self._models)

    @property
    def evaluated(self) -> int:
        """How many designs' steps were computed exactly so far."""
        return sum(map(len, self._known.values()))

    def evaluate(
        self,
        combination: Combination,
        attention: IntArray,
        ffn: IntArray,
        probabilities: tuple[float, ...] = (),
    ) -> StepTimes:
        """Return the exact step times of pairs (A, F), shape (n,); each is computed once.

        The `probabilities` are some of `STEP_PROBABILITIES`: all are computed, a design that is
        chosen for its mean is told with them.
        """
        known = self._known.setdefault(combination, {})
        pairs = list(zip(attention.tolist(), ffn.tolist(), strict=True))
        new = np.array([pair not in known for pair in pairs], dtype=bool)
        if new.any():
            stages = self.times.stages(attention[new], ffn[new], combination[2])
            times = self.model(combination).evaluate_stages(stages, STEP_PROBABILITIES)
            rows = zip(*(getattr(times, one.name) for one in fields(StepTimes)), strict=True)
            known.update(zip((pairs[at] for at in np.flatnonzero(new)), rows, strict=True))
        columns = zip(*(known[pair] for pair in pairs), strict=True)
        found = StepTimes(
            **{
                one.name: np.array(column)
                for one, column in zip(fields(StepTimes), columns, strict=True)
            }
        )
        asked = [STEP_PROBABILITIES.index(p) for p in probabilities]
        return replace(found, quantiles=found.quantiles[:, asked])

    def rough_bounds(
        self, combinations: Sequence[Combination], stages: StageTimes, limits: Limits
    ) -> tuple[FloatArray, FloatArray]:
        """Return lower bounds of the mean and of the limited statistic, without any law.

        Shape (combinations, designs); all combinations have the batch size of the stages.
        """
        m = np.array([one.microbatches for one in combinations])
        mean = m * [self._mean_attention(one) for one in combinations]
        expected = self._combine(combinations, stages, mean[:, None])
        if not limits.probabilities:
            return expected, expected
        lowest = m * [self._lowest_attention(one) for one in combinations]
        return expected, self._combine(combinations, stages, lowest[:, None])

    def _lowest_attention(self, combination: Combination) -> float:
        devices, _, batch_size = combination
        lowest = sum(
            kind.layers
            * float(kind.time(max(batch_size * self.slot_of(kind).lowest, 0.0), batch_size))
            for kind in self.times.attention_of(devices, batch_size)
        )
        return lowest + self._occupied(combination)

    def _mean_attention(self, combination: Combination) -> float:
        devices, _, batch_size = combination
        key = (devices, batch_size)
        if key not in self._mean_attentions:
            own = self.least_attention(self.times.attention_of(*key), batch_size)
            self._mean_attentions[key] = own + self._occupied(combination)
        return self._mean_attentions[key]

    def _occupied(self, combination: Combination) -> float:
        """Return for how long transfers occupy an attention worker in a step, per microbatch."""
        any_size = self.times.attention_side(combination.attention_devices, 1)
        if not any_size.coupling.is_occupying:
            return 0.0
        side = self.times.attention_side(combination.attention_devices, combination.batch_size)
        occupied = side.coupling.attention_occupied(side.send, side.receive, combination.batch_size)
        return side.layers * occupied

    def least_attention(self, kinds: tuple[AttentionLayers, ...], batch_size: int) -> float:
        """Return the least mean time of attention in a step; for linear curves it is the mean."""
        return sum(
            kind.layers
            * (
                convex_floor(kind.curve, batch_size * self.mean_load(kind))
                + kind.time_per_request * batch_size
                + kind.time_per_context * self.mean_load(kind)
            )
            for kind in kinds
        )

    def tight_bounds(
        self,
        combination: Combination,
        stages: StageTimes,
        limits: Limits,
        barrier_of: Combination | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return lower bounds of the mean and of the limited statistic, barrier included.

        Parameters
        ----------
        combination
            Devices, m and B.
        stages
            Of the pairs (A, F).
        limits
            Which statistic.
        barrier_of
            The same with a smaller B, whose law is known. More slots never shorten attention but
            by what their reading is faster (`least_reading`); and since
            E max_j (T_j + Y_j) >= E max_j T_j + E Y for independent Y, its mean grows by at least
            what the mean load does, if time is linear in the load.
        """
        devices, microbatches, batch_size = combination
        known = barrier_of or combination
        if any(kind.time_per_context > 0 for kind in self.model(known).problem.latency.attention):
            known = combination  # a slot's load counts for less among more of them
        most = int(stages.attention_workers.max())
        key = (known, most, limits.statistic)
        if key not in self._barriers:
            grid = np.unique(np.round(np.geomspace(1, most, BARRIER_POINTS)))
            nothing = np.zeros_like(grid)
            alone = StageTimes(attention_workers=grid, ffn=nothing, out=nothing, back=nothing)
            times = self.model(known).evaluate_stages(alone, limits.probabilities)
            overhead = self.model(known).problem.latency.step_overhead
            self._barriers[key] = grid, np.stack([times.mean, limited(times)]) - overhead
        grid, barrier = self._barriers[key]
        at = np.searchsorted(grid, stages.attention_workers, side="right") - 1
        alone_mean, alone_statistic = barrier
        if known != combination:
            share, _ = self.least_reading(known, (batch_size,))
            added = self.added_attention(known, combination)
            kinds = self.times.attention_of(devices, batch_size)
            longer = sum(kind.layers * more for kind, more in zip(kinds, added, strict=True))
            alone_mean = share * alone_mean + microbatches * longer
            alone_statistic = share * alone_statistic if limits.probabilities else alone_mean
        (mean,) = self._combine([combination], stages, alone_mean[at])
        if not limits.probabilities:
            return mean, mean
        (statistic,) = self._combine([combination], stages, alone_statistic[at])
        return mean, statistic

    def added_attention(self, smaller: Combination, larger: Combination) -> FloatArray:
        """Return by how much more slots lengthen a layer of each kind, at least [time].

        Beside the share of its time that is left of a token's: see `least_reading`.
        """
        _, steepness = self.least_reading(smaller, (larger.batch_size,))
        more = larger.batch_size - smaller.batch_size
        return np.maximum(steepness * more + self.added_requests(smaller, larger), 0.0)

    def added_requests(self, smaller: Combination, larger: Combination) -> FloatArray:
        """Return the part of it that their number adds, whatever their contexts are [time]."""
        devices, _, batch_size = smaller
        sides = [self.times.attention_of(devices, b) for b in (batch_size, larger.batch_size)]
        return np.array(
            [
                0.0
                if large.time_per_context
                else large.time_per_request * larger.batch_size
                - small.time_per_request * batch_size
                for small, large in zip(*sides, strict=True)
            ]
        )

    def least_reading(self, base: Combination, sizes: Iterable[int]) -> tuple[float, FloatArray]:
        """Return what reading takes at least at larger sizes, where blocks fill rounds better.

        A worker's time at any of them is at least `share` times that at the base for the same
        slots, and `steepness` for each further one.

        Returns
        -------
        share
            At most 1, which it is where times do not depend on the batch size.
        steepness
            Of a slot of mean load, by kind of layer, shape (kinds,) [time/request].
        """
        devices, _, batch_size = base
        here = self.times.attention_of(devices, batch_size)
        share, steepness = 1.0, np.full(len(here), np.inf)
        for size in sizes:
            there = self.times.attention_of(devices, size)
            for at, (small, large) in enumerate(zip(here, there, strict=True)):
                share = min(share, _least_share(small.curve, large.curve))
                slope = 0.0 if large.time_per_context else large.curve.segments()[2].min()
                steepness[at] = min(steepness[at], slope)
        return share, steepness * [self.mean_load(kind) for kind in here]

    def _combine(
        self, combinations: Sequence[Combination], stages: StageTimes, attention: FloatArray
    ) -> FloatArray:
        """Return the bound at so long attention in a step, shape (combinations, designs)."""
        sides = [self.times.attention_side(one.attention_devices, 1) for one in combinations]
        facts = [(side.layers, side.step_overhead) for side in sides]  # no batch size changes them
        layers, overhead = np.array(facts).T[:, :, None]
        m = np.array([[one.microbatches] for one in combinations])
        busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        trip = attention / m + layers * stages.trip
        longest = np.maximum(np.maximum(attention, layers * m * busiest), trip)
        bound: FloatArray = SLACK * (overhead + longest)
        return bound

    def slot_of(self, kind: AttentionLayers) -> SlotLoad:
        """Return the law of a slot's load as these layers see it; computed once per window."""
        if kind.context_window not in self._slots:
            window, factor = kind.context_window, self._load_factor
            # The window cuts the scaled load: min(k y, w) = k min(y, w / k).
            cut = None if window is None else max(round(window / factor), 1)
            self._slots[window] = self.law.slot_load(cut).stretched(factor)
        return self._slots[kind.context_window]

    def mean_load(self, kind: AttentionLayers) -> float:
        """Return theta as these layers see it [tokens]."""
        return self.slot_of(kind).moments.mean


def _least_share(curve: Curve, other: Curve) -> float:
    """Return the largest share, at most 1, of `curve` that `other` is never below."""
    if curve == other:
        return 1.0
    (starts, *parts), (other_starts, *other_parts) = curve.segments(), other.segments()
    if not np.array_equal(starts, other_starts):
        return 0.0
    known, found = np.concatenate(parts), np.concatenate(other_parts)
    shares = np.divide(found, known, out=np.ones_like(known), where=known > 0)
    return float(min(shares.min(), 1.0))


def convex_floor(curve: Curve, load: float) -> float:
    """Return a convex function below `curve` at `load`: a lower bound of E[t(T)] for E[T] = load.

    Examples
    --------
    >>> from afdplan.model.curve import TabulatedCurve
    >>> convex_floor(TabulatedCurve(loads=[0, 10, 20], times=[0.0, 8.0, 10.0]), 10.0)
    2.0
    """
    starts, values, slopes = curve.segments()
    last = float(slopes[-1])
    if np.all(np.diff(slopes) >= 0):
        return float(curve(load))
    # A line of slope s, at most the last one, stays below the curve if it does at every knot.
    candidates = np.unique(np.minimum(slopes, last))
    chords = (values[None, :] - values[:, None])[np.triu_indices(starts.size, 1)]
    widths = (starts[None, :] - starts[:, None])[np.triu_indices(starts.size, 1)]
    chord_slopes = np.divide(chords, widths, out=np.zeros_like(chords), where=widths > 0)
    candidates = np.append(candidates, chord_slopes[chord_slopes <= last])
    intercepts = (values[None, :] - candidates[:, None] * starts[None, :]).min(axis=1)
    return float(max((intercepts + candidates * load).max(), values[0]))
