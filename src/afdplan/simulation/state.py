"""What do the kernel and its driver share: constants of a design, running state, inputs?

The kernel sees one record of constants and two flat arrays, of integers and of floats; the
record says where in them each named part begins. (Tuples of many arrays would cost a minute of
compilation and most of the speed.)

Loads are kept in integer *units* of ``1 / denominator`` token, where ``tokens_per_step`` is the
fraction ``numerator / denominator``: sums never drift. After an edit of an index below, touch
`kernel.py` as well, since the cache of compiled code watches that file only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from afdplan.arrays import FloatArray, IntArray

__all__ = ["State", "Tables"]


# Integer totals.
STEP, POSITION, PENDING, HEAD, ARRIVED, AVAILABLE, EXHAUSTED, ORDER = range(8)
PLACED, STARTED, COMPLETED, UNITS, ENTERED, REJECTED, PREEMPTED, RECOMPUTED = range(8, 16)
ACTIVE, ACTIVE_SUM, KV_SUM, KV_MAX, KV_SAMPLES, TIMED, WAITED, ROUNDS = range(16, 24)
RETURNED, RETURNED_HEAD, NEXT_WORKER = range(24, 27)
# Positions in the blocks of factors, their sizes, and rows in the logs, with their room.
AT_ATTENTION, AT_SEND, AT_FFN, AT_RECEIVE, REQUEST_ROWS, STEP_ROWS, STAGE_ROWS = range(27, 34)
ATTENTION_FACTORS, SEND_FACTORS, FFN_FACTORS, RECEIVE_FACTORS, LAYER = range(34, 39)
AT_EXPERTS, EXPERT_FACTORS = range(39, 41)
# Barrier-free: events to come, calls that wait and where their ring begins, empty cells,
# departures, calls on board of them, steps of single cells.
EVENTS, CALLS, FIRST_CALL, SLEEPING, DEPARTURES, BOARDED, CELL_STEPS = range(41, 48)
# Failures of the bundle, requests and units of output that they lost.
FAILURES, LOST, LOST_UNITS = range(48, 51)
# What all workers hold together, and the one that holds most, as it is noted.
HELD, HELD_MOST = range(51, 53)
INTEGER_TOTALS = 53
# Float totals.
CLOCK, QUEUE_AREA, QUEUE_TIME, WAIT, TIME_PER_TOKEN, ACTIVE_AREA, GATE, STEP_TIME = range(8)
FFN_FREE, SEND_FREE, RECEIVE_FREE, FFN_BUSY, ASLEEP, SCRATCH, CALL_WAIT = range(8, 15)
# When the bundle fails next, and before when it cannot work after a failure.
FAILS, OPENS = range(15, 17)
# The last end of attention and of the links out, of the layer that is played.
LAST_END, LAST_ARRIVAL = range(17, 19)
FLOAT_TOTALS = 19
# Where idle time goes.
IDLE_TRANSFER, IDLE_BARRIER, IDLE_OTHER_SIDE, IDLE_OVERHEAD, IDLE_EMPTY = range(5)
CAUSES = 5
# A waiting request: prompt, steps, output, tokens, preemptions, admissions at which it was passed
# over (and what becomes of it now: not kept, kept, placed).
PROMPT, STEPS, OUTPUT, TOKENS, PREEMPTIONS, PASSED, FATE = range(7)
PASSED_OVER, KEPT, PLACED_NOW = range(3)
# What the kernel says when it returns.
STOPPED, NEED_REQUESTS, NEED_FACTORS, LOG_FULL, FINISHED, FAILED = range(6)
# Histograms: 1024 bins per octave, 64 octaves.
STEP_TIMES, TOKEN_TIMES, WAITS, KV_TOKENS, PASSES = range(5)
HISTOGRAMS = 5
BINS = 65_536
BIN_SHIFT = 42
# When a request began to be served: a time, or one of these.
NOT_BEGUN = -1.0
FOUND_IN_SLOT = -2.0
COLUMNS = ("prompt", "steps", "output", "tokens", "due", "following", "preceding", "begun")
"""What is known of a slot: prompt at placement [units], steps from placement to the end, output
from placement on [units], tokens of the whole output; for each kind of load the step of its
calendar's event and its neighbours in the circular list; when it began, the bits of a float."""
ROW = 8
WHEEL = 4096
"""Buckets of one level of the calendar; two levels span 16.8 million steps."""
RECORD, BEGUN, WHOSE, DUE = 4, 1, 2, 3
"""Of a request of a bundle that is always full: the context it leaves with and one more, when it
began, tokens of its output and its worker, and its last step, then the record after it."""
CHUNK, WINDOW, WINDOWS = 32, 64, 4096
"""Records of a chunk, steps of a window, windows of the ring; a request may live longer."""
# In the order of `Placement`; all from `LONGEST_PROMPT` on rank what enters together.
ROUND_ROBIN, FEWEST_REQUESTS, FEWEST_TOKENS, LONGEST_PROMPT, LONGEST_PROMPT_RANK = range(5)
LONGEST_REQUEST = 5
ATTENTION, SEND, FFN, RECEIVE = range(4)
# What a call does next, barrier-free: reach its worker, or leave it.
RETURNS, LEAVES = range(2)
NEVER = float("inf")
FAR = 1e300
"""A time that never comes, whose differences are numbers."""
LOG_COLUMNS = 8


