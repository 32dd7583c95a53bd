"""What does a bundle do without the barrier, said plainly? Twin of `barrier_free_kernel.py`.

Requests are those of `reference.py`. Every microbatch of every attention worker (a cell) holds its
own call: it is at its worker, on a link, in the queue of the FFN pool or served. Nothing here is
known ahead: the earliest event of all comes next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.twin.reference import Reference
from tests.twin.reference_bundle import curve_time

__all__ = ["BarrierFreeReference", "Call"]


@dataclass(slots=True, eq=False)
class Call:
    """The call of one cell: what it does next, and when; which layer and step it is in."""

    worker: int
    microbatch: int
    number: int
    next: Literal["return", "leave", "arrive"] | None = None
    time: float = 0.0
    layer: int = 0
    step: int = 0
    sleeps: bool = True
    sent: float = 0.0
    arrived: float = 0.0
    boarded: float = 0.0
    served: float = 0.0
    step_end: float = 0.0


@dataclass
class BarrierFreeReference(Reference):
    """A bundle without the barrier that plays itself event by event."""

    calls: list[Call] = field(default_factory=list)
    queue: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = len(self.workers)
        self.calls = [
            Call(worker=i, microbatch=u, number=u * size + i)
            for u in self.microbatches
            for i in self.workers
        ]
        self.kinds = [
            self.scenario.latency.attention[kind] for kind in self.scenario.latency.kind_of_layer
        ]
        self.departures = self.boarded = self.ended = self.next_call = 0
        self.call_wait = 0.0
        if self.scenario.arrivals is None:
            for call in self.calls:
                self.begin(call, 0.0)

    def play(self, steps: int, completions: int) -> None:
        """Play events until so many steps of all cells, or finished requests, are reached."""
        while self.step < steps and self.completed < completions:
            moving = [call for call in self.calls if call.next is not None]
            due = min(moving, key=lambda call: (call.time, call.number), default=None)
            wake = None
            if self.scenario.arrivals is not None and any(call.sleeps for call in self.calls):
                self.arrive(-1.0)
                wake = None if self.upcoming is None else self.upcoming.arrival
            times = [time for time in (self.departure(), wake) if time is not None]
            if due is not None and all(due.time <= time for time in times):
                self.pass_event(due)
            elif not times:
                return
            elif wake is None or (times[0] < wake and len(times) == 2):
                self.depart(times[0])
            else:
                self.wake(wake)

    def pass_event(self, call: Call) -> None:
        """Let a call come back to its worker, leave over the shared link, or reach the pool."""
        if call.next == "return":
            self.clock = call.time
            self.come_back(call, call.time)
        elif call.next == "leave":
            self.leave(call)
        else:
            call.arrived, call.next = call.time, None
            self.queue.append(call)

    def attend(self, call: Call, ready: float) -> None:
        """Play the attention of a call that is at its worker, and its way to the pool."""
        latency, i, u = self.scenario.latency, call.worker, call.microbatch
        free = self.attention_free[i]
        back = max(free, ready)
        gap = back - free
        returning = min(gap, ready - call.served)
        served = min(gap - returning, call.served - call.boarded)
        queued = min(gap - returning - served, call.boarded - call.arrived)
        self.idle["barrier"][i] += queued
        self.idle["other side"][i] += served
        self.idle["transfer"][i] += gap - served - queued
        start = back
        if call.layer == 0 and u == 0:
            start = back + latency.step_overhead
            self.idle["overhead"][i] += latency.step_overhead
        kind = self.kinds[call.layer]
        time = self.varied("attention", self.attention_time(kind, u, i))
        call.sent = self.attention_free[i] = start + time
        self.busy[i] += time
        if latency.send.load == "aggregate":
            call.next, call.time = "leave", call.sent
            return
        way = self.varied("send", curve_time(latency.send.curve, self.tokens_of(call)))
        self.send_free[i] = max(call.sent, self.send_free[i]) + way
        call.next, call.time = "arrive", self.send_free[i]

    def tokens_of(self, call: Call) -> float:
        """Return the tokens of a call."""
        if self.scenario.ffn_tokens == "padded":
            return float(self.scenario.bundle.batch_size)
        return float(len(self.slots[call.microbatch][call.worker]))

    def leave(self, call: Call) -> None:
        """Send a call over the link of all workers: its latency does not keep the next one."""
        curve = self.scenario.latency.send.curve
        own = self.tokens_of(call) / self.scenario.bundle.ffn_workers
        start = max(call.sent, self.send_free[0])
        way, latency = curve_time(curve, own), curve_time(curve, 0.0)
        factor = self.varied("send", 1.0)
        self.send_free[0] = start + (way - latency) * factor
        call.next, call.time = "arrive", start + way * factor

    def departure(self) -> float | None:
        """Return when the pool leaves with those that wait, None if it waits for more."""
        rule, waiting = self.scenario.boarding, self.queue
        times = []
        if len(waiting) >= rule.least_calls:
            times.append(max(self.ffn_free, waiting[rule.least_calls - 1].arrived))
        if rule.longest_wait is not None and waiting:
            times.append(max(self.ffn_free, waiting[0].arrived + rule.longest_wait))
        return min(times, default=None)

    def depart(self, start: float) -> None:
        """Serve the calls that wait, first come first served, and send them back."""
        latency, bundle = self.scenario.latency, self.scenario.bundle
        oldest = self.queue[0]
        gap = start - self.ffn_free
        held = min(gap, start - oldest.arrived)
        sending = min(gap - held, oldest.arrived - oldest.sent)
        self.ffn_idle["barrier"] += held
        self.ffn_idle["transfer"] += sending
        self.ffn_idle["other side"] += gap - held - sending
        board: list[Call] = []
        tokens = 0.0
        most = self.scenario.boarding.most_tokens
        while self.queue:
            own = self.tokens_of(self.queue[0])
            if board and most is not None and tokens + own > most:
                break
            call = self.queue.pop(0)
            tokens += own
            call.boarded = start
            self.call_wait += start - call.arrived
            board.append(call)
        self.departures += 1
        self.boarded += len(board)
        shared = tokens / bundle.ffn_workers
        time = curve_time(latency.ffn, shared)
        factors, load = self.factors["experts"], self.scenario.expert_load
        if factors is not None and load is not None:
            time += load.share * (curve_time(latency.ffn, shared * next(factors)) - time)
        time = self.varied("ffn", time)
        self.ffn_free = start + time
        self.ffn_busy += time
        together = 0.0
        if latency.receive.load == "aggregate":
            curve = latency.receive.curve
            way, latest = curve_time(curve, shared), curve_time(curve, 0.0)
            factor = self.varied("receive", 1.0)
            begin = max(self.ffn_free, self.receive_free[0])
            self.receive_free[0] = begin + (way - latest) * factor
            together = begin + way * factor
        for call in board:
            call.served, call.next = self.ffn_free, "return"
            if latency.receive.load == "aggregate":
                call.time = together
                continue
            own_way = curve_time(latency.receive.curve, self.tokens_of(call))
            begin = max(self.ffn_free, self.receive_free[call.worker])
            call.time = begin + self.varied("receive", own_way)
            self.receive_free[call.worker] = call.time

    def come_back(self, call: Call, clock: float) -> None:
        """Begin the next layer of a call, or end its step and begin the next one."""
        call.next = None
        call.layer += 1
        if call.layer < len(self.kinds):
            self.attend(call, clock)
            return
        call.layer = 0
        self.end_own_step(call, clock)
        if self.slots[call.microbatch][call.worker]:
            self.attend(call, clock)
        else:
            call.sleeps = True
        self.rouse(clock)

    # Requests.

    def end_own_step(self, call: Call, clock: float) -> None:
        """End the step of one cell: requests leave, loads grow, requests enter."""
        u, i = call.microbatch, call.worker
        cell = self.slots[u][i]
        step_time = clock - call.step_end
        call.step_end = clock
        self.step_time += step_time
        row = (call.step, u, clock, step_time, len(cell), float(self.held(u, i)), i)
        self.step_log.append((*row, len(self.waiting) if self.scenario.arrivals else 0))
        self.active_sum += len(cell)
        self.active_area += len(cell) * step_time
        call.step += 1
        finished = []
        for request in cell:
            self.tokens += min(self.tokens_per_step, request.missing)
            request.held += self.tokens_per_step
            request.missing -= self.tokens_per_step
            request.steps -= 1
            if request.steps == 0:
                finished.append(request)
        self.slots[u][i] = [request for request in cell if request.steps > 0]
        for request in sorted(finished, key=lambda request: request.order):
            self.finish(request, u, i, clock)
        if self.scenario.memory == "preempt":
            self.make_room(u, i)
        self.admit_own(call, clock)
        self.ended += 1
        if self.ended == (self.step + 1) * len(self.calls):
            self.step += 1
            self.sample_memory()

    def admit_own(self, call: Call, clock: float) -> None:
        """Fill the free slots of one cell, first come first served."""
        u, i = call.microbatch, call.worker
        size = self.scenario.bundle.batch_size
        self.hear(size - len(self.slots[u][i]), clock)
        while len(self.slots[u][i]) < size and self.waiting:
            request = self.leave_queue()
            if not self.fits(i, request):
                self.waiting.appendleft(request)
                return
            self.place(u, i, request, clock)

    def begin(self, call: Call, clock: float) -> None:
        """Let requests into a cell that holds none; it begins a step if there is one that fits."""
        self.admit_own(call, clock)
        i = call.worker
        if not self.slots[call.microbatch][i]:
            return
        call.sleeps = False
        if clock > self.attention_free[i]:
            self.idle["empty"][i] += clock - self.attention_free[i]
            self.attention_free[i] = clock
        call.step_end = call.arrived = call.boarded = call.served = clock
        self.attend(call, clock)

    def wake(self, clock: float) -> None:
        """Let requests that have arrived into cells that sleep."""
        if all(call.sleeps for call in self.calls) and clock > self.clock:
            self.ffn_idle["other side"] += self.clock - self.ffn_free
            self.ffn_idle["empty"] += clock - self.clock
            self.ffn_free = clock
            self.asleep += clock - self.clock
        self.clock = max(clock, self.clock)
        self.rouse(clock)

    def rouse(self, clock: float) -> None:
        """Let sleeping cells have what waits, in turn."""
        if not any(call.sleeps for call in self.calls):
            return
        first = self.next_call
        for call in [*self.calls[first:], *self.calls[:first]]:
            self.hear(1, clock)
            if self.waiting and call.sleeps:
                self.begin(call, clock)
                if not call.sleeps:
                    self.next_call = (call.number + 1) % len(self.calls)
