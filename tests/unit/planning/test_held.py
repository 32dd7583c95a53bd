"""Does a plan hold in every part, with its margin; is it told when it is too small or too large?"""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.errors import InfeasibleError
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning import holding
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.held import Breach, circumstances, hold
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import make_plan
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.standing import standings
from afdplan.report.plan import headline, plan_told
from afdplan.report.plan_answer import plan_answer
from afdplan.report.plan_brief import choice_table
from afdplan.report.quantities import counted, rate
from afdplan.workload.interval import token_load_estimate

LATENCY = LatencyModel.linear(
    attention=(4e-8, 2e-5), ffn=(2e-7, 1e-4), transfer=(1e-8, 1e-5), layers=20, time_unit="s"
)
SPACE = SearchSpace(batch_sizes=(2, 8, 16, 32, 64), microbatches=(2,))


def drifting(gap=0.5):
    rng = np.random.default_rng(7)
    prompt = np.concatenate([rng.geometric(1 / 400, 600), rng.geometric(1 / 2500, 600)])
    gaps = np.concatenate([rng.exponential(gap, 600), rng.exponential(gap / 3, 600)])
    times = np.cumsum(gaps)
    return Trace(
        prompt_tokens=prompt,
        decode_tokens=rng.geometric(1 / 200, 1200),
        arrival_times=times - times[0],
    )


def planned(trace, limits, **more):
    source = MeasuredSource(LATENCY, kv_tokens=more.pop("kv_tokens", 4e5))
    return make_plan(EmpiricalLengths(trace), source, limits, space=SPACE, trace=trace, **more)


def test_a_plan_that_breaks_in_the_second_half_is_made_again_for_it():
    trace = drifting()
    source, law = MeasuredSource(LATENCY, kv_tokens=4e6), EmpiricalLengths(trace)
    free = make_plan(law, source, Limits(devices=8), space=SPACE)
    most = 0.8 * free.recommended.token_time("mean")
    limit = Limits(devices=8, time_per_output_token=most)
    alone = make_plan(law, source, limit, space=SPACE)
    held = planned(trace, limit, kv_tokens=4e6)
    heavy = max(held.drift, key=lambda part: part.mean_token_load)
    assert held.is_feasible
    assert held.basis == heavy.part
    assert held.recommended.slots < alone.recommended.slots
    assert all(part.time_per_output_token <= most * (1 + 1e-9) for part in held.drift)
    assert f"Planned for {held.basis}" in headline(held)


def test_what_no_deployment_keeps_is_said_first():
    trace = drifting()
    plan = planned(trace, Limits(devices=8, time_per_output_token=0.0125))
    heavy = plan.drift[-1]
    if not plan.is_feasible:
        assert heavy.breaches
        assert headline(plan).startswith(
            f"No deployment keeps the limits everywhere; in {heavy.part}"
        )
    told = plan_answer(plan, plan.law)
    assert told["holds_everywhere"] == plan.is_feasible
    assert told["recommended"]["kind"] == plan.kind
    assert told["split"]["batch_size"] == plan.split.design.batch_size


def test_a_margin_keeps_away_from_every_limit():
    trace = drifting()
    limits = Limits(devices=8, time_per_output_token=0.02, margin=0.1)
    plan = planned(trace, limits, kv_tokens=6e4)
    chosen = plan.recommended
    assert chosen.token_time("mean") <= 0.018 * (1 + 1e-9)
    assert all(part.time_per_output_token <= 0.018 * (1 + 1e-9) for part in plan.drift)
    assert chosen.held_overflow_probability >= chosen.memory_overflow_probability
    rate = Limits(requests_per_second=5.0, margin=0.1)
    wanted = planned(drifting(), rate).recommended.requests_per_second
    assert wanted >= 5.5 * (1 - 1e-9)


def test_a_stated_rate_is_that_of_the_whole_trace():
    trace = drifting()
    recorded = (trace.requests - 1) / trace.duration
    plan = planned(trace, Limits(requests_per_second=2 * recorded))
    assert plan.is_feasible
    for part in plan.drift:
        assert part.requests_per_second >= part.arrival_rate * (1 - 1e-9)
    rates = [part.arrival_rate for part in plan.drift]
    assert max(rates) > 2 * recorded > min(rates)


