"""Does the compiled kernel equal its readable twin, bit for bit, whatever the options?"""

import os
import random
import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import get_args

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.failures import Failures
from afdplan.model.latency import LatencyModel
from afdplan.model.parameters import Placement
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.trace import Trace
from afdplan.model.variation import ExpertLoad, Scatter, zipf_popularity
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.outage import failure_gaps
from afdplan.simulation.scenario import Arrivals, Scenario, Variation
from afdplan.simulation.sources import RequestSource, initial_requests, variation_source
from tests.twin.barrier_free_reference import BarrierFreeReference
from tests.twin.reference import Reference
from tests.twin.reference_bundle import Request

FFN_TOKENS = ["padded", "active"]
EXPERTS = [
    ExpertLoad(imbalance=1.2, imbalance_cv=0.4, share=0.7),
    ExpertLoad(experts=12, experts_per_token=2, ranks_per_worker=2),
    ExpertLoad(
        experts=12,
        experts_per_token=3,
        popularity=(zipf_popularity(12, 1.0),),
        overdispersion=2.0,
        tokens_per_request=2,
    ),
]
SCENARIOS = int(os.environ.get("AFDPLAN_TWIN_SCENARIOS", "240"))


def random_curve(r):
    slope = r.choice([0.0, 0.1, 0.37, 1.3])
    kind = r.randrange(3)
    if kind == 0:
        return LinearCurve(slope=slope, intercept=r.choice([0.5, 3.0, 10.0]))
    if kind == 1:
        return RooflineCurve(floor=r.choice([2.0, 9.0]), slope=slope, intercept=-1.0)
    return TabulatedCurve(loads=[3, 8, 30], times=[1.0, 1.0 + 5 * slope, 2.0 + 40 * slope])