class Tables(NamedTuple):
    """Constants of one design, as the kernel wants them."""

    attention_workers: int
    microbatches: int
    batch_size: int
    layers: int
    ideal: bool
    drain: bool
    overhead: float
    numerator: int
    denominator: int
    kind_of_layer: IntArray  # (layers,)
    load_of_kind: IntArray  # (kinds,): 0 the whole context, q >= 1 window q - 1
    time_per_request: FloatArray  # (kinds,)
    time_per_context: FloatArray  # (kinds,)
    windows: IntArray  # (windows,) in units
    curve_first: IntArray  # (kinds + 4,): where the pieces of a curve begin
    curve_starts: FloatArray
    curve_values: FloatArray
    curve_slopes: FloatArray
    send_aggregate: bool
    receive_aggregate: bool
    padded: bool
    ffn_workers: int
    policy: int
    placement_window: int
    foresight: int  # steps over which requests are weighed that are known to their end
    capacity: int  # units; -1 without a limit
    preempt: bool
    open: bool
    vary_attention: bool
    vary_send: bool
    vary_ffn: bool
    vary_receive: bool
    uneven: bool  # experts
    expert_share: float
    # What transfers of full slots take of a worker's time per microbatch and layer: a receiver's
    # begins so long before the end of the (last) transfer, a sender's at its beginning.
    attention_receives: float
    attention_sends: float
    ffn_receives_one: float
    ffn_receives: float
    ffn_sends_others: float
    ffn_sends: float
    launch: float
    whole_peers: bool
    own_tokens: float
    dense_share: float
    log_requests: bool
    log_steps: bool
    log_stages: bool
    barrier_free: bool
    least_calls: int
    longest_wait: float  # -1 without a limit
    most_tokens: int  # -1 without a limit
    bin_base: int  # histogram bin of the shortest time told apart
    plain: bool = False  # the kernel without extras plays it
    full: bool = False  # and no slot is ever free


