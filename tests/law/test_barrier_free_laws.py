"""Which laws must every bundle without a barrier obey, each with a fault that breaks it?"""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import Transfer
from afdplan.model.variation import Scatter
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario, Variation
from afdplan.simulation.sources import RequestSource
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="geometric:20", decode="geometric:15")


def scenario(
    scatter=0.0,
    attention=(0.05, 50.0),
    ffn=(1.0, 20.0),
    transfer=(0.0, 7.0),
    workers=4,
    batch=8,
    m=2,
    layers=1,
    **changes,
):
    return Scenario(
        bundle=Bundle(attention_workers=workers, batch_size=batch, microbatches=m),
        latency=LatencyModel.linear(
            attention=attention,
            ffn=ffn,
            transfer=transfer,
            layers=layers,
            scatter=Scatter(attention=scatter),
        ),
        lengths=LAW,
        execution="barrier-free",
        **changes,
    )


def played(one, steps=400):
    engine = Engine(one, stage_rows=60_000)
    engine.run(stop_step=steps)
    return engine


def pace(one, steps=3000):
    """Return microbatch steps per time, after a warm-up."""
    engine = Engine(one)
    n, x = engine.state.integers, engine.state.floats
    engine.run(stop_step=steps // 5)
    done, clock = int(n[ix.CELL_STEPS]), float(x[ix.CLOCK])
    engine.run(stop_step=steps)
    return (int(n[ix.CELL_STEPS]) - done) / (float(x[ix.CLOCK]) - clock)


def theory(one):
    problem = RatioProblem(
        law=one.law,
        latency=one.latency,
        batch_size=one.bundle.batch_size,
        microbatches=one.microbatches,
        execution="barrier-free",
        least_calls=one.least_calls,
        longest_wait=one.longest_wait,
        most_tokens=one.most_tokens,
    )
    workers = one.bundle.attention_workers
    model = BarrierFreeModel(problem, problem.slot_loads())
    step = float(model.evaluate(np.array([float(workers)])).mean[0])
    return workers * one.microbatches / step


def serial(one):
    latency, load = one.latency, float(one.bundle.batch_size)
    kind = latency.attention[0].curve
    mean = kind.intercept + kind.slope * load * LAW.token_load().mean
    return 1 / (mean + latency.send.curve(load) + latency.ffn(load) + latency.receive.curve(load))


def independent(one):
    kind = one.latency.attention[0].curve
    mean = kind.intercept + kind.slope * one.bundle.batch_size * LAW.token_load().mean
    return one.bundle.attention_workers / mean


def batch_server(one):
    calls = one.bundle.attention_workers * one.microbatches
    return calls / one.latency.ffn(float(calls * one.bundle.batch_size))


def rhythm(one):
    """Return the pace of equal calls in g groups, the round of docs/theory/barrier-free.md."""
    latency, batch = one.latency, float(one.bundle.batch_size)
    calls = one.bundle.attention_workers * one.microbatches
    away = latency.attention[0].curve.intercept + latency.send.curve(batch)
    away += latency.receive.curve(batch)
    for groups in range(2, calls + 1):
        served = latency.ffn(calls * batch / groups)
        if (groups - 2) * served <= away <= (groups - 1) * served:
            return calls / (groups * served)
    raise AssertionError("no whole number of groups fits")


CLOSED_FORMS = {
    "one call is served in series": (scenario(workers=1, m=1), serial),
    "an FFN that takes no time leaves workers to themselves": (
        scenario(ffn=(0.0, 1e-9), transfer=(0.0, 0.0)),
        independent,
    ),
    "attention that takes no time makes a batch server": (
        scenario(attention=(0.0, 1e-9), transfer=(0.0, 0.0), m=1),
        batch_server,
    ),
    "equal calls fall into a rhythm": (
        scenario(attention=(0.0, 300.0), ffn=(0.5, 140.0), workers=8, m=1, scatter=0.003),
        rhythm,
    ),
}


@pytest.mark.parametrize(
    ("name", "judge"),
    [(name, judge) for name in [*CLOSED_FORMS][:3] for judge in (pace, theory)],
)
def test_closed_forms(name, judge):
    one, known = CLOSED_FORMS[name]
    assert judge(one) == pytest.approx(known(one), rel=0.01)
    slower = scenario(attention=(0.05, 60.0), ffn=(1.0, 22.0), workers=3, m=1)
    assert judge(slower) != pytest.approx(known(one), rel=0.01)


@pytest.mark.parametrize("judge", [pace, theory])
def test_nearly_equal_calls_fall_into_a_rhythm(judge):
    one, known = CLOSED_FORMS["equal calls fall into a rhythm"]
    assert judge(one) == pytest.approx(known(one), rel=0.01)
    assert judge(one) != pytest.approx(8 / (300 + 14 + 148), rel=0.05)  # nobody waits


def test_theory_knows_both_rhythms_of_calls_without_attention():
    one, known = CLOSED_FORMS["attention that takes no time makes a batch server"]
    problem = RatioProblem(
        law=one.law,
        latency=one.latency,
        batch_size=one.bundle.batch_size,
        microbatches=1,
        execution="barrier-free",
    )
    play = BarrierFreeModel(problem, problem.slot_loads()).play(4).play
    assert 4 / play.mean_round == pytest.approx(known(one), rel=0.01)
    # Calls that begin apart stay in two groups: both floors are paid in a round.
    assert play.other_rhythm == pytest.approx((2 * 20 + 32) / 52 - 1, rel=0.05)


def rows(engine, stage):
    found = engine.stages
    return found[found[:, 0] == stage]


def broken_boarding(departures, arrivals, least):
    """Return how many departures leave too early, or too late with `least` calls waiting."""
    wrong, taken, free = 0, 0, 0.0
    for start, end, calls in departures:
        due = max(free, arrivals[taken + least - 1])
        wrong += start != due or arrivals[taken + calls - 1] > start
        wrong += taken + calls < len(arrivals) and arrivals[taken + calls] < start
        taken, free = taken + calls, end
    return wrong


@pytest.mark.parametrize("least", [1, 3])
def test_the_pool_leaves_as_soon_as_its_rule_allows(least):
    engine = played(scenario(least_calls=least, layers=2, variation=Variation(attention=0.3)))
    arrivals = np.sort(rows(engine, ix.SEND)[:, 6])
    ffn = rows(engine, ix.FFN)
    departures = [(row[5], row[6], int(row[2])) for row in ffn[:500].tolist()]
    assert broken_boarding(departures, arrivals, least) == 0
    early = [(start - 1.0, end, calls) for start, end, calls in departures]
    assert broken_boarding(early, arrivals, least) > 100
    assert broken_boarding(departures, arrivals, least + 1) > 100


def test_a_departure_waits_no_longer_than_allowed():
    one = scenario(workers=1, m=1, least_calls=2, longest_wait=5.0)
    served = serial(one)
    assert pace(one) == pytest.approx(1 / (1 / served + 5.0), rel=0.01)
    assert theory(one) == pytest.approx(1 / (1 / served + 5.0), rel=0.01)


def test_departures_take_no_more_than_allowed():
    engine = played(scenario(most_tokens=24, ffn=(1.0, 80.0)))
    calls = rows(engine, ix.FFN)[:, 2]
    assert calls.max() == 3


OPEN = {"start": "fresh", "arrivals": Arrivals(process="poisson", rate=0.01)}


@pytest.mark.parametrize("changes", [{}, OPEN, {"kv_capacity": 300, "start": "fresh"}])
def test_time_and_requests_are_conserved(changes):
    engine = played(scenario(**changes))
    n, x, s = engine.state.integers, engine.state.floats, engine.state
    covered = s.real("busy") + s.real("idle").sum(axis=0)
    np.testing.assert_allclose(covered, s.real("attention_free"), rtol=1e-9)
    ffn = x[ix.FFN_BUSY] + s.real("ffn_idle").sum()
    assert ffn == pytest.approx(x[ix.FFN_FREE], rel=1e-9)
    present = n[ix.COMPLETED] + n[ix.ACTIVE] + n[ix.RETURNED] + n[ix.REJECTED]
    slots = engine.scenario.bundle.attention_workers * engine.scenario.bundle.batch_size * 2
    start = slots if engine.scenario.start == "stationary" else 0
    assert present == n[ix.ENTERED] + start
    assert n[ix.BOARDED] >= n[ix.CELL_STEPS]


def placed(one, count):
    """Return the first requests by when they entered a slot: prompt, tokens and that time."""
    found = []
    engine = Engine(one, on_requests=found.append)
    engine.run(stop_completed=3 * count)
    engine.empty_logs()
    rows = np.concatenate(found)
    return rows[np.argsort(rows[:, 3], kind="stable")][:count, [0, 1, 3]]


def is_stream(rows, stream):
    """Say whether requests entered in the order of a stream; at one time in any order."""
    edges = np.flatnonzero(np.diff(rows[:, 2])) + 1
    return all(
        sorted(map(tuple, mine)) == sorted(map(tuple, theirs))
        for mine, theirs in zip(
            np.split(rows[:, :2], edges)[:-1], np.split(stream, edges)[:-1], strict=True
        )
    )


@pytest.mark.parametrize("execution", ["barrier-free", "synchronous"])
def test_fresh_requests_are_those_of_the_other_mode(execution):
    law = IndependentLengths(prompt="geometric:20", decode="uniform:1..30")
    one = replace(scenario(start="fresh", seed=5), lengths=law, execution=execution)
    rows = placed(one, 800)
    drawn, _ = RequestSource(one, 0).draw(5000)
    stream = drawn.reshape(-1, 3)[: len(rows), :2]
    assert np.unique(rows[:, 2]).size > 100
    assert is_stream(rows, stream)
    assert not is_stream(rows, np.roll(stream, 1, axis=0))  # one request too late
    other, _ = RequestSource(replace(one, seed=6), 0).draw(5000)
    assert not is_stream(rows, other.reshape(-1, 3)[: len(rows), :2])


def test_a_shared_link_carries_one_call_at_a_time():
    shared = Transfer(curve=LinearCurve(slope=0.5, intercept=9.0), load="aggregate")
    one = scenario(ffn=(0.1, 5.0))
    latency = LatencyModel(
        name="shared",
        time_unit="abstract",
        attention=one.latency.attention,
        ffn=one.latency.ffn,
        send=shared,
        receive=shared,
    )
    one = Scenario(bundle=one.bundle, latency=latency, lengths=LAW, execution="barrier-free")
    engine = played(one)
    starts = rows(engine, ix.SEND)[:, 5]
    assert np.diff(starts).min() >= 4.0 - 1e-9  # eight tokens; the latency is no occupation
    assert theory(one) == pytest.approx(pace(one), rel=0.03)


CELLS = [
    (2, 1, 1, 0.0, {}),
    (3, 2, 1, 0.5, {}),
    (6, 2, 4, 0.8, {"least_calls": 4}),
    (8, 3, 1, 0.2, {"most_tokens": 64}),
    (16, 1, 2, 0.5, {"least_calls": 3, "longest_wait": 20.0}),
    (24, 2, 1, 0.8, {}),
]


@pytest.mark.parametrize(("workers", "m", "layers", "floor", "rule"), CELLS)
def test_theory_against_simulation(workers, m, layers, floor, rule):
    law = IndependentLengths(prompt="geometric:200", decode="geometric:300")
    slope = 80.0 / (32 * law.token_load().mean)
    one = Scenario(
        bundle=Bundle(attention_workers=workers, batch_size=32, microbatches=m),
        latency=LatencyModel.linear(
            attention=(slope, 20.0),
            ffn=((1 - floor) * 100 / (32 * workers), floor * 100),
            transfer=(0.0, 5.0),
            layers=layers,
            step_overhead=30.0,
        ),
        lengths=law,
        execution="barrier-free",
        **rule,
    )
    assert theory(one) == pytest.approx(pace(one, 12_000), rel=0.03)


def test_the_tail_of_a_step_is_that_of_calls_that_begin_together():
    """A few draws in another rhythm would add a quarter to the 99th percentile."""
    law = IndependentLengths(prompt="uniform:500..1500", decode="uniform:100..300")
    one = Scenario(
        bundle=Bundle(attention_workers=32, batch_size=16, microbatches=1),
        latency=LatencyModel.linear(
            attention=(70 / (16 * law.token_load().mean), 30.0),
            ffn=(10 / 512, 40.0),
            transfer=(0.0, 5.0),
        ),
        lengths=law,
        requests_per_worker=400,
        execution="barrier-free",
        least_calls=8,
    )
    problem = RatioProblem(
        law=law,
        latency=one.latency,
        batch_size=16,
        microbatches=1,
        execution="barrier-free",
        least_calls=8,
    )
    model = BarrierFreeModel(problem, problem.slot_loads())
    tail = float(model.evaluate(np.array([32.0]), (0.99,)).quantiles[0, 0])
    assert tail == pytest.approx(simulate(one).step_time.p99.value, rel=0.03)


def test_results_are_told_in_numbers():
    found = simulate(scenario(requests_per_worker=300, replications=2))
    pool = found.answer()["pool"]
    assert 1 <= pool.calls_per_departure <= 8
    assert "departure" in found.attention_idle_causes
    assert found.step_time.mean.value == pytest.approx(
        8 * 8 / (found.throughput_per_instance.value * 5), rel=0.02
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"overlap": "ideal"}, "ideal overlap is a cycle of all workers together"),
        ({"least_calls": 9}, "least_calls must be at most the 8 calls"),
        ({"least_calls": 3, "most_tokens": 16}, "most_tokens must hold the 3 calls of 8 tokens"),
        ({"placement": "least-requests"}, "placement .* chooses among workers"),
        ({"least_calls": 2, "kv_capacity": 500}, "can wait for ever"),
    ],
)
def test_what_has_no_meaning_is_refused(changes, told):
    with pytest.raises((InvalidInputError, UnsupportedError), match=told):
        scenario(**changes)


def test_a_rule_needs_the_mode():
    with pytest.raises(UnsupportedError, match="is for barrier-free execution"):
        RatioProblem(law=LAW, latency=scenario().latency, batch_size=8, least_calls=2)
