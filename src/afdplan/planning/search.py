"""Which design is best under the limits, exactly?

Branch and bound in three stages, each with a bound that no design can beat: a bound per (devices
per attention worker, m, B) over all ratios A/F; a bound per pair from mean loads; a bound per
pair with the barrier of the attention side. Only pairs that survive are evaluated exactly, best
bound first, until no bound left beats the best design found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from afdplan.lengths.law import LengthLaw
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.planning.design import Design, PlannedDesign, StepSummary
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.source import LatencySource
from afdplan.planning.space import PairLattice, SearchSpace
from afdplan.planning.step_models import Combination, StepModels
from afdplan.theory.cycle import StageTimes

__all__ = ["DesignSearch"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CHUNK = 16
FEW_PAIRS = 48
"""So few pairs are evaluated at once rather than bounded again."""
RATIO_BLOCKS = 192
TIE = 1e-9
"""Relative difference of scores that counts as a tie."""
FIRST_DEVICES = 64
MOST_DEVICES = 8192
"""Largest bundle considered without a budget."""
STEP_PROBABILITIES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A design that was evaluated exactly, in the order of preference."""

    score: float
    design: Design

    def beats(self, other: _Candidate | None) -> bool:
        """Return whether this one is to be preferred: score, then fewer devices, smaller batch."""
        if other is None:
            return True
        if abs(self.score - other.score) > TIE * max(abs(self.score), abs(other.score)):
            return self.score > other.score
        return _rank(self.design) < _rank(other.design)


def _rank(design: Design) -> tuple[int, ...]:
    return (
        design.devices,
        design.batch_size,
        design.microbatches,
        design.attention_workers,
        design.ffn_workers,
        design.attention_devices,
    )


@dataclass(frozen=True, slots=True)
class _RatioBlocks:
    """Blocks of r = A / F that cover all pairs, and the F that occur."""

    low: float
    high: float
    ffn_numbers: tuple[int, ...]

    @classmethod
    def over(cls, lattices: Iterable[PairLattice]) -> _RatioBlocks:
        held = [lattice for lattice in lattices if lattice.attention.size]
        return cls(
            min((lattice.ratios[0] for lattice in held), default=1.0),
            max((lattice.ratios[1] for lattice in held), default=1.0),
            tuple(sorted({int(f) for lattice in held for f in lattice.ffn_numbers})),
        )

    @property
    def edges(self) -> FloatArray:
        return np.geomspace(self.low, self.high * (1 + 1e-12), RATIO_BLOCKS + 1)


