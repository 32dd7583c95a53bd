"""How does a scenario become the constants that the kernel runs on?"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, get_args

import numpy as np

from afdplan.errors import InvalidInputError
from afdplan.model.curve import Curve
from afdplan.model.parameters import Placement
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.state import BIN_SHIFT, LONGEST_PROMPT, Tables

__all__ = ["build_tables", "token_fraction"]

DENOMINATOR_LIMIT = 1000
MAXIMUM_SLOTS = 50_000_000
MAXIMUM_UNITS = 2**62


def token_fraction(tokens_per_step: float) -> Fraction:
    """Return tokens per step as a fraction with a denominator of at most 1000.

    Examples
    --------
    >>> token_fraction(1.9)
    Fraction(19, 10)
    """
    return Fraction(tokens_per_step).limit_denominator(DENOMINATOR_LIMIT)


def build_tables(
    scenario: Scenario,
    *,
    log_requests: bool = False,
    log_steps: bool = False,
    log_stages: bool = False,
) -> Tables:
    """Return the constants of a scenario.

    Parameters
    ----------
    scenario
        What to simulate.
    log_requests, log_steps, log_stages
        Whether the kernel writes a row per finished request, per step, per stage.

    Raises
    ------
    InvalidInputError
        If the slots do not fit in memory.
    """
    bundle, latency, scatter = scenario.bundle, scenario.latency, scenario.scatter
    slots = bundle.attention_workers * bundle.batch_size * scenario.microbatches
    if slots > MAXIMUM_SLOTS:
        raise InvalidInputError(
            f"the bundle must have at most {MAXIMUM_SLOTS} slots (A m B), got {slots}: simulate "
            "one of several replicated bundles"
        )
    tokens = token_fraction(latency.tokens_per_step)
    windows = sorted({kind.context_window for kind in latency.attention if kind.context_window})
    curves = [kind.curve for kind in latency.attention]
    curves += [latency.ffn, latency.send.curve, latency.receive.curve]
    pieces = [curve.segments() for curve in curves]
    first = np.concatenate([[0], np.cumsum([p.starts.size for p in pieces])])
    base = _shortest_time(scenario)
    unit = tokens.denominator
    tables = Tables(
        attention_workers=bundle.attention_workers,
        microbatches=scenario.microbatches,
        batch_size=bundle.batch_size,
        layers=latency.layers,
        ideal=scenario.overlap == "ideal",
        drain=latency.drain,
        overhead=latency.step_overhead,
        numerator=tokens.numerator,
        denominator=unit,
        kind_of_layer=np.array(latency.kind_of_layer, dtype=np.int64),
        load_of_kind=np.array(
            [
                1 + windows.index(kind.context_window) if kind.context_window else 0
                for kind in latency.attention
            ],
            dtype=np.int64,
        ),
        time_per_request=np.array([kind.time_per_request for kind in latency.attention]),
        time_per_context=np.array([kind.time_per_context for kind in latency.attention]),
        windows=np.array(windows, dtype=np.int64) * unit,
        curve_first=first.astype(np.int64),
        curve_starts=np.concatenate([p.starts for p in pieces]),
        curve_values=np.concatenate([p.values for p in pieces]),
        curve_slopes=np.concatenate([p.slopes for p in pieces]),
        send_aggregate=latency.send.load == "aggregate",
        receive_aggregate=latency.receive.load == "aggregate",
        padded=scenario.ffn_tokens == "padded",
        ffn_workers=bundle.ffn_workers,
        policy=get_args(Placement).index(scenario.placement),
        placement_window=scenario.placement_window,
        foresight=scenario.foresight,
        capacity=-1
        if scenario.kv_capacity is None
        else min(scenario.kv_capacity * unit, MAXIMUM_UNITS),
        preempt=scenario.memory == "preempt" and scenario.kv_capacity is not None,
        open=scenario.arrivals is not None,
        vary_attention=scatter.attention > 0,
        vary_send=scatter.send > 0,
        vary_ffn=scatter.ffn > 0,
        vary_receive=scatter.receive > 0,
        uneven=scenario.expert_load is not None,
        expert_share=scenario.expert_load.share if scenario.expert_load else 0.0,
        **_coupled(scenario),
        log_requests=log_requests,
        log_steps=log_steps,
        log_stages=log_stages,
        barrier_free=scenario.execution == "barrier-free",
        least_calls=scenario.least_calls,
        longest_wait=-1.0 if scenario.longest_wait is None else scenario.longest_wait,
        most_tokens=scenario.most_tokens or -1,
        bin_base=int(np.float64(base).view(np.int64)) >> BIN_SHIFT,
    )
    plain = is_plain(tables)
    return tables._replace(plain=plain, full=plain and is_full(scenario))


def is_plain(t: Tables) -> bool:
    """Tell whether the kernels without extras play it; they keep differently what is in slots."""
    draws = (t.vary_attention, t.vary_send, t.vary_ffn, t.vary_receive, t.uneven)
    links = (t.send_aggregate, t.receive_aggregate, t.whole_peers, t.overhead)
    couples = [
        value for name, value in t._asdict().items() if "_receives" in name or "_sends" in name
    ]
    logs = (t.log_requests, t.log_steps, t.log_stages)
    extras = (*draws, *links, *couples, *logs, t.ideal, t.windows.size, t.capacity >= 0)
    counts = (t.numerator, t.denominator, t.placement_window)
    return not any(extras) and counts == (1, 1, 1) and t.policy < LONGEST_PROMPT


def is_full(scenario: Scenario) -> bool:
    """Tell whether every slot of a plain bundle is filled again as it falls free."""
    steady = scenario.arrivals is None and scenario.failures is None
    return steady and scenario.execution == "synchronous"


def _coupled(scenario: Scenario) -> dict[str, Any]:
    """Return what transfers of full slots take of each worker, and whose tokens the FFN has."""
    bundle, latency = scenario.bundle, scenario.latency
    coupling, size = latency.coupling, float(bundle.batch_size)
    peers = -(-bundle.attention_workers // bundle.ffn_workers)
    own = bundle.attention_workers * size / bundle.ffn_workers
    if coupling.fan_in == "whole":
        own = peers * size
    out, back = (
        _played_time(link.curve, size if link.load == "worker" else own)
        for link in (latency.send, latency.receive)
    )
    from_each, to_each = (
        peers if coupling.one_by_one and link.load == "worker" else 1
        for link in (latency.send, latency.receive)
    )
    return {
        "attention_receives": coupling.receive_attention * back,
        "attention_sends": coupling.send_attention * out,
        "ffn_receives_one": coupling.send_ffn * out,
        "ffn_receives": from_each * (coupling.send_ffn * out),
        "ffn_sends_others": (to_each - 1) * (coupling.receive_ffn * back),
        "ffn_sends": to_each * (coupling.receive_ffn * back),
        "launch": coupling.launch,
        "whole_peers": coupling.fan_in == "whole",
        "own_tokens": own,
        "dense_share": coupling.dense_share,
    }


def _played_time(curve: Curve, load: float) -> float:
    """Return the time at a load as the kernel finds it, to the last bit."""
    starts, values, slopes = curve.segments()
    k = int(np.searchsorted(starts, load, side="right")) - 1
    return float(values[k] + slopes[k] * (load - starts[k]))


def _shortest_time(scenario: Scenario) -> float:
    """Return a power of two far below any step time, and below one token."""
    latency = scenario.latency
    stages = [kind.curve(0.0) for kind in latency.attention]
    stages += [latency.ffn(1.0), latency.step_overhead]
    stages += [kind.curve(1e4) for kind in latency.attention]
    shortest = min((time for time in stages if time > 0), default=1.0)
    return float(2.0 ** (np.floor(np.log2(min(shortest, 1.0))) - 16))
