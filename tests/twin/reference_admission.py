"""Which request enters which slot? Requests in the readable twin of `admission.py`."""

from __future__ import annotations

import math

from tests.twin.reference_bundle import ReferenceBundle, Request, Tokens

__all__ = ["ReferenceAdmission"]


class ReferenceAdmission(ReferenceBundle):
    """Arrivals, the queue, the policies of placement and room in the KV memory."""

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
            self.upcoming = Request(prompt, decode, prompt, steps, decode, arrival)
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

    def length(self, request: Request) -> Tokens:
        """Return by what requests are ranked: the prompt, or all that is known to be held."""
        if self.scenario.placement != "longest-request":
            return request.held
        steps = range(min(request.steps, self.scenario.foresight))
        return sum(request.held + k * self.tokens_per_step for k in steps)

    def weight(self, u: int, i: int) -> Tokens:
        """Return the load by which workers are told apart: the microbatch's, or all of it."""
        if self.scenario.placement == "longest-request":
            return sum(self.length(request) for request in self.slots[u][i])
        if self.scenario.placement != "longest-prompt-rank":
            return self.held(u, i)
        return sum(self.held(k, i) for k in self.microbatches)

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
