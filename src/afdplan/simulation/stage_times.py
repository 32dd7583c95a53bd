"""How long does a stage take at its load? Compiled, for both kernels; names as in `kernel.py`."""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, Real, U, inlined, vector, window

__all__ = ["curve", "set_attention_times", "set_stage_times"]


@inlined
def curve(t: Any, n: Any, x: Any, curve: Any, load: Any) -> Real:
    """Return the time of a piecewise-linear curve at a load."""
    k = n[U(t.curve_first + curve)]
    end = n[U(t.curve_first + curve + 1)]
    while k + 1 < end and x[U(t.curve_starts + k + 1)] <= load:
        k += 1
    return x[U(t.curve_values + k)] + x[U(t.curve_slopes + k)] * (load - x[U(t.curve_starts + k)])


@vector
def _on_a_line(
    times: Any, loads: Any, active: Any, value: Any, slope: Any, per_request: Any
) -> None:
    """Set times that grow linearly with load and requests."""
    for i in range(times.size):
        times[i] = (value + slope * loads[i]) + per_request * active[i]


@inlined
def set_attention_times(t: Any, n: Any, x: Any, first: Any, workers: Any) -> None:
    """Set how long the attention of `workers` cells from `first` on takes, per kind of layer."""
    active = window(n, t.active + first, workers)
    denominator = float(t.denominator)
    for k in range(t.kinds):
        at = t.loads + n[U(t.load_of_kind + k)] * t.cells + first
        loads = window(n, at, workers)
        at = t.attention_time + k * t.cells + first
        times = window(x, at, workers)
        per_request = x[U(t.time_per_request + k)]
        at = n[U(t.curve_first + k)]
        if n[U(t.curve_first + k + 1)] == at + 1:
            value = x[U(t.curve_values + at)]
            slope = x[U(t.curve_slopes + at)]
            if denominator == 1.0:
                _on_a_line(times, loads, active, value, slope, per_request)
            else:
                for i in range(workers):
                    times[i] = (value + slope * (loads[i] / denominator)) + per_request * active[i]
        else:
            for i in range(workers):
                time = curve(t, n, x, k, loads[i] / denominator)
                times[i] = time + per_request * active[i]
        per_context = x[U(t.time_per_context + k)]
        if per_context > 0.0:
            for i in range(workers):
                if active[i] > 0:
                    times[i] += per_context * (loads[i] / denominator / active[i])


@inlined
def set_stage_times(t: Any, n: Any, x: Any, u: Any) -> None:
    """Set how long each stage of a microbatch's next step takes."""
    first = u * t.attention_workers
    set_attention_times(t, n, x, first, t.attention_workers)
    if t.padded and x[U(t.ffn_time + u)] > 0.0:
        return  # stage times of padded slots never change
    total = t.attention_workers * t.batch_size
    if not t.padded:
        total = n[U(t.present + u)]
    shared = total / t.ffn_workers
    even = curve(t, n, x, t.kinds, shared)
    x[U(t.even_time + u)] = even
    x[U(t.ffn_time + u)] = even
    if EXTRAS and t.whole_peers:
        shared = t.own_tokens
        x[U(t.ffn_time + u)] = even + t.dense_share * (curve(t, n, x, t.kinds, shared) - even)
    for c in range(first, first + t.attention_workers):
        own = float(t.batch_size if t.padded else n[U(t.active + c)])
        x[U(t.send_time + c)] = curve(t, n, x, t.kinds + 1, shared if t.send_aggregate else own)
        x[U(t.receive_time + c)] = curve(
            t, n, x, t.kinds + 2, shared if t.receive_aggregate else own
        )