def random_scenario(seed):
    """Draw every option independently: pairs of options meet many times in a few hundred."""
    r = random.Random(seed)
    kinds = []
    for _ in range(r.choice([1, 1, 2, 3])):
        kinds.append(
            AttentionLayers(
                curve=random_curve(r),
                layers=r.choice([1, 1, 2, 3]),
                time_per_request=r.choice([0.0, 0.3]),
                time_per_context=r.choice([0.0, 0.02]),
                context_window=r.choice([None, None, 2, 5, 11]),
            )
        )
    layers = sum(kind.layers for kind in kinds)
    order = [number + 1 for number, kind in enumerate(kinds) for _ in range(kind.layers)]
    latency = LatencyModel(
        name="random",
        time_unit="abstract",
        attention=tuple(kinds),
        layer_order=r.choice(["blocks", "alternating", tuple(r.sample(order, layers))]),
        ffn=random_curve(r),
        send=Transfer(curve=random_curve(r), load=r.choice(["worker", "aggregate"])),
        receive=Transfer(curve=random_curve(r), load=r.choice(["worker", "aggregate"])),
        step_overhead=r.choice([0.0, 2.5]),
        tokens_per_step=r.choice([1.0, 1.0, 1.9, 2.0, 2.75]),
        drain=layers > 1 and r.random() < 0.4,
    )
    experts = r.choice([None, None, *EXPERTS])
    c = random.Random(f"coupling {seed}")
    loads = latency.send.load, latency.receive.load
    alone = [c.choice([0.0, 0.2, 1.0]) if load == "worker" else 0.0 for load in loads]
    dense = 0.0 if experts and experts.share == 1 else c.choice([0.0, 0.3])
    coupling = Coupling(
        send_attention=alone[0],
        receive_attention=alone[1],
        send_ffn=c.choice([0.0, 0.3, 1.0]),
        receive_ffn=c.choice([0.0, 0.3, 1.0]),
        one_by_one=c.random() < 0.5,
        launch=c.choice([0.0, 1.7]),
        fan_in="whole" if dense else c.choice(["even", "whole"]),
        dense_share=dense,
    )
    latency = replace(
        latency,
        experts=experts,
        coupling=c.choice([Coupling(), Coupling(launch=0.7), coupling, coupling]),
        scatter=Scatter(ffn=r.choice([0.0, 0.3]), law=r.choice(["gamma", "lognormal"])),
    )
    bundle = Bundle(
        attention_workers=r.choice([1, 2, 3, 4]),
        ffn_workers=r.choice([1, 1, 2, 3]),
        batch_size=r.choice([1, 2, 3, 5]),
        microbatches=r.choice([1, 2, 2, 3, 4]),
    )
    decode = r.choice(["1", "geometric:3", "geometric:9", "uniform:1..12", "7"])
    law = IndependentLengths(prompt=r.choice(["uniform:0..9", "geometric:4", "3"]), decode=decode)
    generator = np.random.default_rng(seed)
    prompts, decodes = law.sample(generator, 60)
    trace = Trace(
        prompt_tokens=prompts,
        decode_tokens=decodes,
        arrival_times=np.cumsum(generator.exponential(20.0, 60).round(1)),
    )
    lengths = r.choice([law, law, trace, EmpiricalLengths(trace)])
    arrivals = None
    if r.random() < 0.5:
        rate = r.choice([0.01, 0.05, 0.3])
        arrivals = r.choice(
            [
                Arrivals(process="poisson", rate=rate),
                Arrivals(process="gamma", rate=rate, cv=r.choice([0.5, 2.0])),
                Arrivals(process="trace", rate=rate),
            ]
        )
        if arrivals.process == "trace":
            lengths = trace
    capacity = r.choice([None, None, 14, 25, 60])
    placement = r.choice([*get_args(Placement), "longest-prompt", "longest-prompt-rank"])
    failures = None
    if r.random() < 0.4:
        latency = replace(latency, time_unit="s", attention_devices=2)
        failures = Failures(
            device_mtbf=r.choice([500.0, 3000.0]), restart=r.choice([0.0, 7.5, 300.0])
        )
    overlap = r.choice(["pipelined", "pipelined", "pipelined", "ideal"])
    start = "fresh" if arrivals else r.choice(["fresh", "stationary"])
    if overlap == "ideal":  # lets transfers occupy nobody
        latency = replace(latency, coupling=Coupling(launch=latency.coupling.launch))
    full = latency.coupling != Coupling() or (experts and experts.imbalance is None)
    scenario = partial(
        Scenario,
        bundle=bundle,
        latency=latency,
        lengths=lengths,
        seed=seed,
        overlap=overlap,
        start=start,
        arrivals=arrivals,
        placement=placement,
        placement_window=r.choice([1, 1, 2, 4, 9]) if placement.startswith("longest") else 1,
        kv_capacity=capacity,
        memory=r.choice(["reserve", "preempt"]) if capacity else "reserve",
        ffn_tokens="padded" if full else r.choice(FFN_TOKENS),
        variation=Variation(
            attention=r.choice([0.0, 0.0, 0.4]),
            send=r.choice([0.0, 0.0, 0.5]),
            ffn=r.choice([0.0, 0.0, 1.0]),
            receive=r.choice([0.0, 0.0, 0.2]),
            expert_imbalance=r.choice([1.0, 1.0, 1.3]),
            expert_imbalance_cv=r.choice([0.0, 0.5]),
        ),
    )
    try:
        return scenario(failures=failures)
    except InvalidInputError:  # they would be so frequent that no request ever finished
        return scenario(failures=None)


def random_barrier_free(seed):
    """Return the same bundle without the barrier, under a random boarding rule."""
    r = random.Random(-1 - seed)
    while True:
        scenario = random_scenario(seed)
        wait = r.choice([None, None, 0.0, 3.0, 20.0])
        calls = r.choice([1, 1, 1, 2, 3, 5])
        size = scenario.bundle.batch_size
        most = r.choice([None, None, calls * size, (calls + 1) * size])
        try:
            return replace(
                scenario,
                execution="barrier-free",
                failures=None,
                least_calls=calls,
                longest_wait=wait,
                most_tokens=most,
                latency=replace(scenario.latency, drain=False, coupling=Coupling()),
                overlap="pipelined",
                placement="round-robin",
            )
        except (InvalidInputError, UnsupportedError):
            seed += 100_003


