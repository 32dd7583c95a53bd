"""What does the bundle do, said plainly? The readable twin of `kernel.py`.

No compilation, no blocks, no calendar: every request is an object, every step looks at every
slot. It does the same additions in the same order as the kernel, so that the two are equal bit
for bit, and is used in tests only. Read this file to know what is simulated.
"""

from __future__ import annotations

from tests.twin.reference_admission import ReferenceAdmission
from tests.twin.reference_bundle import Request
from tests.twin.reference_pipeline import ReferencePipeline

__all__ = ["Reference"]


class Reference(ReferencePipeline, ReferenceAdmission):
    """A bundle that plays itself step by step; see `ReferenceBundle` for what it is made of."""

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

    def end_step(self, u: int) -> None:
        """End a microbatch's step: requests leave, loads grow, requests enter."""
        clock = max(self.ready[u])
        step_time = clock - self.step_end[u]
        self.clock = self.step_end[u] = clock
        self.step_time += step_time
        active = sum(len(cell) for cell in self.slots[u])
        loads = [self.held(u, i) for i in self.workers]
        total, heaviest = float(sum(loads)), float(max(loads))
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
