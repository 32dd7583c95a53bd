"""What does the bundle do, said plainly? The readable twin of `kernel.py`.

No compilation, no blocks, no calendar: every request is an object, every step looks at every
slot. It does the same additions in the same order as the kernel, so that the two are equal bit
for bit, and is used in tests only. Read this file to know what is simulated.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat

from afdplan.model.curve import Curve
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.simulation.scenario import Scenario

__all__ = ["Reference", "Request"]


@dataclass(slots=True, eq=False)
class Request:
    """A request: `held` tokens now, `steps` to go, `missing` tokens to generate."""

    prompt: int
    tokens: int
    held: Fraction
    steps: int
    missing: Fraction
    arrival: float = 0.0
    begun: float | None = None
    found_in_slot: bool = False
    order: int = 0
    preemptions: int = 0
    passed: int = 0
    entered_with: Fraction = Fraction(0)


def curve_time(curve: Curve, load: float) -> float:
    """Return the time at a load, piece by piece."""
    starts, values, slopes = curve.segments()
    k = max(j for j in range(len(starts)) if starts[j] <= load)
    return float(values[k] + slopes[k] * (load - starts[k]))


@dataclass
class Reference:
    """A bundle that plays itself step by step.

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
        self.tokens_per_step = Fraction(scenario.latency.tokens_per_step).limit_denominator(1000)
        self.slots: list[list[list[Request]]] = [
            [[] for _ in self.workers] for _ in self.microbatches
        ]
        self.waiting: deque[Request] = deque(self.initial)
        self.arrivals_over = False
        self.upcoming: Request | None = None
        self.next_worker = self.placed = self.step = 0
        self.entered = self.rejected = self.started = self.completed = self.preempted = 0
        self.recomputed = self.tokens = Fraction(0)
        self.active_sum = 0
        self.kv_sum = self.kv_max = Fraction(0)
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
        self.lost_tokens = Fraction(0)
        self.fails, self.opens = next(self.gaps), 0.0
        self.finished_log: list[tuple[float, ...]] = []
        self.step_log: list[tuple[float, ...]] = []
        self.passes: list[int] = []

    def play(self, steps: int, completions: int) -> None:
        """Play whole steps until so many steps or finished requests are reached."""
        latency = self.scenario.latency
        kinds = [latency.attention[kind] for kind in latency.kind_of_layer]
        while True:
            if self.clock >= self.fails:
                self.stop()
            if (
                not any(request for cells in self.slots for cell in cells for request in cell)
                and not self.sleep()
            ):
                return
            if self.step >= steps or self.completed >= completions:
                return
            for layer, kind in enumerate(kinds):
                for u in self.microbatches:
                    attention = [
                        self.varied(
                            "attention",
                            self.attention_time(kind, u, i),
                        )
                        for i in self.workers
                    ]
                    if self.scenario.overlap == "ideal":
                        self.overlap_ideally(attention, layer == 0)
                    else:
                        self.pipeline(u, attention, layer == 0 and u == 0)
                    if layer == len(kinds) - 1:
                        self.end_step(u)
            self.step += 1
            if latency.drain:
                self.gate = self.clock
            self.sample_memory()

    def sample_memory(self) -> None:
        """Note how many KV tokens each worker holds."""
        for i in self.workers:
            held = sum((self.held(u, i) for u in self.microbatches), Fraction(0))
            self.kv_sum += held
            self.kv_max = max(self.kv_max, held)

    # Stages.

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

    def held(self, u: int, i: int) -> Fraction:
        """Return the KV tokens of a worker's microbatch."""
        return sum((request.held for request in self.slots[u][i]), Fraction(0))

    def load(self, u: int, i: int, window: int | None) -> float:
        """Return the tokens that one layer reads."""
        seen = (
            request.held if window is None else min(request.held, Fraction(window))
            for request in self.slots[u][i]
        )
        return float(sum(seen, Fraction(0)))

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

    def pipeline(self, u: int, attention: list[float], first: bool) -> None:
        """Play one layer of one microbatch: attention, transfer out, FFN, transfer back."""
        latency = self.scenario.latency
        ffn, out, back = self.work(u)
        gate = self.gate if first else 0.0
        overhead = latency.step_overhead if first else 0.0
        aggregate = latency.send.load == "aggregate"
        # How long a worker is occupied by a transfer: the last part of what it receives, the
        # first of what it sends.
        coupling = latency.coupling
        sends, receives = coupling.send_attention * out[0], coupling.receive_attention * back[0]
        ffn_receives, ffn_sends = coupling.send_ffn * out[0], coupling.receive_ffn * back[0]
        if overhead:
            self.stand_still(overhead)
        ends = []
        for i in self.workers:
            # Split the worker's wait: what the slowest worker cost, then the FFN, then the links.
            free = self.attention_free[i]
            returned = max(free, self.ready[u][i] - receives)
            gap = returned - free
            late = min(gap, self.barrier[u] - self.sent[u][i])
            served = min(gap - late, self.ffn_end[u] - self.delivered[u])
            self.idle["transfer"][i] += gap - late - served + receives
            returned += receives
            opened = max(returned, gate)
            start = opened + overhead
            self.idle["barrier"][i] += late
            self.idle["other side"][i] += served + (opened - returned)
            self.idle["overhead"][i] += start - opened
            ends.append(start + attention[i])
            self.busy[i] += attention[i]
            self.attention_free[i] = self.sent[u][i] = ends[i]
            if not aggregate:
                begin = max(ends[i], self.send_free[i])
                if sends:
                    self.idle["transfer"][i] += begin + sends - ends[i]
                    self.attention_free[i] = begin + sends
                self.send_free[i] = begin + self.varied("send", out[i])
                self.sent[u][i] = self.send_free[i]
        last = max(ends)
        if aggregate:
            self.barrier[u] = last
            self.send_free[0] = max(last, self.send_free[0]) + self.varied("send", out[0])
            self.delivered[u] = self.send_free[0]
        else:
            self.barrier[u] = self.delivered[u] = max(self.sent[u])

        ffn = self.varied("ffn", self.uneven(u, ffn)) + coupling.launch
        total = 0.0
        for end in ends:
            total += end
        start = max(self.ffn_free, self.delivered[u] - ffn_receives)
        gap = start - self.ffn_free
        late = min(gap, max(last - total / len(ends), 0.0))
        sending = min(gap - late, self.delivered[u] - last)
        self.ffn_idle["barrier"] += late
        to_ffn, from_ffn = (self.transfers_of_ffn(w) for w in (latency.send, latency.receive))
        self.ffn_idle["transfer"] += sending + to_ffn * ffn_receives + from_ffn * ffn_sends
        self.ffn_idle["other side"] += gap - late - sending
        end = start + to_ffn * ffn_receives + ffn
        self.ffn_free = end + from_ffn * ffn_sends
        self.ffn_end[u] = served = end + (from_ffn - 1) * ffn_sends
        self.ffn_busy += ffn

        if latency.receive.load == "aggregate":
            begin = max(served, self.receive_free[0])
            self.receive_free[0] = begin + self.varied("receive", back[0])
            self.ready[u] = [self.receive_free[0] for _ in self.workers]
        else:
            for i in self.workers:
                begin = max(served, self.receive_free[i])
                self.receive_free[i] = begin + self.varied("receive", back[i])
            self.ready[u] = list(self.receive_free)

    def stand_still(self, overhead: float) -> None:
        """Pause everything but the first microbatch, which pauses by starting later.

        Sampling and scheduling stop the whole bundle once per step: a step takes
        `step_overhead` longer, whatever binds.
        """
        for u in range(1, self.scenario.microbatches):
            self.ready[u] = [time + overhead for time in self.ready[u]]
            self.sent[u] = [time + overhead for time in self.sent[u]]
            self.barrier[u] += overhead
            self.delivered[u] += overhead
            self.ffn_end[u] += overhead
        self.send_free = [time + overhead for time in self.send_free]
        self.receive_free = [time + overhead for time in self.receive_free]
        self.ffn_free += overhead
        self.ffn_idle["overhead"] += overhead

    def overlap_ideally(self, attention: list[float], first: bool) -> None:
        """Play one layer of the paper's cycle: the slowest of all stages, in perfect overlap."""
        ffn, out, back = self.work(0)
        overhead = self.scenario.latency.step_overhead if first else 0.0
        times = [self.varied("send", time) for time in out]
        times += [self.varied("receive", time) for time in back]
        transfer = max(times)
        ffn = self.varied("ffn", self.uneven(0, ffn)) + self.scenario.latency.coupling.launch
        slowest = max(attention)
        cycle = max(slowest, transfer, ffn)
        self.clock = self.clock + overhead + cycle
        total = 0.0
        for i, time in enumerate(attention):
            total += time
            self.busy[i] += time
            self.idle["overhead"][i] += overhead
            self.idle["barrier"][i] += slowest - time
            self.idle["other side"][i] += max(ffn, slowest) - slowest
            self.idle["transfer"][i] += cycle - max(ffn, slowest)
            self.attention_free[i] = self.ready[0][i] = self.clock
        self.ffn_busy += ffn
        self.ffn_idle["overhead"] += overhead
        at = ffn
        marks = (("other side", total / len(attention)), ("barrier", slowest), ("transfer", cycle))
        for cause, mark in marks:
            if mark > at:
                self.ffn_idle[cause] += mark - at
                at = mark
        self.ffn_free = self.clock

    def stop(self) -> None:
        """Lose all requests in slots, and what they generated since they entered."""
        for cells in self.slots:
            for cell in cells:
                for request in cell:
                    self.lost += 1
                    self.lost_tokens += request.held - request.entered_with
                    self.tokens -= request.held - request.entered_with
                cell.clear()
        self.failures += 1
        restart = self.scenario.failures.restart if self.scenario.failures is not None else 0.0
        self.opens = max(self.clock, self.fails + restart)
        self.fails = self.opens + next(self.gaps)

    def sleep(self) -> bool:
        """Let the empty bundle sleep until it may work and has work; says whether there is any."""
        clock, wake = self.clock, max(self.clock, self.opens)
        if self.scenario.arrivals is not None:
            self.arrive(-1.0)
            if not self.waiting:
                if self.upcoming is None:
                    return False
                wake = max(wake, self.upcoming.arrival)
        while wake >= self.fails:
            self.stop()
            wake = max(wake, self.opens)
        self.asleep += wake - clock
        for i in self.workers:
            self.idle["other side"][i] += clock - self.attention_free[i]
            self.idle["empty"][i] += wake - clock
            self.attention_free[i] = wake
        self.ffn_idle["other side"] += clock - self.ffn_free
        self.ffn_idle["empty"] += wake - clock
        self.ffn_free = self.clock = self.gate = wake
        self.step_end = [wake for _ in self.microbatches]
        self.ready = [[wake for _ in self.workers] for _ in self.microbatches]
        for u in self.microbatches:
            self.admit(u, wake)
        return True

    # Requests.

    def end_step(self, u: int) -> None:
        """End a microbatch's step: requests leave, loads grow, requests enter."""
        clock = max(self.ready[u])
        step_time = clock - self.step_end[u]
        self.clock = self.step_end[u] = clock
        self.step_time += step_time
        active = sum(len(cell) for cell in self.slots[u])
        loads = [self.held(u, i) for i in self.workers]
        total, heaviest = float(sum(loads, Fraction(0))), float(max(loads))
        row = (self.step, u, clock, step_time, active, total, heaviest)
        self.step_log.append((*row, len(self.waiting) if self.scenario.arrivals else 0))
        self.active_sum += active
        self.active_area += active * step_time
        finished = []
        for i in self.workers:
            for request in self.slots[u][i]:
                self.tokens += min(self.tokens_per_step, request.missing)
                request.held += self.tokens_per_step
                request.missing -= self.tokens_per_step
                request.steps -= 1
                if request.steps == 0:
                    finished.append((request.order, i, request))
            self.slots[u][i] = [request for request in self.slots[u][i] if request.steps > 0]
        for _, i, request in sorted(finished, key=lambda entry: entry[0]):
            self.finish(request, u, i, clock)
        if self.scenario.memory == "preempt":
            for i in self.workers:
                self.make_room(u, i)
        self.admit(u, clock)

    def finish(self, request: Request, u: int, i: int, clock: float) -> None:
        """Let a request leave that has generated its last token."""
        self.completed += 1
        begun = -2.0 if request.begun is None else request.begun
        if not request.found_in_slot:
            self.time_per_token += (clock - begun) / request.tokens
        times = (request.arrival, begun, clock)
        self.finished_log.append(
            (request.prompt, request.tokens, *times, i, u, request.preemptions)
        )

    def make_room(self, u: int, i: int) -> None:
        """Take the youngest requests of a cell out while its worker's KV memory overflows."""
        limit = self.scenario.kv_capacity or 0
        cell = self.slots[u][i]
        while cell and sum(self.held(v, i) for v in self.microbatches) > limit:
            victim = max(cell, key=lambda request: request.order)
            cell.remove(victim)
            victim.preemptions += 1
            victim.passed = 0
            self.preempted += 1
            self.recomputed += victim.held
            self.waiting.appendleft(victim)

    def arrive(self, clock: float) -> None:
        """Let requests arrive until the clock; one that no worker can ever hold is refused."""
        limit = self.scenario.kv_capacity
        refused = 0
        while self.upcoming is None or self.upcoming.arrival <= clock:
            if self.upcoming is not None:
                self.queue_area += clock - self.upcoming.arrival
                self.waiting.append(self.upcoming)
                self.upcoming = None
            entry = next(self.requests, None)
            if entry is None:
                return
            prompt, decode, arrival = entry
            steps = math.ceil(decode / self.tokens_per_step)
            largest = prompt + self.tokens_per_step * (steps - 1)
            if limit is not None and largest > limit:
                refused += 1
                continue
            held, missing = Fraction(prompt), Fraction(decode)
            self.upcoming = Request(prompt, decode, held, steps, missing, arrival)
            # Counted when the request after them leaves the queue.
            self.upcoming.order = -refused
            refused = 0

    def admit(self, u: int, clock: float) -> None:
        """Fill free slots of a microbatch, first come first served."""
        size = self.scenario.bundle.batch_size
        free = sum(size - len(cell) for cell in self.slots[u])
        self.hear(free + self.scenario.placement_window - 1, clock)
        if self.scenario.placement.startswith("longest"):
            if free:
                self.admit_by_prompt(u, free, clock)
            return
        while free > 0 and self.waiting:
            request = self.leave_queue()
            i = self.choose(u, request)
            if i is None:
                self.waiting.appendleft(request)
                return
            self.place(u, i, request, clock)
            free -= 1

    def hear(self, free: int, clock: float) -> None:
        """Let in what has arrived, or (saturated) as many as may enter."""
        if self.scenario.arrivals is None:
            self.fill_queue(free)
            return
        self.queue_area += len(self.waiting) * (clock - self.queue_time)
        self.queue_time = clock
        self.arrive(clock)

    def admit_by_prompt(self, u: int, free: int, clock: float) -> None:
        """Let in as many as there are free slots, the longest prompt to the lightest worker."""
        looked_at = min(free + self.scenario.placement_window - 1, len(self.waiting))
        taken = [self.leave_queue() for _ in range(looked_at)]
        ranked = sorted(taken, key=lambda request: -self.length(request))
        kept = self.kept(u, free, taken, ranked) if len(taken) > free else taken
        placed = set()
        for request in ranked:
            i = self.choose(u, request) if request in kept else None
            if i is not None:
                self.place(u, i, request, clock)
                placed.add(id(request))
        passed_over = [request for request in taken if id(request) not in placed]
        for request in passed_over:
            request.passed += 1
        self.waiting.extendleft(reversed(passed_over))

    def kept(self, u: int, free: int, taken: list[Request], ranked: list[Request]) -> list[Request]:
        """Return as many of the requests that are looked at as there are free slots.

        First those that were passed over often enough, so that none starves; then for every free
        slot of a worker lighter than the mean the longest prompt, for every other the shortest.
        """
        limit = self.scenario.placement_window
        kept = [request for request in taken if request.passed >= limit][:free]
        left = free - len(kept)
        weights = [self.weight(u, i) for i in self.workers]
        light = [i for i in self.workers if weights[i] * len(weights) < sum(weights)]
        size = self.scenario.bundle.batch_size
        longest = min(sum(size - len(self.slots[u][i]) for i in light), left)
        others = [request for request in ranked if request not in kept]
        return kept + others[:longest] + others[len(others) - (left - longest) :]

    def fill_queue(self, count: int) -> None:
        """Let as many requests arrive as there are free slots (saturated)."""
        while len(self.waiting) < count:
            self.upcoming = None
            self.arrive(-1.0)
            if self.upcoming is None:
                return
            self.waiting.append(self.upcoming)
            self.upcoming = None

    def leave_queue(self) -> Request:
        """Return the first waiting request; it counts as entered when it first leaves."""
        request = self.waiting.popleft()
        if request.begun is None and not request.found_in_slot and request.order <= 0:
            self.entered += 1 - request.order
            self.rejected -= request.order
            request.order = 1
        return request

    def choose(self, u: int, request: Request) -> int | None:
        """Return the worker that the policy gives a request to, None if none can take it."""
        size = self.scenario.bundle.batch_size
        workers = list(self.workers)
        policy = self.scenario.placement
        if policy == "round-robin":
            workers = workers[self.next_worker :] + workers[: self.next_worker]
        able = [i for i in workers if len(self.slots[u][i]) < size and self.fits(i, request)]
        if not able:
            return None
        if policy == "fewest-requests":
            return min(able, key=lambda i: len(self.slots[u][i]))
        if policy != "round-robin":
            return min(able, key=lambda i: self.weight(u, i))
        self.next_worker = (able[0] + 1) % len(workers)
        return able[0]

    def length(self, request: Request) -> Fraction:
        """Return by what requests are ranked: the prompt, or all that is known to be held."""
        if self.scenario.placement != "longest-request":
            return request.held
        steps = range(min(request.steps, self.scenario.foresight))
        return sum((request.held + k * self.tokens_per_step for k in steps), Fraction(0))

    def weight(self, u: int, i: int) -> Fraction:
        """Return the load by which workers are told apart: the microbatch's, or all of it."""
        if self.scenario.placement == "longest-request":
            return sum((self.length(request) for request in self.slots[u][i]), Fraction(0))
        if self.scenario.placement != "longest-prompt-rank":
            return self.held(u, i)
        return sum((self.held(k, i) for k in self.microbatches), Fraction(0))

    def fits(self, i: int, request: Request) -> bool:
        """Say whether a worker has KV memory for a request."""
        limit = self.scenario.kv_capacity
        if limit is None:
            return True
        present = [r for u in self.microbatches for r in self.slots[u][i]]
        if self.scenario.memory == "preempt":
            return sum(r.held for r in present) + request.held <= limit
        grow = self.tokens_per_step
        return sum(r.held + grow * (r.steps - 1) for r in [*present, request]) <= limit

    def place(self, u: int, i: int, request: Request, clock: float) -> None:
        """Put a request into a free slot."""
        if request.begun is None and not request.found_in_slot:
            request.begun = clock
            self.started += 1
            self.passes.append(request.passed)
            if self.scenario.arrivals is not None:
                self.wait += clock - request.arrival
        self.placed += 1
        request.entered_with = request.held
        request.order = self.placed
        self.slots[u][i].append(request)