def twin_of(scenario):
    capacity = scenario.kv_capacity
    object.__setattr__(scenario, "kv_capacity", None)
    source = RequestSource(scenario, 0)

    def requests():
        while not source.is_exhausted:
            rows, arrival = source.draw(400)
            times = arrival if arrival.size else np.zeros(len(rows))
            for row, time in zip(rows.tolist(), times.tolist(), strict=True):
                yield row[0], row[1], time

    def factors(stage):
        variation = variation_source(scenario, 0, stage)
        while True:
            yield from variation.draw(1000).tolist()

    object.__setattr__(scenario, "kv_capacity", capacity)
    v = scenario.scatter
    varied = {
        "attention": v.attention,
        "send": v.send,
        "ffn": v.ffn,
        "receive": v.receive,
        "experts": scenario.expert_load is not None,
    }
    initial = []
    if scenario.start == "stationary":
        top = Fraction(scenario.latency.tokens_per_step).limit_denominator(1000)
        unit = top.denominator

        def whole_or_not(parts):
            return parts if unit == 1 else Fraction(parts, unit)

        for held, steps, missing, tokens, _ in initial_requests(scenario, 0)[0].tolist():
            whole = -(-tokens // top)
            initial.append(
                Request(
                    prompt=int(Fraction(held, unit) + top * (steps - whole)),
                    tokens=tokens,
                    held=whole_or_not(held),
                    steps=steps,
                    missing=whole_or_not(missing),
                    found_in_slot=True,
                )
            )
    kind = BarrierFreeReference if scenario.execution == "barrier-free" else Reference
    return kind(
        scenario,
        requests(),
        {stage: factors(stage) if on else None for stage, on in varied.items()},
        initial,
        failure_gaps(scenario, 0),
    )


def bins(values, base):
    counts = {}
    for value in values:
        b = (struct.unpack("<q", struct.pack("<d", value))[0] >> ix.BIN_SHIFT) - base
        b = min(max(b, 0), ix.BINS - 1)
        counts[b] = counts.get(b, 0) + 1
    return counts


def differences(scenario, steps, block=16, *, logged=True):
    """Return the names of all quantities in which the kernel and its twin differ."""
    finished, ended = [], []
    sinks = {"on_requests": finished.append, "on_steps": ended.append} if logged else {}
    engine = Engine(scenario, block=block, **sinks)
    # Stop in the middle and go on: nothing may depend on it.
    engine.run(stop_step=steps // 3)
    engine.run(stop_step=steps)
    engine.empty_logs()
    twin = twin_of(scenario)
    twin.play(steps, 10**9)
    n, x, s = engine.state.integers, engine.state.floats, engine.state
    unit = int(engine.tables.denominator)

    def table(rows):
        return [tuple(row) for row in np.concatenate(rows).tolist()] if rows else []

    causes = ("transfer", "barrier", "other side", "overhead", "empty")

    def histogram(k):
        counts = s.whole("histograms")[k]
        return {int(b): int(counts[b]) for b in np.flatnonzero(counts)}

    base = engine.tables.bin_base
    tpot = [(row[4] - row[3]) / row[1] for row in twin.finished_log if row[3] != -2.0]
    queued = len(twin.waiting)
    pairs = {
        "step": (n[ix.STEP], twin.step),
        "clock": (x[ix.CLOCK], twin.clock),
        "completed": (n[ix.COMPLETED], twin.completed),
        "entered": (n[ix.ENTERED], twin.entered),
        "rejected": (n[ix.REJECTED], twin.rejected),
        "started": (n[ix.STARTED], twin.started),
        "placed": (n[ix.PLACED], twin.placed),
        "preempted": (n[ix.PREEMPTED], twin.preempted),
        "recomputed": (n[ix.RECOMPUTED], twin.recomputed * unit),
        "tokens": (n[ix.UNITS], twin.tokens * unit),
        "active sum": (n[ix.ACTIVE_SUM], twin.active_sum),
        "kv sum": (n[ix.KV_SUM], twin.kv_sum * unit),
        "kv max": (n[ix.KV_MAX], twin.kv_max * unit),
        "queue area": (x[ix.QUEUE_AREA], twin.queue_area),
        "wait": (x[ix.WAIT], twin.wait),
        "time per token": (x[ix.TIME_PER_TOKEN], twin.time_per_token),
        "active area": (x[ix.ACTIVE_AREA], twin.active_area),
        "step time": (x[ix.STEP_TIME], twin.step_time),
        "failures": (
            n[[ix.FAILURES, ix.LOST, ix.LOST_UNITS]].tolist(),
            [twin.failures, twin.lost, twin.lost_tokens * unit],
        ),
        "asleep": (x[ix.ASLEEP], twin.asleep),
        "ffn busy": (x[ix.FFN_BUSY], twin.ffn_busy),
        "ffn free": (x[ix.FFN_FREE], twin.ffn_free),
        "busy": (s.real("busy").tolist(), twin.busy),
        "idle": (s.real("idle").tolist(), [twin.idle[c] for c in causes]),
        "ffn idle": (s.real("ffn_idle").tolist(), [twin.ffn_idle[c] for c in causes]),
        "attention free": (s.real("attention_free").tolist(), twin.attention_free),
        "ready": (s.real("ready").tolist(), twin.ready),
        "loads": (
            s.whole("loads")[0].tolist(),
            [[twin.held(u, i) * unit for i in twin.workers] for u in twin.microbatches],
        ),
        "finished requests": (table(finished), twin.finished_log),
        "ended steps": (table(ended), twin.step_log),
        "step histogram": (histogram(ix.STEP_TIMES), bins([r[3] for r in twin.step_log], base)),
        "passes histogram": (
            histogram(ix.PASSES),
            bins(twin.passes, base) if scenario.placement_window > 1 else {},
        ),
        "tpot histogram": (histogram(ix.TOKEN_TIMES), bins(tpot, base)),
    }
    if not logged:
        del pairs["finished requests"], pairs["ended steps"]
    if scenario.execution == "barrier-free":
        del pairs["ready"]
        mine = n[[ix.DEPARTURES, ix.BOARDED, ix.CELL_STEPS]].tolist()
        pairs["departures"] = mine, [twin.departures, twin.boarded, twin.ended]
        pairs["wait of calls"] = x[ix.CALL_WAIT], twin.call_wait
        pairs["next events"] = [
            (float(time) for time in s.real("event")[[c.number for c in twin.calls if c.next]]),
            (c.time for c in twin.calls if c.next),
        ]
        pairs["next events"] = tuple(map(list, pairs["next events"]))
    if scenario.arrivals:
        pairs["queued"] = (n[ix.ARRIVED] - n[ix.HEAD] + n[ix.RETURNED], queued)
    return [name for name, (mine, other) in pairs.items() if mine != other], engine, twin


@pytest.mark.parametrize("lane", range(4))
def test_kernel_equals_reference_on_random_scenarios(lane):
    for seed in range(lane, SCENARIOS, 4):
        scenario = random_scenario(seed)
        wrong, _, _ = differences(scenario, steps=30)
        assert not wrong, (seed, wrong, scenario)


def random_full_scenario(seed):
    """Draw a bundle that is always full: such runs without logs have a kernel of their own."""
    drawn, r = random_scenario(seed), random.Random(seed)
    if not isinstance(drawn.lengths, Trace):
        lengths = IndependentLengths(
            prompt=r.choice(["0", "geometric:7"]),
            decode=r.choice(["1", "geometric:3", "geometric:40", "uniform:1..200"]),
        )
    else:
        lengths = drawn.lengths
    kinds = tuple(replace(kind, context_window=None) for kind in drawn.latency.attention)
    plain = {"step_overhead": 0.0, "tokens_per_step": 1.0, "scatter": Scatter(), "experts": None}
    plain["coupling"] = Coupling(launch=r.choice([0.0, 0.7]))
    links = {
        way: Transfer(curve=getattr(drawn.latency, way).curve, load="worker")
        for way in ("send", "receive")
    }
    return Scenario(
        bundle=drawn.bundle,
        latency=replace(drawn.latency, attention=kinds, **plain, **links),
        lengths=lengths,
        seed=seed,
        start=r.choice(["fresh", "stationary"]),
        placement=r.choice(["round-robin", "fewest-requests", "least-tokens"]),
        ffn_tokens=r.choice(FFN_TOKENS),
    )


def test_kernel_of_full_bundles_equals_reference():
    for seed in range(SCENARIOS // 4):
        wrong, engine, _ = differences(random_full_scenario(seed), steps=150, logged=False)
        assert engine.tables.full
        assert wrong == [], seed


@pytest.mark.parametrize("lane", range(2))
def test_kernel_equals_reference_without_the_barrier(lane):
    for seed in range(lane, SCENARIOS // 2, 2):
        scenario = random_barrier_free(seed)
        wrong, _, _ = differences(scenario, steps=30)
        assert not wrong, (seed, wrong, scenario)


def long_scenario(**changes):
    """Return one slot row whose requests outlive both levels of the calendar's first window."""
    return Scenario(
        bundle=Bundle(attention_workers=2, batch_size=2, microbatches=1),
        latency=LatencyModel(
            name="long",
            time_unit="abstract",
            attention=(
                AttentionLayers(curve=LinearCurve(slope=0.01, intercept=1.0), context_window=6000),
            ),
            ffn=LinearCurve(slope=0.1, intercept=1.0),
            send=Transfer(curve=LinearCurve(slope=0.0, intercept=1.0)),
            receive=Transfer(curve=LinearCurve(slope=0.0, intercept=1.0)),
        ),
        lengths=IndependentLengths(prompt="uniform:0..3000", decode="uniform:1..9000"),
        start="fresh",
        **changes,
    )


@pytest.mark.parametrize("memory", ["reserve", "preempt"])
def test_requests_longer_than_the_calendar(memory):
    scenario = long_scenario(kv_capacity=14_000, memory=memory)
    wrong, engine, _ = differences(scenario, steps=14_000)
    assert not wrong
    assert engine.state.integers[ix.COMPLETED] > 4


def one_step_longer(self, u, i, request, clock):
    request.steps += 1
    PLACE(self, u, i, request, clock)


def one_token_heavier(self, u, i, request, clock):
    request.held += 1
    PLACE(self, u, i, request, clock)


def last_come_first_served(self):
    self.waiting.rotate(1)
    return LEAVE(self)


def window_off_by_one(self, u, i, window):
    return LOAD(self, u, i, window and window + 1)


def nobody_goes_first(self, u, free, taken, ranked):
    passed = [request.passed for request in taken]
    for request in taken:
        request.passed = 0
    kept = KEPT(self, u, free, taken, ranked)
    for request, count in zip(taken, passed, strict=True):
        request.passed = count
    return kept


def heaviest_as_light(self, u, i):
    return -WEIGHT(self, u, i)


PLACE, LEAVE, LOAD = Reference.place, Reference.leave_queue, Reference.load
KEPT, WEIGHT = Reference.kept, Reference.weight


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("place", one_step_longer),
        ("place", one_token_heavier),
        ("leave_queue", last_come_first_served),
        ("load", window_off_by_one),
        ("kept", nobody_goes_first),
        ("weight", heaviest_as_light),
    ],
)
def test_a_planted_fault_is_caught(monkeypatch, method, fault):
    caught = 0
    monkeypatch.setattr(Reference, method, fault)
    for seed in range(40):
        scenario = random_scenario(seed)
        wrong, _, _ = differences(scenario, steps=16)
        caught += bool(wrong)
        if caught == 3:
            return
    pytest.fail(f"{caught} of 40 scenarios notice it")


@pytest.mark.parametrize(("slope", "batch_size"), [(1.3, 15), (0.1, 7), (0.37, 11)])
def test_a_transfer_occupies_the_ffn_for_its_own_time_to_the_last_bit(slope, batch_size):
    # Seed 9704 of the random scenarios: 1.3 * 15 - 1 is not what the pieces of the roofline give.
    curve = RooflineCurve(floor=2.0, slope=slope, intercept=-1.0)
    scenario = Scenario(
        bundle=Bundle(attention_workers=1, batch_size=batch_size, microbatches=1),
        latency=LatencyModel(
            name="coupled",
            time_unit="abstract",
            attention=(AttentionLayers(curve=LinearCurve(slope=0.1, intercept=1.0)),),
            ffn=LinearCurve(slope=0.1, intercept=1.0),
            send=Transfer(curve=curve),
            receive=Transfer(curve=curve),
            coupling=Coupling(send_ffn=1.0, receive_ffn=1.0),
        ),
        lengths=IndependentLengths(prompt="3", decode="geometric:9"),
        start="fresh",
    )
    tables = Engine(scenario).tables
    _, (out,), (back,) = twin_of(scenario).work(0)
    assert (tables.ffn_receives, tables.ffn_sends) == (out, back)