def test_too_large_and_too_small_are_headlines():
    large = headline(planned(drifting(gap=60.0), Limits(devices=32)))
    assert "Too large" in large
    assert "devices would do" in large
    assert " over 99.9 % of its capacity is spare" in headline(
        planned(drifting(gap=1e6), Limits(devices=32))
    )
    small = headline(planned(drifting(gap=0.002), Limits(devices=4)))
    assert "Too small" in small
    assert "requests/s arrive" in small


def test_the_smaller_size_that_would_do_is_not_called_too_small():
    trace = drifting(gap=0.06)  # twice as many arrive in the last part as in the whole
    told = " ".join(planned(trace, Limits(devices=32)).supply)
    fewest = re.search(r"(\d+) of 32 devices would do", told)
    assert fewest is not None, told
    assert planned(trace, Limits(devices=int(fewest[1]))).supply == ()


def test_where_no_split_is_possible_the_un_split_deployment_is_named():
    source = MeasuredSource(LATENCY, kv_tokens=4e5)
    plan = make_plan(EmpiricalLengths(drifting()), source, Limits(devices=1), space=SPACE)
    assert plan.kind == "un-split"
    assert plan.recommended.devices == 1
    assert plan.is_feasible
    assert plan.split_breaks == (
        "no split meets all limits: 2 devices would be needed, 1 may be used"
    )
    assert plan.split.devices == 2  # the nearest, never the recommendation
    assert plan.alternatives == plan.binding == plan.sensitivity == ()
    said = headline(plan)
    assert said.startswith(f"Deploy {plan.recommended}, without a split: ")
    assert "Do not split: no split meets all limits" in said
    assert "1 rank, " in said
    answer = plan_answer(plan, plan.law)
    assert answer["recommended"]["kind"] == "un-split"
    assert answer["split"]["breaks"] == plan.split_breaks
    assert [row[-1] for row in choice_table(plan).rows] == ["", "limits"]


def test_both_ends_of_the_interval_are_held():
    rng = np.random.default_rng(2)
    trace = Trace(
        prompt_tokens=rng.geometric(1 / 1500, 260), decode_tokens=rng.geometric(1 / 200, 260)
    )
    load = token_load_estimate(trace)
    _, ends = circumstances(trace, load, Limits(devices=8))
    means = [end.law.token_load().mean for end in ends]
    assert means == pytest.approx([load.low, load.high], rel=0.01)
    plan = planned(trace, Limits(devices=8, time_per_output_token=0.02), token_load=load)
    assert [end.part.split()[0] for end in plan.interval] == ["low", "high"]
    assert plan.is_feasible
    assert all(end.time_per_output_token <= 0.02 * (1 + 1e-9) for end in plan.interval)


def test_where_a_split_does_not_pay_the_un_split_deployment_is_recommended():
    wide = replace(LATENCY, send=replace(LATENCY.send, curve=LATENCY.ffn))
    trace = drifting()
    plan = make_plan(
        EmpiricalLengths(trace),
        MeasuredSource(wide, kv_tokens=4e5),
        Limits(devices=8),
        space=SPACE,
    )
    told = plan_answer(plan, plan.law)
    assert plan.verdict.split != "yes"
    assert plan.kind == told["recommended"]["kind"] == "un-split"
    assert told["recommended"]["ranks"] == plan.best_colocated.ranks
    assert told["split"]["attention_workers"] == plan.split.design.attention_workers
    said, unit = headline(plan), plan.latency.time_unit
    best = plan.best_colocated
    given = f"{rate(best.tokens_per_second, unit)} on {counted(best.devices, 'device')}"
    assert said.startswith(f"Deploy {best}, without a split: {given}. Do not split")
    assert f"The best split, {plan.split}, gives " in said
    assert any(fact.name == "Best split" for fact in plan_told(plan, "").words)


def test_breaches_in_words():
    words = str(
        Breach(
            part="18:00 to 24:00",
            limit="time per output token",
            value=0.062,
            allowed=0.05,
            excess=0.24,
        )
    )
    assert words == "18:00 to 24:00: 62 ms per output token, 50 ms allowed: 24.0 % too long"
    rate = str(Breach(part="x", limit="rate", value=0.65, allowed=1.3, excess=0.5))
    assert rate == "x: 0.65 requests/s can be finished, 1.3 are needed: 50.0 % too few"


