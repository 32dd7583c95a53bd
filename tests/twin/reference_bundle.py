"""What does a bundle hold, and what do its stages take? The state of the readable twin."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat
from typing import TypeAlias

from afdplan.model.curve import Curve
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.simulation.scenario import Scenario

__all__ = ["ReferenceBundle", "Request", "Tokens", "curve_time"]

Tokens: TypeAlias = Fraction | int
"""Exact, and an integer where tokens per step are whole: fractions are several times slower."""


@dataclass(slots=True, eq=False)
class Request:
    """A request: `held` tokens now, `steps` to go, `missing` tokens to generate."""

    prompt: int
    tokens: int
    held: Tokens
    steps: int
    missing: Tokens
    arrival: float = 0.0
    begun: float | None = None
    found_in_slot: bool = False
    order: int = 0
    preemptions: int = 0
    passed: int = 0
    entered_with: Tokens = 0


def curve_time(curve: Curve, load: float) -> float:
    """Return the time at a load, piece by piece."""
    starts, values, slopes = curve.segments()
    k = max(j for j in range(len(starts)) if starts[j] <= load)
    return float(values[k] + slopes[k] * (load - starts[k]))


@dataclass
class ReferenceBundle:
    """Requests in slots, clocks and sums of one bundle.

    Parameters
    ----------
    scenario
        What to play.
    requests
        (prompt, decode, arrival) in order; refused ones too.
    factors
        For each stage (attention, send, ffn, receive, experts) an iterator of factors, None if it
        is steady.
    initial
        Requests found in slots at time zero.
    gaps
        Times of work between failures.
    """

    scenario: Scenario
    requests: Iterator[tuple[int, int, float]]
    factors: dict[str, Iterator[float] | None]
    initial: list[Request] = field(default_factory=list)
    gaps: Iterator[float] = field(default_factory=lambda: repeat(math.inf))

    def __post_init__(self) -> None:
        scenario = self.scenario
        self.workers = range(scenario.bundle.attention_workers)
        self.microbatches = range(scenario.microbatches)
        pace = Fraction(scenario.latency.tokens_per_step).limit_denominator(1000)
        self.tokens_per_step: Tokens = pace.numerator if pace.denominator == 1 else pace
        self.slots: list[list[list[Request]]] = [
            [[] for _ in self.workers] for _ in self.microbatches
        ]
        self.waiting: deque[Request] = deque(self.initial)
        self.arrivals_over = False
        self.upcoming: Request | None = None
        self.next_worker = self.placed = self.step = 0
        self.entered = self.rejected = self.started = self.completed = self.preempted = 0
        self.recomputed: Tokens = 0
        self.tokens: Tokens = 0
        self.active_sum = 0
        self.kv_sum: Tokens = 0
        self.kv_max: Tokens = 0
        self.clock = self.gate = self.asleep = self.step_time = self.active_area = 0.0
        self.wait = self.time_per_token = self.queue_area = self.queue_time = 0.0
        zero = [0.0 for _ in self.workers]
        self.attention_free, self.send_free = list(zero), list(zero)
        self.receive_free, self.busy = list(zero), list(zero)
        self.ffn_free = self.ffn_busy = 0.0
        causes = ("transfer", "barrier", "other side", "overhead", "empty")
        self.idle = {cause: list(zero) for cause in causes}
        self.ffn_idle = dict.fromkeys(causes, 0.0)
        self.sent = [list(zero) for _ in self.microbatches]
        self.ready = [list(zero) for _ in self.microbatches]
        self.barrier, self.delivered, self.ffn_end, self.step_end = (
            [0.0 for _ in self.microbatches] for _ in range(4)
        )
        self.failures = self.lost = 0
        self.lost_tokens: Tokens = 0
        self.fails, self.opens = next(self.gaps), 0.0
        self.finished_log: list[tuple[float, ...]] = []
        self.step_log: list[tuple[float, ...]] = []
        self.passes: list[int] = []

    def sample_memory(self) -> None:
        """Note how many KV tokens each worker holds."""
        for i in self.workers:
            held = sum(self.held(u, i) for u in self.microbatches)
            self.kv_sum += held
            self.kv_max = max(self.kv_max, held)

    def attention_time(self, kind: AttentionLayers, u: int, i: int) -> float:
        """Return how long worker i computes on microbatch u in one layer."""
        load, count = self.load(u, i, kind.context_window), len(self.slots[u][i])
        time = curve_time(kind.curve, load) + kind.time_per_request * count
        if kind.time_per_context > 0 and count:
            time += kind.time_per_context * (float(load) / count)
        return time

    def varied(self, stage: str, time: float) -> float:
        """Return a time, times the next factor of its stage."""
        factors = self.factors[stage]
        return time if factors is None else time * next(factors)

    def uneven(self, u: int, time: float) -> float:
        """Return the FFN time when its busiest expert rank has the next factor times the mean."""
        factors, load = self.factors["experts"], self.scenario.expert_load
        if factors is None or load is None:
            return time
        bundle = self.scenario.bundle
        total = sum(len(cell) for cell in self.slots[u])
        if self.scenario.ffn_tokens == "padded":
            total = bundle.attention_workers * bundle.batch_size
        shared = total / bundle.ffn_workers
        slow = curve_time(self.scenario.latency.ffn, shared * next(factors))
        return time + load.share * (slow - curve_time(self.scenario.latency.ffn, shared))

    def held(self, u: int, i: int) -> Tokens:
        """Return the KV tokens of a worker's microbatch."""
        return sum(request.held for request in self.slots[u][i])

    def load(self, u: int, i: int, window: int | None) -> float:
        """Return the tokens that one layer reads."""
        seen = (
            request.held if window is None else min(request.held, window)
            for request in self.slots[u][i]
        )
        return float(sum(seen))

    def work(self, u: int) -> tuple[float, list[float], list[float]]:
        """Return the times of FFN, and of each worker's transfers out and back."""
        latency, bundle = self.scenario.latency, self.scenario.bundle
        own = [float(len(self.slots[u][i])) for i in self.workers]
        if self.scenario.ffn_tokens == "padded":
            own = [float(bundle.batch_size) for _ in self.workers]
        shared = sum(own) / bundle.ffn_workers
        ffn = curve_time(latency.ffn, shared)
        if latency.coupling.fan_in == "whole":
            # The FFN worker with most peers decides; each attention worker has one.
            shared = float(self.peers * bundle.batch_size)
            ffn += latency.coupling.dense_share * (curve_time(latency.ffn, shared) - ffn)
        out, back = (
            [curve_time(way.curve, shared if way.load == "aggregate" else n) for n in own]
            for way in (latency.send, latency.receive)
        )
        return ffn, out, back

    @property
    def peers(self) -> int:
        """Return ceil(A / F), the attention workers of the FFN worker that has most."""
        bundle = self.scenario.bundle
        return math.ceil(Fraction(bundle.attention_workers, bundle.ffn_workers))

    def transfers_of_ffn(self, way: Transfer) -> int:
        """Return with how many transfers of a microbatch an FFN worker is occupied in turn."""
        in_turn = self.scenario.latency.coupling.one_by_one and way.load == "worker"
        return self.peers if in_turn else 1
