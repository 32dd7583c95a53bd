"""What would the same devices do without a split?

Every rank runs attention of its own requests, then its share of the experts: data-parallel
attention, expert parallelism over W ranks, with a barrier over all W in every layer. With a_j the
attention time of rank j, f the experts, c = c_out + c_back dispatch and combine,

    one batch:           round = max_j a_j + f + c
    two-batch overlap:   round = f + max(f, c_stage) + max_j g_j
                         g_j = max( a_j1 + a_j2,  a_j1 + c_out,  a_j2 + c_back )

(a device computes both attentions, then both FFNs; transfers of one half hide behind the other's
compute; see `afdplan.theory.two_batch`). Loads are frozen during a round.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.chosen import chosen
from afdplan.model.latency import LatencyModel
from afdplan.planning.cache_memory import CacheMemory
from afdplan.planning.colocated import Colocated, best_colocated
from afdplan.planning.colocated_step import unsplit_step
from afdplan.planning.design import StepSummary
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.search import DesignSearch
from afdplan.planning.step_models import SLACK
from afdplan.theory.attention_time import TimeLaw, exact_time
from afdplan.theory.fresh_times import ffn_times

__all__ = ["ColocatedSearch"]

TOGETHER = 256
"""Batch sizes whose FFN times are computed together."""


class _Sizes(NamedTuple):
    """Sizes of a group of ranks with what bounds them, shape (n,) each."""

    batch: IntArray
    microbatches: IntArray
    least: FloatArray
    """Least step time [time]."""
    most: FloatArray
    """Most score."""


class ColocatedSearch:
    """The best colocated deployment, width by width, under the limits of a design search.

    Parameters
    ----------
    search
        Whose workload, source, batch sizes and cost are used.
    """

    def __init__(self, search: DesignSearch) -> None:
        self._search = search
        # Every device, an idle one too, is one of the attention side.
        cost = replace(search.score.cost, ffn=search.score.cost.attention)
        self._score = replace(search.score, cost=cost)
        self._parts = search.source.colocated
        self._times = search.models.times
        self._memories: dict[tuple[int, int], CacheMemory | None] = {}
        self._most: dict[tuple[int, int, float, float], int] = {}
        self._laws: dict[tuple[int, int], list[tuple[int, TimeLaw]]] = {}
        self._ffn_means: dict[tuple[int, int, int], FloatArray] = {}
        self._least_attention: dict[tuple[int, bytes], FloatArray] = {}
        self._least_steps: dict[tuple[int, int, bytes, bytes], FloatArray] = {}
        self._steps: dict[tuple[int, int, int, int], StepSummary] = {}

    @classmethod
    def of(cls, search: DesignSearch) -> ColocatedSearch:
        """Return the one beside a design search; it keeps what it has computed."""
        if cls not in search.beside:
            search.beside[cls] = cls(search)
        found: ColocatedSearch = search.beside[cls]
        return found

    def widths(self, limits: Limits) -> list[Colocated]:
        """Return the best deployment of every width that has one, narrow first.

        Batch sizes between those of the list are considered where they could make the best
        width of all. With a rate, the one of each width that gives most at the least cost, and
        the best width is that which gives most at its cost.
        """
        found = self._widths(limits)
        if limits.requests_per_second is None:
            return found
        filled: dict[int, Colocated] = {}
        for plan in found:
            most = replace(limits, requests_per_second=None, most_cost=plan.cost)
            devices, ranks = plan.devices_per_rank, plan.ranks
            bounds = self._bounds(devices, ranks, most)
            best = self._best(devices, ranks, bounds, most, self.again(plan, most))
            filled[ranks * devices] = self.again(best or plan, limits)
        baseline = best_colocated(filled.values())
        if baseline is not None:
            baseline = self._most_paid(baseline, limits)
            filled[baseline.ranks * baseline.devices_per_rank] = baseline
        return [filled[width] for width in sorted(filled)]

    def _largest(self, limits: Limits) -> Colocated | None:
        """Return what gives most on the devices if it reaches the rate: sizes between may alone."""
        rate, fills_gaps = limits.requests_per_second, self._search.space.fills_gaps
        if rate is None or limits.devices is None or not fills_gaps:
            return None
        most = replace(limits, requests_per_second=None, optional_devices=0)
        found = best_colocated(self._widths(most))
        if found is None:
            return None
        m = 2 if found.two_batch_overlap else 1
        found = self._evaluate(found.devices_per_rank, found.ranks, found.batch_size, m, limits)
        return found if found.score > 0 else None

    def _most_paid(self, best: Colocated, limits: Limits) -> Colocated:
        """Return what gives most of all that costs as little, whatever its width and size."""
        most = replace(limits, requests_per_second=None, most_cost=best.cost)
        best = self.again(best, most)
        for devices, ranks in self._groups(limits):
            bounds = self._bounds(devices, ranks, most)
            best = self._best(devices, ranks, bounds, most, best) or best
            between = self._between(devices, ranks, bounds, most, best)
            best = self._best(devices, ranks, between, most, best) or best
        return self.again(best, limits)

    def _groups(self, limits: Limits) -> list[tuple[int, int]]:
        """Return the devices of a rank and the ranks of every group that may be deployed."""
        return [
            (devices, ranks)
            for devices in self._search.source.attention_devices
            for ranks in self._parts.widths(devices, limits.devices or 1024)
        ]

    def again(self, plan: Colocated, limits: Limits) -> Colocated:
        """Return a deployment evaluated under other limits; nothing is held against them."""
        return self.deployed(
            **chosen(plan, "replicas ranks devices_per_rank batch_size two_batch_overlap"),
            limits=limits,
        )

    def deployed(
        self,
        *,
        replicas: int,
        ranks: int,
        devices_per_rank: int,
        batch_size: int,
        two_batch_overlap: bool,
        limits: Limits,
    ) -> Colocated:
        """Return what ranks of that many devices and slots give; nothing is held against limits."""
        m = 2 if two_batch_overlap else 1
        return self._evaluate(devices_per_rank, ranks, batch_size, m, limits, replicas)

    def _widths(self, limits: Limits) -> list[Colocated]:
        best: dict[int, Colocated] = {}
        groups = self._groups(limits)
        bounds = {group: self._bounds(*group, limits) for group in groups}
        for devices, ranks in groups:
            width = ranks * devices
            plan = self._best(devices, ranks, bounds[devices, ranks], limits, best.get(width))
            if plan is not None:
                best[width] = plan
        baseline = best_colocated(best.values()) or self._largest(limits)
        if baseline is not None:
            best.setdefault(baseline.ranks * baseline.devices_per_rank, baseline)
        for devices, ranks in groups if baseline is not None else ():
            between = self._between(devices, ranks, bounds[devices, ranks], limits, baseline)
            plan = self._best(devices, ranks, between, limits, baseline)
            if plan is not None and plan is not baseline:
                best[ranks * devices] = baseline = plan
        return [best[width] for width in sorted(best)]

    def _bounds(self, devices: int, ranks: int, limits: Limits) -> _Sizes:
        """Return bounds of every (B, m) of the list that fits the memory."""
        most = self._most_requests(devices, ranks, limits)
        listed = np.array(self._search.space.batch_sizes)
        fits = [listed[m * listed <= most] for m in (1, 2)]
        sizes, m = np.concatenate(fits), np.repeat((1, 2), [one.size for one in fits])
        return self._bounded(devices, ranks, sizes, m, limits)

    def _between(
        self, devices: int, ranks: int, bounds: _Sizes, limits: Limits, best: Colocated | None
    ) -> _Sizes:
        """Return bounds of what lies between sizes of the list and could beat `best`."""
        space = self._search.space
        none = np.zeros(0, np.int64)
        nothing = _Sizes(none, none, np.zeros(0), np.zeros(0))
        if best is None or not space.fills_gaps:
            return nothing
        most = self._most_requests(devices, ranks, limits)
        # Steps only grow with B: a step of B with the slots of the gap above bounds the gap.
        per_request = ranks * self._search.tokens_per_step
        group = ranks * devices
        if self._score.ceiling(group, 0, limits.bundle_unit(group, 0), limits) <= best.score:
            return nothing
        found = []
        for m in (1, 2):
            known = bounds.microbatches == m
            if known.any():
                listed, least = bounds.batch[known], bounds.least[known]
                sizes = np.setdiff1d(np.arange(listed[0], space.batch_sizes[-1]), listed)
                step = least[np.searchsorted(listed, sizes, side="right") - 1]
                most_score = self._score.bound(per_request * m * sizes / step, group, 0)
                sizes = sizes[(m * sizes <= most) & (most_score > best.score)]
                found.append((sizes, np.full(sizes.size, m)))
        if not found:
            return nothing
        batch, m_of = (np.concatenate(column) for column in zip(*found, strict=True))
        return self._bounded(devices, ranks, batch, m_of, limits)

    def _bounded(
        self, devices: int, ranks: int, batch: IntArray, m: IntArray, limits: Limits
    ) -> _Sizes:
        """Return the most score and the least step time that these sizes can have."""
        key = (devices, ranks, batch.tobytes(), m.tobytes())
        if key not in self._least_steps:
            self._least_steps[key] = self._least_step(devices, ranks, batch, m)
        least = self._least_steps[key]
        most, _ = self._scored(devices, ranks, m * batch, least, limits)
        return _Sizes(batch, m, least, most)

    def _least_step(self, devices: int, ranks: int, batch: IntArray, m: IntArray) -> FloatArray:
        side = self._times.unsplit_side(devices, ranks)
        f, out, back = self._shared_times(side, devices, ranks, batch)
        a = self._attention_floor(devices, ranks, batch)
        # The mean of a largest is at least the largest mean.
        longest, layers = np.maximum(out, back), side.layers
        alone = a + layers * (f + out + back)
        halves = layers * (f + np.maximum(f, longest)) + a + np.maximum(a, layers * longest)
        least: FloatArray = SLACK * (side.step_overhead + np.where(m == 1, alone, halves))
        return least

    def _attention_floor(self, devices: int, ranks: int, batch: IntArray) -> FloatArray:
        """Return the least mean time of attention in a step, which is that of every width."""
        key = (devices, batch.tobytes())
        if key not in self._least_attention:
            kinds = {
                b: self._times.unsplit_attention(devices, ranks, b) for b in set(batch.tolist())
            }
            least = {b: self._search.models.least_attention(k, b) for b, k in kinds.items()}
            self._least_attention[key] = np.array([least[b] for b in batch.tolist()])
        return self._least_attention[key]

    def _best(
        self, devices: int, ranks: int, bounds: _Sizes, limits: Limits, best: Colocated | None
    ) -> Colocated | None:
        """Return the best of some (B, m), best bound first, or `best`."""
        tokens = self._search.tokens_per_step
        ranked = np.lexsort((bounds.microbatches, bounds.batch, bounds.most))[::-1]
        for b, m, least, bound in zip(*(column[ranked].tolist() for column in bounds), strict=True):
            if bound <= 0 or (best is not None and bound <= best.score * (1 + TIE)):
                break
            if not limits.probabilities and not limits.meets(least, tokens):
                continue
            plan = self._evaluate(devices, ranks, b, m, limits)
            if not limits.meets(plan.step_time.statistic(limits.statistic), tokens):
                continue
            if plan.score > 0 and (best is None or plan.score > best.score):
                best = plan
        return best

    def _most_requests(self, devices: int, ranks: int, limits: Limits) -> float:
        memory = self._memory(devices, ranks)
        if memory is None:
            return math.inf
        key = (devices, ranks, limits.overflow_probability, limits.margin)
        if key not in self._most:
            largest = 2 * max(self._search.space.batch_sizes)
            self._most[key] = memory.most_requests(
                limits.overflow_probability, 1 - limits.margin, largest
            )
        return self._most[key]

    def _evaluate(
        self,
        devices: int,
        ranks: int,
        b: int,
        m: int,
        limits: Limits,
        replicas: int | None = None,
    ) -> Colocated:
        step = self._step(devices, ranks, b, m)
        mean = step.mean
        scores, found = self._scored(devices, ranks, np.array([m * b]), np.array([mean]), limits)
        score = float(scores[0])
        groups = int(found[0]) if replicas is None else replicas
        tokens = groups * ranks * m * b * self._search.tokens_per_step / mean
        if replicas is not None:
            score = float(self._score.value(tokens, groups * ranks * devices, 0, limits))
        memory = self._memory(devices, ranks)
        overflow = held = 0.0
        if memory is not None:
            overflow = memory.overflow_probability(m * b)
            held = memory.overflow_probability(m * b, 1 - limits.margin)
        return Colocated(
            replicas=groups,
            ranks=ranks,
            devices_per_rank=devices,
            batch_size=b,
            two_batch_overlap=m == 2,
            step_time=step,
            tokens_per_step=self._search.tokens_per_step,
            tokens_per_second=tokens,
            requests_per_second=tokens / self._search.law.mean_decode_tokens,
            cost=float(self._score.cost.of(groups * ranks * devices, 0)),
            score=score,
            memory_overflow_probability=overflow,
            held_overflow_probability=held,
        )

    def _step(self, devices: int, ranks: int, b: int, m: int) -> StepSummary:
        """Return the law of a step; no limit changes it, so it is computed once."""
        key = (devices, ranks, b, m)
        if key not in self._steps:
            side = self._times.unsplit_side(devices, ranks)
            f, out, back = (
                float(time[0]) for time in self._shared_times(side, devices, ranks, np.array([b]))
            )
            laws = self._time_laws(devices, ranks, b)
            self._steps[key] = unsplit_step(side, laws, ranks, m, f, out, back)
        return self._steps[key]

    def _time_laws(self, devices: int, ranks: int, batch_size: int) -> list[tuple[int, TimeLaw]]:
        """Return layers and attention time of each kind; neither m nor the width changes them."""
        key = (devices, batch_size)
        if key not in self._laws:
            self._laws[key] = [
                (kind.layers, exact_time(self._search.models.slot_of(kind), kind, batch_size))
                for kind in self._times.unsplit_attention(devices, ranks, batch_size)
            ]
        return self._laws[key]

    def _scored(
        self, devices: int, ranks: int, requests: IntArray, steps: FloatArray, limits: Limits
    ) -> tuple[FloatArray, IntArray]:
        """Return scores and numbers of groups, shape (n,); 0 if no number of groups will do."""
        group = ranks * devices
        tokens = ranks * requests * self._search.tokens_per_step / steps
        unit = limits.bundle_unit(group, 0)
        most = (limits.devices or 0) // (group * unit) * unit
        replicas = np.broadcast_to(
            self._score.bundles(tokens, group, 0, unit, most, limits), tokens.shape
        )
        scores = np.zeros(tokens.shape)
        able = (replicas <= most) if limits.devices is not None else replicas > 0
        able &= replicas > 0
        scores[able] = self._score.value(
            (replicas * tokens)[able], (replicas * group)[able], 0, limits
        )
        return scores, np.where(able, replicas, 0)

    def _shared_times(
        self, side: LatencyModel, devices: int, ranks: int, batch: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the times of the FFN and both ways, shape (n,) [time]."""
        loads = np.array([float(self._parts.ffn_tokens(devices, int(b))) for b in batch])
        means = np.empty(batch.size)
        # An FFN worker's experts lie on the devices of as many ranks.
        workers = max(round(ranks / self._parts.ffn_tokens(devices, 1)), 1)
        for block in np.unique(batch // TOGETHER):
            key = (devices, ranks, int(block))
            if key not in self._ffn_means:
                sizes = np.maximum(TOGETHER * block + np.arange(TOGETHER), 1)
                all_loads = [float(self._parts.ffn_tokens(devices, int(b))) for b in sizes]
                self._ffn_means[key] = ffn_times(side, np.array(all_loads), workers).mean
            here = batch // TOGETHER == block
            means[here] = self._ffn_means[key][batch[here] % TOGETHER]
        out, back = (
            way.curve(batch.astype(np.float64) if way.load == "worker" else loads)
            for way in (side.send, side.receive)
        )
        return means, out, back

    def _memory(self, devices: int, ranks: int) -> CacheMemory | None:
        if (devices, ranks) not in self._memories:
            space = self._parts.cache(devices, ranks)
            self._memories[devices, ranks] = (
                None if space is None else self._search.memories.of_space(space)
            )
        return self._memories[devices, ranks]
