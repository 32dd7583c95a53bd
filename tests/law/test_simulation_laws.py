"""Which laws must every simulated bundle obey, each with a fault that breaks it?"""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import afdplan.simulation
from afdplan.errors import InsufficientDataError, UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario, Variation

BASE = {"attention": (0.0016, 50.0), "ffn": (0.083, 100.0), "transfer": (0.022, 20.0)}


def scenario(**changes):
    bundle = {
        name: changes.pop(name)
        for name in ("attention_workers", "ffn_workers", "batch_size", "microbatches")
        if name in changes
    }
    latency = {name: changes.pop(name) for name in (*BASE, "layers", "drain") if name in changes}
    bundle = {"attention_workers": 3, "batch_size": 8, **bundle}
    lengths = IndependentLengths(
        prompt=changes.pop("prompt", "geometric:20"), decode=changes.pop("decode", "geometric:15")
    )
    return Scenario(
        bundle=Bundle(**bundle),
        latency=LatencyModel.linear(**{**BASE, **latency}),
        lengths=lengths,
        **changes,
    )


OPEN = Arrivals(process="poisson", rate=0.004)
CASES = {
    "saturated": scenario(),
    "open": scenario(start="fresh", arrivals=OPEN),
    "open, memory reserved": scenario(start="fresh", arrivals=OPEN, kv_capacity=220),
    "open, preempting": scenario(
        start="fresh",
        arrivals=Arrivals(process="gamma", rate=0.02, cv=2.0),
        kv_capacity=220,
        memory="preempt",
        placement="fewest-tokens",
        variation=Variation(attention=0.3, ffn=0.2),
    ),
    "longest prompt first": scenario(
        start="fresh", arrivals=OPEN, kv_capacity=200, placement="longest-prompt", microbatches=3
    ),
    "a window of waiting requests": scenario(
        placement="longest-prompt-rank", placement_window=4, microbatches=2
    ),
    "ideal": scenario(overlap="ideal", layers=3),
}


def played(case, steps=3000):
    rows, ended = [], []
    engine = Engine(case, on_requests=rows.append, on_steps=ended.append)
    engine.run(stop_step=steps)
    engine.empty_logs()
    return engine, np.concatenate(rows), np.concatenate(ended)


def request_balance(engine):
    n = engine.state.integers
    entered = int(n[ix.ENTERED])
    return entered - int(n[ix.COMPLETED] + n[ix.ACTIVE] + n[ix.RETURNED] + n[ix.REJECTED])


def token_balance(engine, rows):
    """Generated tokens less those of finished requests and the progress of the others."""
    s, n = engine.state, engine.state.integers
    progress = 0
    for slot in range(int(s.constants["slots"])):
        due = s.whole("due")[0, slot]
        if due >= n[ix.STEP]:
            left = int(due - n[ix.STEP] + 1)
            progress += int(s.whole("tokens")[0, slot]) - left
    for k in range(int(n[ix.RETURNED])):
        at = (int(n[ix.RETURNED_HEAD]) + k) % int(s.constants["rows"])
        row = s.whole("returned")[at]
        progress += int(row[ix.TOKENS] - row[ix.OUTPUT])
    return int(n[ix.UNITS]) - int(rows[:, 1].sum()) - progress


@pytest.mark.parametrize("name", CASES)
def test_requests_and_tokens_are_conserved(name):
    case = CASES[name]
    if case.start == "stationary":
        object.__setattr__(case, "start", "fresh")
    engine, rows, _ = played(case)
    assert request_balance(engine) == 0
    assert token_balance(engine, rows) == 0
    # Negative controls: lose one request, one token.
    engine.state.integers[ix.COMPLETED] -= 1
    assert request_balance(engine) != 0
    assert token_balance(engine, rows[:-1]) != 0


@pytest.mark.parametrize("name", CASES)
def test_time_runs_forward_and_no_request_starts_before_it_arrives(name):
    _, rows, ended = played(CASES[name])
    assert (np.diff(ended[:, 2]) >= 0).all()
    assert (ended[:, 3] > 0).all()
    known = rows[rows[:, 3] >= 0]
    assert (known[:, 3] >= known[:, 2]).all()
    assert (known[:, 4] > known[:, 3]).all()
    if CASES[name].arrivals:
        assert not (known[:, 3] - 0.5 * (known[:, 4] - known[:, 3]) >= known[:, 2]).all()


