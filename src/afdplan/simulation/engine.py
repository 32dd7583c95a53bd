"""How is one replication driven: blocks refilled, logs emptied, whole steps played?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import UnsupportedError
from afdplan.simulation import state as ix
from afdplan.simulation.outage import failure_gaps, stop_bundle
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.sources import RequestSource, initial_requests, variation_source
from afdplan.simulation.state import State, Tables
from afdplan.simulation.tables import build_tables

__all__ = ["Engine"]

Sink = Callable[[FloatArray], None]
UNLIMITED = 2**62
STEPS_PER_CALL = 10_000_000
LATER = 4
"""A run that goes on draws larger blocks: calls of the kernel took 7 % of its time."""
SAMPLED = 2000
"""Requests of which one at least must fit the memory."""
STAGES = (
    ("attention", "vary_attention", ix.AT_ATTENTION, ix.ATTENTION_FACTORS),
    ("send", "vary_send", ix.AT_SEND, ix.SEND_FACTORS),
    ("ffn", "vary_ffn", ix.AT_FFN, ix.FFN_FACTORS),
    ("receive", "vary_receive", ix.AT_RECEIVE, ix.RECEIVE_FACTORS),
    ("experts", "uneven", ix.AT_EXPERTS, ix.EXPERT_FACTORS),
)


def _kernel_of(tables: Tables) -> Callable[..., int]:
    """Return the kernel that plays a scenario; compiling waits until one is played."""
    if tables.barrier_free:
        from afdplan.simulation.barrier_free_kernel import (
            advance_barrier_free,
            advance_barrier_free_plainly,
        )

        return advance_barrier_free_plainly if tables.plain else advance_barrier_free
    if tables.full:
        from afdplan.simulation.full_kernel import advance_full

        return advance_full
    from afdplan.simulation.kernel import advance, advance_plainly

    return advance_plainly if tables.plain else advance


class Engine:
    """One replication of a scenario, played in whole steps.

    Parameters
    ----------
    scenario
        What to play.
    replication
        Which of the independent runs.
    block
        Requests and factors drawn at a time, of requests later `LATER` times as many; changes
        nothing but memory and speed.
    on_requests, on_steps, on_stages
        Called with blocks of log rows (`REQUEST_COLUMNS`, `STEP_COLUMNS`, `STAGE_COLUMNS` of
        `logs.py`); None keeps no log.
    stage_rows
        Most stage rows kept.

    Notes
    -----
    Memory: A m B slots and a few blocks; it grows neither with the requests played nor with
    the longest one. With arrivals it also holds the queue.
    """

    def __init__(
        self,
        scenario: Scenario,
        replication: int = 0,
        *,
        block: int = 4096,
        on_requests: Sink | None = None,
        on_steps: Sink | None = None,
        stage_rows: int = 0,
    ) -> None:
        _require_room(scenario)
        self.scenario = scenario
        self.tables = build_tables(
            scenario,
            log_requests=on_requests is not None,
            log_steps=on_steps is not None,
            log_stages=stage_rows > 0,
        )
        self.state = State(self.tables)
        self.block = block
        self.on_requests = on_requests
        self.on_steps = on_steps
        self.is_finished = False
        self._requests = RequestSource(scenario, replication)
        self._variation = {
            stage: variation_source(scenario, replication, stage) for stage, *_ in STAGES
        }
        self._arrival: FloatArray = np.empty(0)
        self._space = np.empty(0, dtype=np.int64)
        self._factors: dict[str, FloatArray] = {stage: np.empty(0) for stage, *_ in STAGES}
        self._gaps = failure_gaps(scenario, replication)
        self.state.floats[ix.FAILS] = next(self._gaps)
        slots = self.tables.attention_workers * self.tables.batch_size
        constants = self.state.constants
        constants["request_room"] = slots + block if on_requests is not None else 0
        constants["step_room"] = self.tables.microbatches + block if on_steps is not None else 0
        constants["stage_room"] = stage_rows
        rooms = constants["request_room"] + constants["step_room"] + stage_rows
        self.state.log = np.zeros(int(rooms) * ix.LOG_COLUMNS)
        if scenario.start == "stationary":
            rows, times = initial_requests(scenario, replication)
            self.state.whole("returned")[: len(rows), :5] = rows
            self.state.real("returned_times")[: len(rows)] = times
            self.state.integers[ix.RETURNED] = len(rows)

    def run(self, stop_step: int = UNLIMITED, stop_completed: int = UNLIMITED) -> None:
        """Play until `stop_step` steps or `stop_completed` requests are done, or all has come."""
        s = self.state
        advance = _kernel_of(self.tables)
        # Short calls: an interrupt is heard between them.
        cells = s.constants["cells"] * self.tables.layers
        most = max(STEPS_PER_CALL // int(cells), 1)
        while not self.is_finished:
            said = advance(
                s.constants,
                s.integers,
                s.floats,
                s.requests,
                s.factors,
                s.log,
                min(stop_step, int(s.integers[ix.STEP]) + most),
                stop_completed,
            )
            if said == ix.STOPPED:
                n = s.integers
                if n[ix.STEP] >= stop_step or n[ix.COMPLETED] >= stop_completed:
                    return
            if said == ix.FINISHED:
                self.is_finished = True
            elif said == ix.NEED_REQUESTS:
                self._refill_requests()
            elif said == ix.NEED_FACTORS:
                self._refill_factors()
            elif said == ix.FAILED and self.scenario.failures is not None:
                stop_bundle(s, self.scenario.failures.restart, next(self._gaps))
            else:
                self.empty_logs()

    def empty_logs(self) -> None:
        """Hand the rows logged so far to the sinks."""
        n, log = self.state.integers, self.state.log.reshape(-1, ix.LOG_COLUMNS)
        first = 0
        for sink, room, rows in (
            (self.on_requests, "request_room", ix.REQUEST_ROWS),
            (self.on_steps, "step_room", ix.STEP_ROWS),
        ):
            if sink is not None and n[rows]:
                sink(log[first : first + n[rows]].copy())
                n[rows] = 0
            first += int(self.state.constants[room])

    @property
    def stages(self) -> FloatArray:
        """Rows of the stage log: stage, worker, microbatch, step, layer, start, end."""
        constants = self.state.constants
        first = int(constants["request_room"] + constants["step_room"])
        log = self.state.log.reshape(-1, ix.LOG_COLUMNS)
        return log[first : first + self.state.integers[ix.STAGE_ROWS], :7]

    def _refill_requests(self) -> None:
        """Drop the requests taken, append a block."""
        s = self.state
        n = s.integers
        head = int(n[ix.HEAD])
        kept = s.requests[3 * head :]
        need = self.tables.attention_workers * self.tables.batch_size
        need = need * (self.tables.microbatches + 1) + self.tables.placement_window
        block = self.block * (LATER if n[ix.STEP] > 0 else 1)
        count = max(block, need, kept.size // 3)
        most = kept.size + 3 * count
        if self._space.size < most:  # kept: fresh pages take as long as the draws
            self._space = np.zeros(most + most // 4, dtype=np.int64)
        self._space[: kept.size] = kept
        new, arrival = self._requests.draw(count, self._space[kept.size : most].reshape(-1, 3))
        s.requests = self._space[: kept.size + new.size]
        s.requests[kept.size :] = new.reshape(-1)  # nothing moves where they were drawn into it
        n[ix.AVAILABLE] = s.requests.size // 3
        n[ix.HEAD] = 0
        n[ix.ARRIVED] -= head
        n[ix.EXHAUSTED] = int(self._requests.is_exhausted)
        if self.tables.open:
            self._arrival = np.concatenate([self._arrival[head:], arrival])
            self._join_factors()

    def _refill_factors(self) -> None:
        """Drop the factors used, append a block, for every stage that varies."""
        n = self.state.integers
        need = max(self.block, 2 * int(self.state.constants["cells"]))
        for stage, varies, position, size in STAGES:
            if getattr(self.tables, varies):
                left = self._factors[stage][n[position] :]
                if left.size < need:
                    left = np.concatenate([left, self._variation[stage].draw(need)])
                self._factors[stage] = left
                n[size] = left.size
            n[position] = 0
        self._join_factors()

    def _join_factors(self) -> None:
        constants = self.state.constants
        constants["arrival_at"] = 0
        at = self._arrival.size
        for stage, factors in self._factors.items():
            constants[f"{stage}_at"] = at
            at += factors.size
        self.state.factors = np.concatenate([self._arrival, *self._factors.values()])


def _require_room(scenario: Scenario) -> None:
    """Refuse a memory that no request fits: slots would be refilled for ever."""
    room = scenario.kv_capacity
    if room is None or scenario.arrivals is not None:
        return
    prompt, decode = scenario.law.sample(np.random.default_rng(0), SAMPLED)
    least = int((prompt + decode - 1).min())
    if least > room:
        raise UnsupportedError(
            f"kv_capacity must hold a request, got {room:,} tokens: the smallest of "
            f"{SAMPLED:,} drawn ones grows to {least:,}"
        )
