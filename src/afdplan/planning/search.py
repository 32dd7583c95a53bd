"""Which design is best under the limits, exactly?

Branch and bound, with bounds that no design can beat: per (devices per attention worker, m, B) and
block of ratios A/F; per pair from mean loads; per pair with the barrier of the attention side; per
pair and range of batch sizes from an exact step (`batch_search`). Only what survives is evaluated
exactly, best bound first, until none left beats the best design found.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from afdplan.arrays import IntArray
from afdplan.lengths.law import LengthLaw
from afdplan.model.plan_parameters import STEP_PROBABILITIES
from afdplan.planning.batch_search import BatchSearch
from afdplan.planning.design import Candidate, Combination, Design, PlannedDesign, StepSummary
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.pair_scores import PairScores
from afdplan.planning.ratio_blocks import RatioBlocks
from afdplan.planning.ratio_bounds import RatioBounds
from afdplan.planning.score import Score
from afdplan.planning.source import LatencySource
from afdplan.planning.source_times import SourceTimes
from afdplan.planning.space import PairLattice, SearchSpace
from afdplan.planning.step_line import StepLines
from afdplan.planning.step_models import StepModels
from afdplan.planning.worker_memories import WorkerMemories

__all__ = ["DesignSearch"]


FIRST_DEVICES = 64
MOST_DEVICES = 2048
"""Largest bundle considered."""


class DesignSearch:
    """The search over one workload, source and space; limits may change between calls.

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
    load_factor
        Scales the load of every slot (> 0), to ask what another mean load would do.
    times
        Of the source, where a search over other requests has them already.
    """

    def __init__(
        self,
        law: LengthLaw,
        source: LatencySource,
        space: SearchSpace,
        cost: DeviceCost,
        *,
        load_factor: float = 1.0,
        times: SourceTimes | None = None,
    ) -> None:
        self.law = law
        self.source = source
        self.space = space
        self.score = Score(cost=cost, tokens_per_request=law.mean_decode_tokens)
        self.models = StepModels(law, source, load_factor, space.placement, times)
        self.pairs = PairScores(self.models, self.score)
        self.memories = WorkerMemories(law, source, load_factor=load_factor)
        self._lines = StepLines(self.models)
        self._ratio_bounds = RatioBounds(self.models, self.score, source.ffn_devices)
        self._lattices: dict[tuple[Any, ...], PairLattice] = {}
        self.tokens_per_step = self.models.tokens_per_step
        # Searches over the same requests that are kept with this one, by their class.
        self.beside: dict[type, Any] = {}

    def best(
        self,
        limits: Limits,
        space: SearchSpace | None = None,
        known: PlannedDesign | None = None,
    ) -> PlannedDesign | None:
        """Return the best design under `limits`, or None if there is none.

        Parameters
        ----------
        limits
            All of them.
        space
            Candidates, in place of those of the search.
        known
            A design of the space that is known to meet `limits`, with as many bundles as its rate
            takes: what it beats is not looked at.

        Notes
        -----
        Exact over the space, with bundles of up to 2,048 devices.
        """
        space = space or self.space
        start = None if known is None else self.refilled(known.design, limits)
        if limits.devices is not None:
            found = self._best(limits, space, limits.devices, start)
            if found is None and space.fills_gaps and limits.requests_per_second is not None:
                most = self.best(replace(limits, requests_per_second=None), space)
                goal = (limits.wanted_rate or 0.0) * (1 - TIE)
                if most is not None and most.requests_per_second >= goal:
                    start = self.describe(most.design, limits)
                    found = self._best(limits, space, limits.devices, start)
        elif start is not None and start.design.bundle_devices <= MOST_DEVICES:
            found = self._best(limits, space, self._paid(start.design, limits)[1], start)
        else:
            found, size = None, FIRST_DEVICES
            while found is None and size <= MOST_DEVICES:
                found, size = self._best(limits, space, size), 4 * size
            # No bundle that alone costs more than this plan can be cheaper.
            wider = 0 if found is None else self._paid(found.design, limits)[1]
            if wider > size // 4:
                found = self._best(limits, space, wider, found) or found
        if found is not None and limits.requests_per_second is not None:
            # Of all that cost as little, the one that gives most: a larger batch is free.
            cost, wider = self._paid(found.design, limits)
            filled = replace(limits, requests_per_second=None, most_cost=cost)
            start = self.describe(found.design, filled)
            found = self._best(filled, space, wider, start) or found
        return None if found is None else self.describe(found.design, limits)

    def refilled(self, design: Design, limits: Limits) -> PlannedDesign | None:
        """Return a design with as many bundles as the rate takes; None if the budget has fewer.

        Without a rate the bundles stay.
        """
        if limits.requests_per_second is None:
            return self.describe(design, limits)
        one = replace(design, bundles=1)
        sides = one.devices_by_side
        tokens, unit = self.describe(one, limits).tokens_per_second, limits.bundle_unit(*sides)
        bundles = int(self.score.bundles(tokens, *sides, unit, 0, limits))
        if limits.devices is not None and bundles * one.devices > limits.devices:
            return None
        return self.describe(replace(design, bundles=bundles), limits)

    def _paid(self, design: Design, limits: Limits) -> tuple[float, int]:
        """Return the cost of a design, and how many devices it could pay for at most."""
        paid = float(self.score.cost_of(*design.devices_by_side, limits))
        most = int(paid * (1 + TIE) / self.score.cost.idle)
        return paid, min(most, limits.devices or most, MOST_DEVICES)

    def describe(self, design: Design, limits: Limits) -> PlannedDesign:
        """Return everything about one design; nothing is held against the limits."""
        pair = np.array([design.attention_workers]), np.array([design.ffn_workers])
        times = self.models.evaluate(design.combination, *pair, STEP_PROBABILITIES)
        median, p95, p99 = (float(t) for t in times.quantiles[0])
        mean = float(times.mean[0])
        tokens = design.slots * self.tokens_per_step / mean
        memory = self.memories.of_worker(design.attention_devices)
        requests = design.requests_per_attention_worker
        return PlannedDesign(
            design=design,
            step_time=StepSummary(mean=mean, p50=median, p95=p95, p99=p99),
            tokens_per_step=self.tokens_per_step,
            tokens_per_second=tokens,
            requests_per_second=tokens / self.law.mean_decode_tokens,
            cost=float(self.score.cost.of(*design.devices_by_side)),
            score=float(self.score.value(tokens, *design.devices_by_side, limits)),
            memory_overflow_probability=memory.overflow_probability(requests) if memory else 0.0,
            held_overflow_probability=memory.overflow_probability(requests, 1 - limits.margin)
            if memory
            else 0.0,
            memory_mean_fraction=memory.mean_fraction(requests) if memory else 0.0,
            attention_idle_fraction=float(times.attention_idle_fraction[0]),
            ffn_idle_fraction=float(times.ffn_idle_fraction[0]),
        )

    @property
    def evaluated(self) -> int:
        """How many designs were evaluated exactly so far."""
        return self.models.evaluated

    def with_memory(self, factor: float) -> DesignSearch:
        """Return the search with `factor` times the KV memory; all laws stay shared."""
        other = copy.copy(self)
        other.memories = self.memories.scaled(factor)
        other.beside = {}
        return other

    def combinations(self, limits: Limits, space: SearchSpace | None = None) -> list[Combination]:
        """Return every (devices per attention worker, m, B) whose requests fit the memory."""
        space = space or self.space
        found = []
        for devices in self.source.attention_devices:
            largest = max(space.microbatches) * max(space.batch_sizes)
            most = self.memories.most_requests(devices, largest, limits)
            found += [
                Combination(devices, m, b)
                for m, b in product(space.microbatches, space.batch_sizes)
                if m * b <= most
            ]
        return found

    def lattice(
        self, limits: Limits, space: SearchSpace, attention_devices: int, most_devices: int
    ) -> PairLattice:
        """Return the legal pairs of bundles up to 2,048 devices; built once."""
        most_devices = min(most_devices, MOST_DEVICES)
        key = (
            attention_devices,
            most_devices,
            limits.devices,
            limits.node_devices,
            space.target.name,
            space.max_attention_workers,
            (space.ffn_workers, space.max_bundle_devices),
        )
        if key not in self._lattices:
            self._lattices[key] = PairLattice.build(
                self.source, space, limits, attention_devices, most_devices
            )
        return self._lattices[key]

    def _best(
        self,
        limits: Limits,
        space: SearchSpace,
        most_devices: int,
        incumbent: Candidate | PlannedDesign | None = None,
    ) -> Candidate | None:
        best: Candidate | None = None
        if incumbent is not None:
            best = Candidate(score=incumbent.score, design=incumbent.design)
        lattices = {
            devices: self.lattice(limits, space, devices, most_devices)
            for devices in self.source.attention_devices
        }
        # Blocks that cover more ratios bound fewer as well: those of the whole space are known.
        whole = lattices
        if space.target == self.space.target:
            whole = {
                devices: self.lattice(limits, self.space, devices, most_devices)
                for devices in self.source.attention_devices
            }
        blocks = RatioBlocks.over([*whole.values(), *lattices.values()], self.source)
        combinations = [
            c
            for c in self.combinations(limits, space)
            if lattices[c.attention_devices].attention.size
        ]
        if not combinations:
            return best
        bounds = self._ratio_bounds.scores(combinations, blocks, lattices, limits)
        sizes = {
            group: self._sizes(*group, limits, space) for group in {c[:2] for c in combinations}
        }
        lines = self._lines if self.models.grow else None
        search = BatchSearch(self.pairs, lines, bounds, lattices, limits, sizes)
        return search.best(best)

    def _sizes(self, devices: int, m: int, limits: Limits, space: SearchSpace) -> IntArray:
        """Return the batch sizes that fit the memory, ascending."""
        listed = np.array(space.batch_sizes)
        if space.fills_gaps:
            listed = np.arange(listed[0], listed[-1] + 1)
        largest = max(space.microbatches) * max(space.batch_sizes)
        return listed[m * listed <= self.memories.most_requests(devices, largest, limits)]
