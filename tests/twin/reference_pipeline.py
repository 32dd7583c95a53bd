"""What does one layer of a microbatch take? Stages in the readable twin of `pipeline.py`."""

from __future__ import annotations

from tests.twin.reference_bundle import ReferenceBundle

__all__ = ["ReferencePipeline"]


class ReferencePipeline(ReferenceBundle):
    """Attention, transfer out, FFN and transfer back, one after another or in ideal overlap."""

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