@pytest.mark.parametrize("name", CASES)
def test_busy_and_idle_time_fill_the_horizon_of_each_worker(name):
    engine, _, _ = played(CASES[name])
    s = engine.state
    covered = s.real("busy") + s.real("idle").sum(axis=0)
    np.testing.assert_allclose(covered, s.real("attention_free"), rtol=1e-9)
    ffn = s.floats[ix.FFN_BUSY] + s.real("ffn_idle").sum()
    assert ffn == pytest.approx(s.floats[ix.FFN_FREE], rel=1e-9)
    without_barrier = covered - s.real("idle")[ix.IDLE_BARRIER]
    assert not np.allclose(without_barrier, s.real("attention_free"), rtol=1e-9)


@pytest.mark.parametrize("name", ["open", "open, memory reserved", "open, preempting"])
def test_littles_law_ties_queue_and_waits(name):
    """Area under the queue = waits of those who left it + ages of those who still wait."""
    case = CASES[name]
    engine, rows, _ = played(case)
    n, x, s = engine.state.integers, engine.state.floats, engine.state
    if case.memory == "preempt":
        # Preempted requests wait again: only the other side of the balance is independent then.
        assert x[ix.QUEUE_AREA] >= x[ix.WAIT]
        return
    arrivals = s.factors[: int(n[ix.AVAILABLE])]
    waiting = arrivals[int(n[ix.HEAD]) : int(n[ix.ARRIVED])]
    head, count, rows_ = n[ix.RETURNED_HEAD], int(n[ix.RETURNED]), int(s.constants["rows"])
    returned = s.real("returned_times")[(head + np.arange(count)) % rows_, 1]
    still = (x[ix.QUEUE_TIME] - waiting).sum() + (x[ix.QUEUE_TIME] - returned).sum()
    assert x[ix.QUEUE_AREA] == pytest.approx(x[ix.WAIT] + still, rel=1e-9, abs=1e-6)
    assert x[ix.QUEUE_AREA] > 0
    # And in the slots: occupancy over time = sojourns.
    done = (rows[:, 4] - rows[:, 3]).sum()
    active = s.whole("due")[0] >= n[ix.STEP]
    present = (
        np.repeat(s.real("step_end"), case.bundle.attention_workers * 8) - s.real("begun")[0]
    )[active].sum()
    assert x[ix.ACTIVE_AREA] == pytest.approx(done + present, rel=1e-9)
    assert x[ix.ACTIVE_AREA] != pytest.approx(done * 1.01 + present, rel=1e-6)


@pytest.mark.parametrize(
    "policy", ["round-robin", "fewest-requests", "fewest-tokens", "longest-prompt"]
)
@pytest.mark.parametrize("memory", ["reserve", "preempt"])
def test_a_free_slot_and_an_admissible_request_never_coexist(policy, memory):
    case = scenario(
        start="fresh",
        arrivals=Arrivals(process="poisson", rate=0.02),
        kv_capacity=150,
        memory=memory,
        placement=policy,
        microbatches=1,
    )
    engine = Engine(case)
    seen = blocked = 0
    for step in range(1, 400):
        engine.run(stop_step=step)
        n, s = engine.state.integers, engine.state
        if n[ix.RETURNED]:
            prompt, steps = s.whole("returned")[n[ix.RETURNED_HEAD]][:2]
        elif n[ix.ARRIVED] > n[ix.HEAD]:
            prompt, steps = s.requests[3 * n[ix.HEAD] : 3 * n[ix.HEAD] + 2]
        else:
            continue
        seen += 1
        for i in range(3):
            free = 8 - s.whole("active")[0, i]
            if memory == "reserve":
                fits = s.whole("reserved")[i] + prompt + steps - 1 <= 150
            else:
                fits = s.whole("loads")[0, 0, i] + prompt <= 150
            assert not (free > 0 and fits), (policy, memory, step)
            blocked += free > 0
    assert seen > 50
    assert blocked > 50  # the check had something to refuse


def cycle(m, a, f, c_out, c_back):
    """Return the period of one round for constant loads (derived in docs/simulation.md)."""
    return max(m * a, m * f, m * max(c_out, c_back), a + f + c_out + c_back)