class DesignSearch:
    """The search over one workload, source and space; limits may change between calls.

    The score is tokens per second and unit of cost. With a budget, idle devices of the budget
    are paid for too (at the cheaper side's cost), so that the score grows with the total; with a
    rate, only the rate that is asked for counts, so that the score falls with the cost.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    source
        Stage times and memory.
    space
        Candidates.
    cost
        Of a device of each side.
    """

    def __init__(
        self, law: LengthLaw, source: LatencySource, space: SearchSpace, cost: DeviceCost
    ) -> None:
        self.law = law
        self.source = source
        self.space = space
        self.cost = cost
        self.models = StepModels(law, source)
        self.evaluated = 0
        self._memories: dict[int, CacheMemory | None] = {}
        self._envelopes: dict[tuple[int, _RatioBlocks], StageTimes] = {}
        self._block_scores: dict[
            tuple[str, _RatioBlocks], dict[Combination, FloatArray]
        ] = {}
        self._lattices: dict[tuple[Any, ...], PairLattice] = {}
        self._memory_factor = 1.0
        self._sums: dict[tuple[Any, ...], CacheSums] = {}
        first = self.models.attention_side(source.attention_devices[0], space.batch_sizes[0])
        self.tokens_per_step = first.tokens_per_step

    def best(self, limits: Limits, space: SearchSpace | None = None) -> PlannedDesign | None:
        """Return the best design under `limits`, or None if there is none.

        Parameters
        ----------
        limits
            All of them.
        space
            Candidates, in place of those of the search; must share its batch sizes.

        Notes
        -----
        Exact over the space. Without a budget, bundles of up to 8,192 devices are considered.
        """
        space = space or self.space
        if limits.devices is not None:
            found = self._best(limits, space, limits.devices)
        else:
            found, most = None, FIRST_DEVICES
            while found is None and most <= MOST_DEVICES:
                found, most = self._best(limits, space, most), 4 * most
            if found is not None and self.cost.per == "device":
                # No larger bundle than all devices of this plan can need fewer devices.
                wider = min(found.design.devices, MOST_DEVICES)
                found = self._best(limits, space, wider, found) or found
            elif found is not None:
                cheapest = min(self.cost.attention, self.cost.ffn)
                wider = self.cost_of(found.design, limits) / cheapest
                found = self._best(limits, space, min(int(wider), MOST_DEVICES), found) or found
        return None if found is None else self.describe(found.design, limits)

    def describe(self, design: Design, limits: Limits) -> PlannedDesign:
        """Return everything about one design; nothing is held against the limits."""
        pair = np.array([design.attention_workers]), np.array([design.ffn_workers])
        combination = (design.attention_devices, design.microbatches, design.batch_size)
        times = self.models.evaluate(combination, *pair, STEP_PROBABILITIES)
        median, p95, p99 = (float(t) for t in times.quantiles[0])
        mean = float(times.mean[0])
        tokens = design.slots * self.tokens_per_step / mean
        memory = self.memory(design.attention_devices)
        requests = design.requests_per_attention_worker
        cost = self.cost.of(
            design.bundles * design.attention_workers * design.attention_devices,
            design.bundles * design.ffn_workers * design.ffn_devices,
        )
        counted = tokens
        if limits.requests_per_second is not None:
            counted = limits.requests_per_second * self.law.mean_decode_tokens
        return PlannedDesign(
            design=design,
            step_time=StepSummary(mean=mean, p50=median, p95=p95, p99=p99),
            tokens_per_step=self.tokens_per_step,
            tokens_per_second=tokens,
            requests_per_second=tokens / self.law.mean_decode_tokens,
            cost=cost,
            score=counted / self.cost_of(design, limits),
            memory_overflow_probability=memory.overflow_probability(requests) if memory else 0.0,
            memory_mean_fraction=memory.mean_fraction(requests) if memory else 0.0,
            attention_idle_fraction=float(times.attention_idle_fraction[0]),
            ffn_idle_fraction=float(times.ffn_idle_fraction[0]),
        )

    def memory(self, attention_devices: int) -> CacheMemory | None:
        """Return the KV memory of a worker with so many devices; None without a limit."""
        if attention_devices not in self._memories:
            space = self.source.cache(attention_devices)
            self._memories[attention_devices] = (
                None if space is None else self.memory_of(space.scaled(self._memory_factor))
            )
        return self._memories[attention_devices]

    def memory_of(self, space: CacheSpace) -> CacheMemory:
        """Return the KV memory of a space; laws are shared between spaces of like kinds."""
        first = space.kinds[0].bytes_per_token
        key = tuple((round(k.bytes_per_token / first, 9), k.window) for k in space.kinds)
        if key not in self._sums:
            self._sums[key] = CacheSums(self.law, space.kinds)
        return CacheMemory(self._sums[key], space)

    def with_memory(self, factor: float) -> DesignSearch:
        """Return the search with `factor` times the KV memory; all laws stay shared."""
        other = copy.copy(self)
        other._memory_factor = factor
        other._memories = {}
        return other

    def cost_of(self, design: Design, limits: Limits) -> float:
        """Return the cost that the score counts, idle devices of a budget included."""
        used = self.cost.of(
            design.bundles * design.attention_workers * design.attention_devices,
            design.bundles * design.ffn_workers * design.ffn_devices,
        )
        if limits.devices is None or limits.requests_per_second is not None:
            return used
        return used + self.cost.idle * (limits.devices - design.devices)

    def combinations(self, limits: Limits, space: SearchSpace | None = None) -> list[Combination]:
        """Return every (devices per attention worker, m, B) whose requests fit the memory."""
        space = space or self.space
        found = []
        for devices in self.source.attention_devices:
            memory = self.memory(devices)
            most: float = math.inf
            if memory is not None:
                sizes = {m * b for m, b in product(space.microbatches, space.batch_sizes)}
                most = memory.largest_fitting(sorted(sizes), limits.overflow_probability)
            found += [
                (devices, m, b)
                for m, b in product(space.microbatches, space.batch_sizes)
                if m * b <= most
            ]
        return found

    def lattice(
        self, limits: Limits, space: SearchSpace, attention_devices: int, most_devices: int
    ) -> PairLattice:
        """Return the legal pairs; built once."""
        key = (
            attention_devices,
            most_devices,
            limits.devices,
            limits.node_devices,
            space.target.name,
            space.max_attention_workers,
            space.ffn_workers,
        )
        if key not in self._lattices:
            self._lattices[key] = PairLattice.build(
                self.source, space, limits, self.cost, attention_devices, most_devices
            )
        return self._lattices[key]

    def _best(
        self,
        limits: Limits,
        space: SearchSpace,
        most_devices: int,
        incumbent: _Candidate | PlannedDesign | None = None,
    ) -> _Candidate | None:
        best: _Candidate | None = None
        if incumbent is not None:
            best = _Candidate(score=incumbent.score, design=incumbent.design)
        lattices = {
            devices: self.lattice(limits, space, devices, most_devices)
            for devices in self.source.attention_devices
        }
        blocks = _RatioBlocks.over(lattices.values())
        combinations = [c for c in self.combinations(limits, space) if lattices[c[0]].attention.size]
        if not combinations:
            return best
        bounds = self._ratio_bounds(combinations, blocks, limits)
        ranked = sorted(zip(bounds.tolist(), combinations, strict=True), key=lambda i: (-i[0], i[1]))
        for bound, combination in ranked:
            if bound <= 0 or (best is not None and bound < best.score * (1 - TIE)):
                break
            best = self._best_pair(combination, lattices[combination[0]], limits, best)
        return best

    def _ratio_bounds(
        self, combinations: list[Combination], blocks: _RatioBlocks, limits: Limits
    ) -> FloatArray:
        """Bound the score over all pairs of each (m, B): block by block of r = A / F.

        In a block, cost per token is least at its upper end and the step at its lower end; FFN
        and transfer times are the least of all F.
        """
        known = self._block_scores.setdefault((limits.statistic, blocks), {})
        ffn_cost = self.cost.ffn * self.source.ffn_devices / blocks.edges[1:]
        for combination in combinations:
            if combination in known:
                continue
            devices, microbatches, batch_size = combination
            if (batch_size, blocks) not in self._envelopes:
                self._envelopes[batch_size, blocks] = self._envelope(batch_size, blocks)
            stages = self._envelopes[batch_size, blocks]
            mean, statistic = self.models.rough_bounds(combination, stages, limits)
            per_worker = self.cost.attention * devices + ffn_cost
            slots = microbatches * batch_size
            score = slots * self.tokens_per_step / (mean * per_worker)
            known[combination] = np.stack([score, statistic])
        rows = np.stack([known[combination] for combination in combinations])
        bounds: FloatArray = np.where(self._meets(rows[:, 1], limits), rows[:, 0], 0.0).max(axis=1)
        return bounds

    def _envelope(self, batch_size: int, blocks: _RatioBlocks) -> StageTimes:
        """Return the least FFN and transfer times of all F at the lower end of each block."""
        low = blocks.edges[:-1]
        numbers = blocks.ffn_numbers[:1] if self.source.shares_ffn_times else blocks.ffn_numbers
        # The real pair (r F, F) stands for the block: loads depend on A / F only.
        rows = [self.models.stages(low * f, np.full(low.size, f), batch_size) for f in numbers]
        return StageTimes(
            attention_workers=low,
            ffn=np.min([row.ffn for row in rows], axis=0),
            out=np.min([row.out for row in rows], axis=0),
            back=np.min([row.back for row in rows], axis=0),
        )

    def _meets(self, statistic: FloatArray, limits: Limits) -> npt.NDArray[np.bool_]:
        if limits.time_per_output_token is None:
            return np.ones(statistic.shape, dtype=bool)
        return statistic <= limits.time_per_output_token * self.tokens_per_step * (1 + TIE)

    def _best_pair(
        self,
        combination: Combination,
        lattice: PairLattice,
        limits: Limits,
        best: _Candidate | None,
    ) -> _Candidate | None:
        index = np.arange(lattice.attention.size)
        for bounds in (self.models.rough_bounds, self.models.tight_bounds):
            if bounds == self.models.tight_bounds and index.size <= FEW_PAIRS:
                break
            stages = self.models.stages(
                lattice.attention[index], lattice.ffn[index], combination[2]
            )
            mean, statistic = bounds(combination, stages, limits)
            score, _ = self._scores(combination, lattice, index, mean, limits)
            kept = self._meets(statistic, limits) & (score > 0)
            if best is not None:
                kept &= score >= best.score * (1 - TIE)
            index, score = index[kept], score[kept]
            if not index.size:
                return best
        order = np.lexsort((lattice.bundle_devices[index], -score))
        index, score = index[order], score[order]
        chances = () if limits.probability is None else (limits.probability,)
        for start in range(0, index.size, CHUNK):
            if best is not None and score[start] < best.score * (1 - TIE):
                break
            chunk = index[start : start + CHUNK]
            times = self.models.evaluate(
                combination, lattice.attention[chunk], lattice.ffn[chunk], chances
            )
            self.evaluated += chunk.size
            exact, bundles = self._scores(combination, lattice, chunk, times.mean, limits)
            held = times.quantiles[:, 0] if chances else times.mean
            for at in np.flatnonzero(self._meets(held, limits) & (exact > 0)):
                candidate = _Candidate(
                    score=float(exact[at]),
                    design=self._design(combination, lattice, int(chunk[at]), int(bundles[at])),
                )
                if candidate.beats(best):
                    best = candidate
        return best

    def _scores(
        self,
        combination: Combination,
        lattice: PairLattice,
        index: IntArray,
        step_time: FloatArray,
        limits: Limits,
    ) -> tuple[FloatArray, IntArray]:
        """Return the score of each pair, 0 where no number of bundles will do, and the bundles."""
        _, microbatches, batch_size = combination
        slots = microbatches * batch_size * lattice.attention[index]
        tokens = slots * self.tokens_per_step / step_time
        unit, cost = lattice.unit[index], lattice.bundle_cost[index]
        if limits.requests_per_second is not None:
            goal = limits.requests_per_second * self.law.mean_decode_tokens
            groups = np.ceil(goal * (1 - TIE) / (tokens * unit))
            bundles = (np.maximum(groups, 1.0) * unit).astype(np.int64)
            score = goal / (bundles * cost)
            if limits.devices is not None:
                score = np.where(bundles <= lattice.most_bundles[index], score, 0.0)
            return score, bundles
        bundles = lattice.most_bundles[index]
        assert limits.devices is not None
        idle = limits.devices - bundles * lattice.bundle_devices[index]
        score = bundles * tokens / (bundles * cost + self.cost.idle * idle)
        return score, bundles

    def _design(
        self, combination: Combination, lattice: PairLattice, index: int, bundles: int
    ) -> Design:
        devices, microbatches, batch_size = combination
        return Design(
            bundles=bundles,
            attention_workers=int(lattice.attention[index]),
            ffn_workers=int(lattice.ffn[index]),
            batch_size=batch_size,
            microbatches=microbatches,
            attention_devices=devices,
            ffn_devices=lattice.ffn_devices,
        )

    def fastest(self, limits: Limits) -> PlannedDesign | None:
        """Return the design with the least limited statistic, whatever its throughput."""
        free = replace(limits, time_per_output_token=None, requests_per_second=None)
        if free.devices is None:
            free = replace(free, devices=MOST_DEVICES)
        smallest: dict[tuple[int, int], int] = {}
        for devices, m, b in self.combinations(free):
            smallest[devices, m] = min(b, smallest.get((devices, m), b))
        best: PlannedDesign | None = None
        for (devices, m), b in smallest.items():
            lattice = self.lattice(free, self.space, devices, min(free.devices or 1, MOST_DEVICES))
            # For every F the step grows with A: only the smallest legal A can be fastest.
            _, first = np.unique(lattice.ffn, return_index=True)
            if not first.size:
                continue
            chances = () if limits.probability is None else (limits.probability,)
            times = self.models.evaluate(
                (devices, m, b), lattice.attention[first], lattice.ffn[first], chances
            )
            held = times.quantiles[:, 0] if chances else times.mean
            at = int(first[int(np.argmin(held))])
            bundles = int(lattice.most_bundles[at])
            found = self.describe(self._design((devices, m, b), lattice, at, bundles), free)
            if best is None or found.step_time.statistic(limits.statistic) < (
                best.step_time.statistic(limits.statistic)
            ):
                best = found
        return best