def test_a_rate_that_more_devices_would_carry_is_carried_everywhere():
    """Until now: no deployment was found, for the busy part and the heavy one are different."""
    placement = place(find_model("deepseek-v3"), find_hardware("h200"))
    trace = read_trace(example_trace_path())
    limits = Limits(requests_per_second=50, time_per_output_token=0.1)
    load = token_load_estimate(trace, replicates=200)
    plan = make_plan(
        EmpiricalLengths(trace), DerivedSource(placement), limits, trace=trace, token_load=load
    )
    assert plan.is_feasible, plan.breaches
    assert plan.recommended.devices == 16
    assert all(part.requests_per_second >= part.arrival_rate for part in plan.drift)
    busiest = max(plan.drift, key=lambda part: part.arrival_rate)
    assert plan.basis != busiest.part
    assert all(standing.is_kept for standing in standings(plan))


def test_the_name_of_an_interval_has_one_space():
    breach = Breach(
        part="high end of the load's 95 % interval", limit="rate", value=1, allowed=2, excess=0.5
    )
    assert str(breach).startswith("high end of the load's 95 % interval: 1 requests/s")
    assert str(breach).endswith("50.0 % too few")


@pytest.mark.parametrize("rate", [None, 0.5])
def test_the_nearest_plan_of_a_refusal_holds_in_every_part_or_says_where_not(rate):
    trace = drifting()
    source = MeasuredSource(LATENCY, kv_tokens=1e6)
    limits = Limits(devices=6, time_per_output_token=0.004, requests_per_second=rate)
    with pytest.raises(InfeasibleError) as refused:
        make_plan(EmpiricalLengths(trace), source, limits, space=SPACE, trace=trace)
    said, nearest = str(refused.value), refused.value.nearest
    parts = circumstances(trace, None, limits)[0]
    heavy = max(parts, key=lambda part: part.law.token_load().mean)
    assert f"meets all limits in {heavy.name}: " in said
    needed = float(re.search(r"would have to be ([\d.]+) ms", said)[1]) / 1e3
    relaxed = replace(limits, time_per_output_token=needed * 1.001)
    for part in parts:
        search = DesignSearch(part.law, source, SPACE, DeviceCost())
        broken = hold(nearest, part, relaxed, search).breaches
        assert not broken or f"but in {part.name}: " in said
    assert ("Nearest feasible" in said) == ("but in" not in said)


@pytest.mark.parametrize(("broken", "shares"), [
    (0, [0.5, 0.6]), (1, [0.5, 0.6, 0.65]), (99, [0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85]),
])  # fmt: skip
def test_the_share_done_is_told_with_every_try(monkeypatch, broken, shares):
    """A rate too small is searched for again, six times at most; then the first is returned."""
    tried, seen = [], []

    def best(where, limits, source, search, known=None):
        tried.append(known)
        rate = SimpleNamespace(limit="rate", part="x", excess=0.5)
        return SimpleNamespace(
            breaches=[rate] if len(tried) <= broken else [], basis=where, limits=limits,
            split=f"split {len(tried)}", split_breaks="",
        )  # fmt: skip

    monkeypatch.setattr(holding, "_best", best)
    monkeypatch.setattr(holding, "_held", lambda found, *_: found)
    monkeypatch.setattr(holding, "_rate_for_all", lambda current, where, limits: limits)
    search = SimpleNamespace(models=SimpleNamespace(times=None))
    found = holding.find_holding(
        None, None, Limits(devices=8), None, None, (), (), search, seen.append
    )
    assert seen == pytest.approx(shares)
    assert found.split == ("split 1" if broken == 99 else f"split {broken + 1}")
    assert tried == [None, *(f"split {k}" for k in range(1, len(tried)))]


def test_a_rate_without_parts_is_that_of_all_requests():
    current = SimpleNamespace(
        parts=(), ends=(), recommended=SimpleNamespace(requests_per_second=9.0)
    )
    where = SimpleNamespace(name="all requests")
    found = holding._rate_for_all(current, where, Limits(requests_per_second=0.5))
    assert found.requests_per_second == 0.5 * (1 + 1e-9)