@pytest.mark.parametrize("microbatches", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "times", [(50, 30, 10), (20, 90, 5), (30, 30, 30), (10, 10, 70), (40, 10, 1)]
)
def test_constant_loads_give_the_closed_form_of_the_pipeline(microbatches, times):
    a, f, c = times
    for decode, slope in (("1", 0.25), ("geometric:6", 0.0)):
        load = 8 * 4 * slope
        case = scenario(
            attention=(slope, a - load if slope else a),
            ffn=(0.0, f),
            transfer=(0.0, c),
            prompt="4",
            decode=decode,
            microbatches=microbatches,
        )
        if a - load < 0:
            continue
        engine = Engine(case)
        engine.run(stop_step=50)
        before = engine.state.floats[ix.CLOCK]
        engine.run(stop_step=250)
        period = (engine.state.floats[ix.CLOCK] - before) / 200
        assert period == pytest.approx(cycle(microbatches, a, f, c, c), rel=1e-12)
        assert period != pytest.approx(cycle(microbatches, a + 1, f + 1, c + 1, c + 1), rel=1e-3)


def test_equal_lengths_with_aligned_phases_are_periodic():
    """All slots of one age: every D steps the loads repeat, from P B to (P + D - 1) B."""
    case = scenario(
        attention=(0.5, 10.0), ffn=(0.0, 3.0), transfer=(0.0, 1.0), prompt="10", decode="7",
        microbatches=1, start="fresh",
    )  # fmt: skip
    _, _, ended = played(case, steps=70)
    times = [0.5 * 8 * (10 + age) + 10 + 1 + 3 + 1 for age in range(7)]
    np.testing.assert_allclose(ended[:, 3], np.tile(times, 10), rtol=1e-12)


def test_one_slot_with_poisson_arrivals_waits_like_m_g_1():
    """Pollaczek-Khinchine: W = lambda E[S^2] / (2 (1 - rho)); |z| <= 5 over replications."""
    unit, rate = 10.0, 0.007
    case = scenario(
        attention=(0.0, unit), ffn=(0.0, 0.0), transfer=(0.0, 0.0), decode="uniform:1..15",
        attention_workers=1, batch_size=1, microbatches=1, start="fresh", window="all",
        arrivals=Arrivals(process="poisson", rate=rate), requests_per_worker=30_000,
        replications=12,
    )  # fmt: skip
    service = unit * np.arange(1, 16)
    rho = rate * service.mean()
    wait = rate * (service**2).mean() / 2 / (1 - rho)
    found = simulate(case).waiting_time.mean
    error = (found.high - found.value) / 2.2
    assert abs(found.value - wait) <= 5 * error
    assert error < 0.02 * wait
    # Negative control: M/M/1 of the same load is far away.
    assert abs(found.value - rate * 2 * service.mean() ** 2 / 2 / (1 - rho)) > 5 * error


def test_stationary_start_has_no_drift_and_a_fresh_one_has():
    drifts = {}
    for start in ("stationary", "fresh"):
        early, late = [], []
        for k in range(12):
            case = scenario(decode="lognormal:mean=40,cv=1.2", batch_size=64, start=start, seed=k)
            engine = Engine(case)
            engine.run(stop_step=1)
            early.append(engine.state.whole("loads")[0].sum())
            engine.run(stop_step=500)
            late.append(engine.state.whole("loads")[0].sum())
        change = np.array(late, dtype=float) - early
        drifts[start] = change.mean() / (change.std(ddof=1) / math.sqrt(change.size))
    assert abs(drifts["stationary"]) < 5
    assert drifts["fresh"] > 5


def test_stationary_start_with_several_tokens_per_step_has_no_drift():
    drift = []
    for k in range(40):
        latency = LatencyModel.linear(**BASE, tokens_per_step=2.5)
        case = Scenario(
            bundle=Bundle(attention_workers=3, batch_size=64),
            latency=latency,
            lengths=IndependentLengths(prompt="geometric:5", decode="uniform:1..9"),
            seed=k,
        )
        engine = Engine(case)
        engine.run(stop_step=1)
        early = engine.state.whole("loads")[0].sum()
        engine.run(stop_step=60)
        drift.append(engine.state.whole("loads")[0].sum() - early)
    drift = np.array(drift, dtype=float)
    assert abs(drift.mean()) < 5 * drift.std(ddof=1) / math.sqrt(drift.size)