class State:
    """All that changes while a bundle runs.

    Attributes
    ----------
    constants
        A numpy record: every number of `Tables`, and the offset of every part.
    integers, floats
        Flat arrays: the totals first (see the indices above), then the parts.
    requests
        Block of requests to come: prompt, decode, unfit before it, shape (3 n,).
    factors
        Blocks of arrivals and of factors on service times, one after the other.
    log
        Rows of the logs: requests, steps, stages.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        cells = tables.microbatches * tables.attention_workers
        slots = cells * tables.batch_size
        together = tables.attention_workers * tables.batch_size + tables.placement_window - 1
        queues = 1 + tables.windows.size
        # Who ends steps together shares a calendar: a microbatch, or a cell without the barrier.
        calendars = cells if tables.barrier_free else tables.microbatches
        rows = 2 * slots + 1 + tables.placement_window
        # A bundle that is always full keeps records: of its slots, and as many that have ended.
        kept, microbatches_kept = (0, tables.microbatches) if tables.full else (slots, 0)
        lists = min(WINDOWS, slots) + 3
        chunks = 2 * slots // CHUNK + microbatches_kept * lists if tables.full else 0
        words = -(-tables.attention_workers // 64)
        workers, microbatches = (tables.attention_workers,), (tables.microbatches,)
        cell = (tables.microbatches, tables.attention_workers)
        self._integer_parts: dict[str, tuple[int, ...]] = {
            "kind_of_layer": tables.kind_of_layer.shape,
            "load_of_kind": tables.load_of_kind.shape,
            "windows": tables.windows.shape,
            "curve_first": tables.curve_first.shape,
            "loads": (queues, *cell),  # tokens held, in units: all, then within each window
            "growing": (queues, *cell),  # requests whose load still grows
            "active": cell,
            "present": microbatches,  # active requests of a microbatch
            "free_first": cell,  # first free slot, -1 if none
            "free_words": (tables.microbatches, words),  # a bit per worker with a free slot
            "held": workers,  # units of all microbatches
            "foreseen": workers,  # units over the steps of foresight, of the microbatch that admits
            "reserved": workers,  # units promised to admitted requests
            # Side by side, as they are used, one line of the cache each: see `ROW`.
            "requests": (queues, kept, ROW),
            # See `full_kernel.py`.
            "records": (chunks * CHUNK, RECORD),
            "next_chunk": (chunks,),
            "free_chunk": (1,),
            "chunks_used": (1,),
            "spare": (microbatches_kept,),
            "step_lists": (microbatches_kept, WINDOW),
            "window_lists": (microbatches_kept, WINDOWS + 2, 2),
            "order": (kept,),  # of placement
            "preemptions": (kept,),
            "buckets": (queues, 0 if tables.full else calendars, 2 * WHEEL),  # `slot_calendar.py`
            "returned": (rows, 6),
            "chosen": (together, 7),
            "ranking": (2, together),
            "histograms": (HISTOGRAMS, BINS),
            # Barrier-free, per cell: heap of events, ring of calls that wait, what comes next,
            # the layer and step it is in, whether it is empty and sleeps.
            "heap": (cells,),
            "calls": (cells,),
            "next": (cells,),
            "layer": (cells,),
            "own_step": (cells,),
            "sleeps": (cells,),
        }
        self._float_parts: dict[str, tuple[int, ...]] = {
            "time_per_request": tables.time_per_request.shape,
            "time_per_context": tables.time_per_context.shape,
            "curve_starts": tables.curve_starts.shape,
            "curve_values": tables.curve_values.shape,
            "curve_slopes": tables.curve_slopes.shape,
            "attention_time": (tables.load_of_kind.size, *cell),
            "send_time": cell,
            "receive_time": cell,
            "ffn_time": microbatches,
            "even_time": microbatches,  # the FFN's without its dense share's more
            "attention_free": workers,
            "send_free": workers,
            "receive_free": workers,
            "sent": cell,  # when the worker's own part had left
            "barrier": microbatches,  # when the last worker's part had
            "delivered": microbatches,  # when the FFN had all of it
            "ffn_end": microbatches,
            "ready": cell,  # when the result is back
            "back": microbatches,  # when the result is back at the last worker
            "step_end": microbatches,
            "busy": workers,
            "idle": (CAUSES, tables.attention_workers),
            "ffn_idle": (CAUSES,),
            "arrival": (kept,),
            "returned_times": (rows, 2),
            "chosen_times": (together, 2),
            # Barrier-free: when a cell's next event is, when its call reached the pool, boarded,
            # was served, and when its step before ended.
            "event": (cells,),
            "arrived": (cells,),
            "boarded": (cells,),
            "served": (cells,),
            "cell_end": (cells,),
        }
        numbers = {
            name: value
            for name, value in tables._asdict().items()
            if not isinstance(value, np.ndarray)
        }
        numbers |= {
            "together": together,
            "cells": cells,
            "slots": slots,
            "queues": queues,
            "rows": rows,
        }
        numbers |= {"calendars": calendars, "words": words}
        numbers |= {"kinds": tables.load_of_kind.size, "request_room": 0, "step_room": 0}
        tracked = tables.capacity >= 0 or queues > 1 or tables.log_requests
        numbers |= {"tracked": tracked, "stage_room": 0, "arrival_at": 0}
        numbers |= dict.fromkeys(
            ("attention_at", "send_at", "ffn_at", "receive_at", "experts_at"), 0
        )
        self._offsets: dict[str, int] = {}
        sizes = []
        for parts, first in (
            (self._integer_parts, INTEGER_TOTALS),
            (self._float_parts, FLOAT_TOTALS),
        ):
            at = first
            for name, shape in parts.items():
                at += -at % ROW  # each begins a line of the cache
                self._offsets[name] = at
                at += int(np.prod(shape))
            sizes.append(at)
        fields = [
            (name, np.float64 if isinstance(value, float) else np.int64)
            for name, value in numbers.items()
        ] + [(name, np.int64) for name in self._offsets]
        self._columns = {name: column for column, name in enumerate(COLUMNS)}
        for name, column in self._columns.items():
            self._offsets[name] = self._offsets["requests"] + column
        fields += [(name, np.int64) for name in self._columns]
        record = np.zeros(1, dtype=np.dtype(fields))
        for name, value in (numbers | self._offsets).items():
            record[name] = value
        self.constants: Any = record[0]
        self.integers: IntArray = _aligned(sizes[0])
        self.floats: FloatArray = _aligned(sizes[1]).view(np.float64)
        self.requests: IntArray = np.empty(0, dtype=np.int64)
        self.factors: FloatArray = np.empty(0)
        self.log: FloatArray = np.empty(0)
        for name in ("kind_of_layer", "load_of_kind", "windows", "curve_first"):
            self.whole(name)[:] = getattr(tables, name)
        for name in (
            "time_per_request",
            "time_per_context",
            "curve_starts",
            "curve_values",
            "curve_slopes",
        ):
            self.real(name)[:] = getattr(tables, name)
        self.floats[FAILS] = FAR
        self.free_slots()

    def free_slots(self) -> None:
        """Empty every slot and every calendar."""
        first = self.whole("free_first")
        size = self.tables.batch_size
        free = np.arange(1, first.size * size + 1)
        free[size - 1 :: size] = -1
        self.whole("following")[0] = free[: self.whole("order").size]
        first[:] = np.arange(0, free.size, size).reshape(first.shape)
        bits = np.zeros((first.shape[0], self.whole("free_words").shape[1] * 64), dtype=np.uint8)
        bits[:, : first.shape[1]] = 1
        self.whole("free_words")[:] = np.packbits(bits, axis=1, bitorder="little").view("<i8")
        self.whole("due")[:] = -1
        for part in ("buckets", "free_chunk", "spare", "step_lists"):
            self.whole(part)[:] = -1

    def whole(self, part: str) -> IntArray:
        """Return a part of the integers as an array of its shape (a view)."""
        if part in self._columns:
            return self.whole("requests")[..., self._columns[part]]
        shape = self._integer_parts[part]
        at = self._offsets[part]
        return self.integers[at : at + int(np.prod(shape))].reshape(shape)

    def real(self, part: str) -> FloatArray:
        """Return a part of the floats as an array of its shape (a view)."""
        if part in self._columns:  # kept among integers, for the cache
            return self.whole(part).view(np.float64)
        shape = self._float_parts[part]
        at = self._offsets[part]
        return self.floats[at : at + int(np.prod(shape))].reshape(shape)


def _aligned(size: int) -> IntArray:
    """Return zeros of which the first begins a line of the cache."""
    space = np.zeros(size + ROW, dtype=np.int64)
    first = -(space.ctypes.data // 8) % ROW
    return space[first : first + size]
