"""What is counted and logged while a kernel plays? Compiled; names as in `kernel.py`."""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, Truth, U, bits_of, inlined, part, vector, window
from afdplan.simulation import state as ix

__all__ = ["count", "log_is_full", "log_stage", "sample_memory", "tally_step"]


@inlined
def count(t: Any, n: Any, x: Any, histogram: Any, value: Any) -> None:
    """Add a value to a histogram: its exponent and ten leading bits name the bin."""
    b = (bits_of(value) >> ix.BIN_SHIFT) - t.bin_base
    n[U(t.histograms + histogram * ix.BINS + min(max(b, 0), ix.BINS - 1))] += 1


@vector
def _find_bins(loads: Any, held: Any, bins: Any, sums: Any, denominator: Any, base: Any) -> None:
    """Add the loads of all microbatches up per worker, to `held`, and find their bins.

    `sums` gets the sum over workers and the maximum.
    """
    workers = held.size
    for i in range(workers):
        held[i] = loads[i]
    first = workers
    while first < loads.size:
        for i in range(workers):
            held[i] += loads[first + i]
        first += workers
    total = 0
    most = 0
    for i in range(workers):
        total += held[i]
        most = max(most, held[i])
        b = (bits_of(held[i] / denominator if EXTRAS else float(held[i])) >> ix.BIN_SHIFT) - base
        bins[i] = min(max(b, 0), ix.BINS - 1)
    sums[0] = total
    sums[1] = most


@part
def sample_memory(t: Any, n: Any, x: Any) -> None:
    """Note how many KV tokens each worker holds."""
    workers = t.attention_workers
    bins = window(n, t.ranking + t.together, workers)
    sums = window(n, ix.HELD, 2)
    _find_bins(
        window(n, t.loads, t.cells), window(n, t.ranking, workers), bins, sums,
        float(t.denominator), t.bin_base,
    )  # fmt: skip
    counts = window(n, t.histograms + ix.KV_TOKENS * ix.BINS, ix.BINS)
    for i in range(workers):
        counts[bins[i]] += 1
    n[ix.KV_SUM] += n[ix.HELD]
    n[ix.KV_MAX] = max(n[ix.KV_MAX], n[ix.HELD_MOST])
    n[ix.KV_SAMPLES] += workers


@inlined
def tally_step(t: Any, n: Any, x: Any, active: Any, step_time: Any) -> None:
    """Count one step of `active` requests."""
    x[ix.STEP_TIME] += step_time
    count(t, n, x, ix.STEP_TIMES, step_time)
    n[ix.ACTIVE_SUM] += active
    n[ix.UNITS] += t.numerator * active
    x[ix.ACTIVE_AREA] += active * step_time


@part
def log_stage(
    t: Any, n: Any, g: Any, stage: Any, i: Any, u: Any, step: Any, layer: Any, start: Any, end: Any
) -> None:
    """Note one stage while there is room."""
    if n[ix.STAGE_ROWS] < t.stage_room:
        row = ix.LOG_COLUMNS * (t.request_room + t.step_room + n[ix.STAGE_ROWS])
        n[ix.STAGE_ROWS] += 1
        g[row], g[row + 1], g[row + 2] = stage, i, u
        g[row + 3], g[row + 4], g[row + 5], g[row + 6] = step, layer, start, end


@inlined
def log_is_full(t: Any, n: Any, requests: Any) -> Truth:
    """Say whether a step that ends so many requests has no room in the log."""
    return (t.log_requests and n[ix.REQUEST_ROWS] + requests > t.request_room) or (
        t.log_steps and n[ix.STEP_ROWS] >= t.step_room
    )