def test_same_seed_same_result_and_another_seed_another():
    one, two = simulate(CASES["open"]), simulate(CASES["open"])
    assert one.answer() == two.answer()
    other = simulate(scenario(start="fresh", arrivals=OPEN, seed=1))
    assert other.answer() != one.answer()


def test_designs_share_their_requests():
    rows = [played(scenario(attention_workers=a, start="fresh"), 400)[1] for a in (2, 4)]
    assert set(map(tuple, rows[0][:20, :2])) <= set(map(tuple, rows[1][:, :2]))


def test_a_run_too_short_for_batch_means_is_refused_with_its_estimate():
    with pytest.raises(InsufficientDataError) as caught:
        simulate(scenario(requests_per_worker=50, replications=1))
    assert caught.value.estimate.throughput_per_instance.value > 0
    assert not caught.value.estimate.is_reliable


def test_memory_grows_neither_with_requests_nor_with_the_longest_one():
    sizes = []
    for decode, steps in (
        ("uniform:1..20", 500),
        ("uniform:1..2000000", 500),
        ("uniform:1..20", 20000),
    ):
        engine = Engine(scenario(decode=decode))
        engine.run(stop_step=steps)
        s = engine.state
        sizes.append(s.integers.nbytes + s.floats.nbytes + s.requests.nbytes)
    assert max(sizes) <= 1.3 * min(sizes)


def test_simulation_knows_nothing_of_the_theory():
    for file in Path(next(iter(afdplan.simulation.__path__))).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any("theory" in name for name in names), file


def test_recorded_arrivals_played_again_are_no_replications():
    trace = Trace(
        prompt_tokens=[100] * 400, decode_tokens=[3, 9] * 200, arrival_times=np.arange(400.0)
    )
    scenario = Scenario(
        bundle=Bundle(attention_workers=1, batch_size=4),
        latency=LatencyModel.linear(attention=(0.0, 0.2), ffn=(0.0, 0.1), time_unit="s"),
        lengths=trace,
        requests_per_worker=400,
        start="fresh",
        arrivals=Arrivals(process="trace"),
        precision=1e-6,
    )
    with pytest.raises(InsufficientDataError, match="the trace's own arrivals"):
        simulate(scenario)


def test_slots_of_nearly_one_length_are_judged_by_replications():
    trace = Trace(prompt_tokens=[100] * 10, decode_tokens=[1] * 8 + [500] * 2)
    result = simulate(
        Scenario(
            bundle=Bundle(attention_workers=2, batch_size=2),
            latency=LatencyModel.linear(attention=(0.01, 5.0), ffn=(0.0, 6.0)),
            lengths=EmpiricalLengths(trace),
            requests_per_worker=5000,
        )
    )
    assert result.replications > 1


@pytest.mark.parametrize("placement", ["longest-prompt", "longest-prompt-rank"])
def test_a_window_starves_nobody_and_is_what_it_says(placement):
    """Of K = 4 waiting requests none is passed over more than 2 K times; without a rule some are.

    One slot is freed at a time, so that three of four have to wait.
    """
    case = scenario(
        attention_workers=2,
        batch_size=2,
        microbatches=1,
        decode="geometric:30",
        placement=placement,
        placement_window=4,
    )
    engine = Engine(case)
    engine.run(stop_step=20_000)
    counts = engine.state.whole("histograms")[ix.PASSES]
    assert counts.sum() == engine.state.integers[ix.STARTED] > 1000
    bins = np.flatnonzero(counts)
    edges = ((bins + int(engine.tables.bin_base)) << ix.BIN_SHIFT).view(np.float64)
    passed = np.round(np.where(bins > 0, edges, 0.0))
    assert passed.max() <= 2 * case.placement_window
    assert counts[bins[passed > 0]].sum() > 0.3 * counts.sum()  # it does choose
    result = simulate(case)
    assert 0 < result.waiting_steps_p999 <= 2 * case.placement_window


def test_first_come_first_served_waits_for_nobody_when_saturated():
    assert simulate(scenario()).waiting_steps_p999 == 0


def test_a_window_needs_a_policy_that_compares():
    with pytest.raises(UnsupportedError, match="placement_window > 1"):
        scenario(placement="fewest-tokens", placement_window=2)


def test_former_names_of_policies_still_work():
    assert scenario(placement="least-tokens").placement == "fewest-tokens"
    assert scenario(placement="least-requests").placement == "fewest-requests"
