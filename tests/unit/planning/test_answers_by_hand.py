"""What stands beside an answer: other batches, curves for the eye, engines that run; by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.prometheus import Histogram, ServerMetrics
from afdplan.lengths.law import IndependentLengths
from afdplan.model.curve import LinearCurve, TabulatedCurve
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.uncertainty import Uncertainty
from afdplan.planning import (
    check_answer,
    plan_answer,
    ratio_answer,
    ratio_grid,
    ratio_sensitivity,
    running,
    service_baselines,
    simulated_ratio,
)
from afdplan.planning.ratio_sensitivity import (
    _changed_latencies,
    _changed_loads,
    _entries,
    curve_bands,
)
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-3, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, microbatches=1)


@pytest.mark.parametrize(
    ("devices", "given", "most"),
    [(None, None, None), (20, None, 4), (21, None, 4), (22, None, 5), (22, 3, 3), (20, 9, 4),
     (12, None, 1), (8, 7, 1), (10**7, None, 100_000)],
)  # fmt: skip
def test_attention_workers_that_devices_leave_room_for(devices, given, most):
    """Three FFN workers of four devices, attention workers of two: of 20 are 8 left."""
    asked = replace(PROBLEM, ffn_workers=3, max_attention_workers=given)
    assert asked.within(devices, 2, 4).max_attention_workers == most


def test_devices_of_a_plan_are_a_whole_number(monkeypatch):
    monkeypatch.setattr(check_answer, "check_plan", lambda *_, **__: None)
    with pytest.raises(InvalidInputError, match=r"must be an integer, got 8\.5"):
        check_answer.answer_check(SimpleNamespace(inputs={"devices": 8.5}), LAW)


def test_curves_are_shown_up_to_four_times_their_best():
    curve = [SimpleNamespace(attention_workers=a) for a in range(1, 200)]

    def shown(best, near):
        return [point.attention_workers for point in ratio_grid._thinned(curve, best, near)]

    assert shown(3, (2, 4)) == list(range(1, 17))
    assert shown(5, (2, 4)) == list(range(1, 21))
    assert shown(9, (8, 10)) == list(range(1, 37))
    many = shown(47, (43, 51))
    assert (many[0], many[-1]) == (1, 188)
    assert {43, 47, 51} <= set(many)
    assert len(many) < 40


def test_batches_and_microbatches_that_are_offered(monkeypatch):
    assert ratio_grid.batch_sizes_around(8) == (1, 2, 4, 8, 16, 32, 64)
    assert ratio_grid.batch_sizes_around(16_384)[-1] == 65_536
    assert ratio_grid.batch_sizes_around(99_999)[-1] == 99_999
    assert ratio_grid.microbatches_around(2, "pipelined") == (1, 2, 3, 4)
    asked, shares = [], []

    def solve(case, slots):
        most = case.max_attention_workers
        asked.append((case.batch_size, case.microbatches, case.latency.step_overhead, most))
        return SimpleNamespace(model=SimpleNamespace(resources=None))

    def case(problem, slots, solved):
        best = SimpleNamespace(attention_workers=problem.batch_size)
        return SimpleNamespace(
            batch_size=problem.batch_size, microbatches=problem.microbatches, best=best
        )

    monkeypatch.setattr(ratio_grid, "solve_ratio", solve)
    monkeypatch.setattr(ratio_grid, "_case", case)
    monkeypatch.setattr(ratio_grid, "bottleneck_maps", lambda models, bests: (bests,))
    found = ratio_grid.ratio_grid(
        replace(PROBLEM, batch_size=2, max_attention_workers=9), most_requests=8,
        latency_of=lambda size: replace(LATENCY, step_overhead=float(size)),
        progress=shares.append,
    )  # fmt: skip
    # Four times two are eight, four times four are not.
    assert asked == [(b, m, 1.0 if b == 1 else 0.0, 9) for b in (1, 2) for m in (1, 2, 3, 4)]
    assert shares == pytest.approx([k / 8 for k in range(1, 9)])
    assert found.maps == ({(b, m): b for b in (1, 2) for m in (1, 2, 3, 4)},)


def test_inputs_in_the_order_of_what_they_move():
    def search(value, best):
        values = {4: value, best: 12.0}
        return SimpleNamespace(value=values.__getitem__, best=lambda: best)

    found = _entries(
        {
            "a little": (search(11.0, 5), search(9.0, 3)),
            "much": (search(12.0, 6), search(6.0, 2)),
            "nothing": (search(10.0, 5), search(10.0, 7)),
            "more only": (search(9.9, 5), search(13.0, 7)),
        },
        4,
        10.0,
    )
    assert [one.input for one in found] == ["much", "more only", "a little", "nothing"]
    assert found[0].objective_change == pytest.approx((0.2, -0.4))
    assert found[0].regret == pytest.approx((0.0, 0.5))
    assert found[2].best == (5, 3)
    assert found[2].regret == pytest.approx((1 - 11 / 12, 0.25))


def test_loads_are_changed_by_the_slope_of_attention():
    less, more = _changed_loads(LATENCY)
    for model, factor in ((less, 0.8), (more, 1.2)):
        (kind,) = model.attention
        assert (kind.curve.slope, kind.curve.intercept) == pytest.approx((1e-6 * factor, 1e-3))
        assert model.ffn == LATENCY.ffn
    (kind,) = LATENCY.attention
    table = TabulatedCurve(loads=[0, 10], times=[1.0, 2.0])
    for other in (replace(kind, curve=table), replace(kind, context_window=100)):
        assert _changed_loads(replace(LATENCY, attention=(other,))) is None
        assert _changed_loads(replace(LATENCY, attention=(kind, other))) is None
    # A stage is changed by all that it takes, if only one part of it takes time.
    assert set(
        _changed_latencies(replace(LATENCY, ffn=LinearCurve(slope=0.0, intercept=1e-3)))
    ) >= {"FFN time"}


def test_a_load_without_interval_has_no_band():
    for changes in ({"confidence": 1.0}, {"value": 0.0, "low": 0.0}):
        asked = {"value": 9.0, "low": 8.0, "high": 10.0, "confidence": 0.95, "method": "x"}
        assert curve_bands(PROBLEM, (1, 4), Estimate(**asked | changes)) == ()
    load = Estimate(value=9.0, low=8.0, high=10.0, confidence=0.95, method="x")
    assert len(curve_bands(PROBLEM, (1, 4), load)) == 1
    assert curve_bands(PROBLEM, (1, 4), None) == ()
    small = replace(load, value=0.9, low=0.8, high=1.0)
    assert len(curve_bands(PROBLEM, (1, 4), small)) == 1


def test_drawn_times_scale_the_exact_ones(monkeypatch):
    """Draws of 0.9 and 1.2 of a quick step stand for as much of the exact one."""
    quick = np.array([3.0, 4.0])
    monkeypatch.setattr(
        ratio_sensitivity, "drawn_step_times",
        lambda *_: (quick, np.array([[0.9], [1.2]]) * quick),
    )  # fmt: skip
    monkeypatch.setattr(ratio_sensitivity, "drawn_interval", lambda lines: lines)
    uncertain = Uncertainty(coefficients=("ffn.intercept",), covariance=[[1e-8]])
    problem = replace(PROBLEM, latency=replace(LATENCY, uncertainty=uncertain))
    (band,) = curve_bands(problem, (1, 4), None)
    step = [10 * (0.017 + 2e-3 + 8e-3 * a + 2 * (5e-4 + 1.6e-5)) for a in (1, 4)]
    here = [a * 8 / one / (a + 1) for a, one in zip((1, 4), step, strict=True)]
    assert band.low == pytest.approx([value / 1.2 for value in here])
    assert band.high == pytest.approx([value / 0.9 for value in here])


@pytest.mark.parametrize(
    ("verified", "around", "gain", "plays"),
    [(False, False, 1, 0), (True, False, 1, 1), (False, True, 1, 1), (True, True, None, 0)],
)
def test_a_gain_is_played_where_anything_is(monkeypatch, verified, around, gain, plays):
    asked = []
    monkeypatch.setattr(plan_answer, "placement_gain", lambda *_, **__: gain)
    monkeypatch.setattr(
        "afdplan.planning.simulated_ratio.with_recovered", lambda *given: asked.append(given) or 2
    )
    question = SimpleNamespace(has_verification=verified, has_around=around)
    assert plan_answer._gain(question, "p", 3) == (2 if plays else gain)
    assert asked == [(1, "p")] * plays


@pytest.mark.parametrize(
    ("basis", "same", "told"),
    [("all requests", True, False), ("noon", True, True), ("all requests", False, True)],
)
def test_what_keeping_a_plan_for_the_hardest_part_costs_is_told(monkeypatch, basis, same, told):
    monkeypatch.setattr(plan_answer, "plan_from_document", lambda document: document)
    monkeypatch.setattr(plan_answer, "regret_of_keeping", lambda *_: 0.1)
    monkeypatch.setattr(plan_answer, "replan", lambda *_: SimpleNamespace(regret=0.2))
    answer = SimpleNamespace(
        question=SimpleNamespace(workload=SimpleNamespace(law=LAW)),
        plan=SimpleNamespace(basis=basis, limits=1, planned_limits=1 if same else 2),
    )
    expected = {"regret": 0.1} | ({"replan_regret": 0.2} if told else {})
    assert plan_answer.costs_of_keeping({}, answer) == expected


@pytest.mark.parametrize(
    ("placement", "around", "policy", "plays"),
    [("round-robin", False, "longest-prompt", 0), ("longest-request", True, "longest-request", 1)],
)
def test_the_policy_that_is_compared(monkeypatch, placement, around, policy, plays):
    asked, played = [], []
    monkeypatch.setattr(ratio_answer, "placement_gain", lambda *g, **_: asked.append(g) or 1)
    monkeypatch.setattr(
        "afdplan.planning.simulated_ratio.with_recovered", lambda *g: played.append(g) or 2
    )
    question = SimpleNamespace(placement=placement, blind="b", has_around=around)
    assert ratio_answer._gain(question, 5) == 1 + plays
    assert asked == [("b", 5, policy)]
    assert len(played) == plays


def lengths(mean):
    return Histogram(edges=(1e6,), counts=(10.0, 0.0), total=10.0 * mean)


def metrics(*means, **changes):
    asked = {
        "system": "x", "prompt_tokens": lengths(100), "decode_tokens": lengths(50),
        "step_time": None, "is_window": True,
        "engines": tuple((f"e{k}", lengths(p), lengths(d)) for k, (p, d) in enumerate(means)),
    } | changes  # fmt: skip
    return ServerMetrics(**asked)


def test_engines_that_serve_unlike_requests_are_told():
    plan = SimpleNamespace(model=None)

    def said(*means, **changes):
        return running._warnings(metrics(*means, **changes), plan)

    assert said((100.0, 50.0), (110.0, 50.0)) == []
    assert said((100.0, 50.0)) == []
    assert said() == []
    silent = ("e9", SimpleNamespace(mean=None), lengths(50))  # none of its prompts is counted
    (words,) = said(engines=(silent, ("e0", lengths(100), lengths(50))))
    assert "prompts: 0 tokens on average on e9, 100 on e0" in words
    silent = ("e9", lengths(100), SimpleNamespace(mean=None))
    (words,) = said(engines=(silent, ("e0", lengths(100), lengths(50))))
    assert "outputs: 0 tokens on average on e9, 50 on e0" in words
    (words,) = said((111.0, 50.0), (105.0, 50.0), (100.0, 50.0))
    assert words.startswith(
        "engines serve unlike prompts: 100 tokens on average on e2, 111 on e0; the slowest"
    )
    (words,) = said((100.0, 50.0), (100.0, 56.0))
    assert words.startswith("engines serve unlike outputs: 50 tokens on average on e0, 56 on e1")
    (words,) = said(is_window=False, decode_tokens=replace(lengths(1), counts=(1234.0, 0.0)))
    assert "whole life (1,234 requests)" in words
    assert said(notes=("n",)) == ["n"]


def test_models_are_told_apart_by_the_end_of_their_names():
    for planned, served, alike in (
        ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B-FP8", True),
        ("deepseek-v3.json", "/models/DeepSeek_V3/", True),
        ("qwen3-30b-a3b-fp8", "qwen3-30b-a3b", True),
        ("qwen3-30b-a3b", "qwen3-235b", False),
        ("---", "qwen3", False),
    ):
        assert running._alike(planned, served) is alike, (planned, served)
    plan = SimpleNamespace(model="qwen3-30b-a3b")
    assert running._warnings(metrics(models=("a/llama", "Qwen3-30B-A3B")), plan) == []
    (words,) = running._warnings(metrics(models=("llama", "gemma", "phi", "glm")), plan)
    assert words.startswith(
        "the metrics are of model llama, gemma, phi, the plan is for qwen3-30b-a3b:"
    )
    assert running._warnings(metrics(), plan) == []


@pytest.mark.parametrize(
    ("unit", "barrier", "step"), [("s", 0.3, 0.15), ("s", None, 0.1), ("us", 0.3, None)]
)
def test_forward_passes_tell_prompts_by_the_load(monkeypatch, unit, barrier, step):
    """Outputs of 9 steps grow by four on average: loads of 100 are prompts of 96."""
    found = SimpleNamespace(
        token_load=Estimate.exact(100.0), mean_time=0.2, warnings=("w",),
        barrier=barrier and SimpleNamespace(step_time=barrier),
    )  # fmt: skip
    monkeypatch.setattr(running, "describe_passes", lambda _: found)
    plan = SimpleNamespace(
        inputs={"decode": "fixed:9"}, mean_decode_tokens=50.0,
        latency=SimpleNamespace(time_unit=unit, tokens_per_step=2.0),
    )  # fmt: skip
    told = running._passing(plan, None)
    assert told.law.prompt.mean == pytest.approx(96.0)
    assert told.law.decode.mean == 9.0
    assert told.step_time == (None if step is None else pytest.approx(step))
    assert told.law.token_load().mean == pytest.approx(100.0)
    assert told.warnings[0] == "w"
    # Without a law as planned, outputs of its mean: geometric ones grow by 49 on average.
    plan.inputs = {"decode": None}
    told = running._passing(plan, None)
    assert told.law.decode.mean == pytest.approx(50.0)
    assert told.law.prompt.mean == pytest.approx(51.0)
    found.token_load = Estimate.exact(20.0)
    assert running._passing(plan, None).law.prompt.mean == 1.0


class Group:
    """Ranks on eight devices that finish 3 requests/s alone and 2 with prompts between."""

    def __init__(self, copies, rate):
        self.copies, self.requests_per_second = copies, rate

    ranks, devices_per_rank, step_time = 4, 2, SimpleNamespace(mean=0.02)

    def __str__(self):
        return f"{self.copies} groups"


@pytest.mark.parametrize(
    ("budget", "wanted", "carried", "found"),
    [
        (17, None, 1, ("2 groups", 16, 4.0)),
        (7, None, 1, None),
        (None, 5.0, 1, ("3 groups", 24, 5.0)),
        (None, 6.0, 1, ("3 groups", 24, 6.0)),
        (24, 5.0, 1, ("3 groups", 24, 5.0)),
        (23, 5.0, 1, None),
        (None, 5.0, 4, ("4 groups", 32, 5.0)),
        (None, 5.0, 99, None),
    ],
)
def test_as_many_unsplit_groups_as_fit_or_the_rate_takes(
    monkeypatch, budget, wanted, carried, found
):
    models = []

    class Pool:
        def __init__(self, model, traffic, limit, margin):
            models.append((model, traffic, limit, margin))

        def most_rate(self, copies, group):
            assert copies == group.copies
            return 2.0 * copies

        def carries(self, copies, rate, group):
            assert (copies, rate) == (group.copies, wanted)
            return copies >= carried

    class Model:
        source = "derived"

        def slowed(self, factor):
            raise AssertionError

    one = service_baselines
    monkeypatch.setattr(one, "DerivedSource", SimpleNamespace)
    monkeypatch.setattr(one, "ColocatedSearch", SimpleNamespace(of=lambda _: None))
    monkeypatch.setattr(one, "derive_prefill", lambda *given: models.append(given[1:]) or Model())
    monkeypatch.setattr(one, "replace", lambda model, **changes: changes)
    monkeypatch.setattr(one, "PrefillPool", Pool)
    monkeypatch.setattr(one, "_largest", lambda *_: Group(1, 2.0))
    monkeypatch.setattr(one, "multiplied", lambda group, n: Group(n, group.requests_per_second))
    service = SimpleNamespace(
        plan=SimpleNamespace(planned_limits=None, colocated=[Group(1, 3.0)]), devices=budget,
        model=SimpleNamespace(source="derived", chunk_tokens=64),
        pool=SimpleNamespace(traffic="t", limit="l"),
        limits=SimpleNamespace(wanted_rate=wanted, margin=0.1),
    )  # fmt: skip
    placement = SimpleNamespace(attention_hardware="h")
    search = SimpleNamespace(source=SimpleNamespace(placement=placement))
    assert list(one._unsplit(service, search)) == ([] if found is None else [found])
    slow = {"transfer_per_token": 0.0, "transfer_latency": 0.02}
    assert models == [("h", 8, 64), (slow, "t", "l", 0.1)]


@pytest.mark.parametrize(
    ("devices", "wanted", "best", "gain"),
    [(16, None, ("b", 16, 4.0), 0.25), (None, 5.0, ("a", 8, 3.0), -0.2)],
)
def test_of_unsplit_widths_that_which_gives_most_or_takes_least(
    monkeypatch, devices, wanted, best, gain
):
    """Ours are 5 requests/s, on ten devices."""
    widths = [("a", 8, 3.0), ("b", 16, 4.0), ("c", 12, 3.5)]
    monkeypatch.setattr(service_baselines, "_unsplit", lambda *_: iter(widths))
    service = SimpleNamespace(
        devices=devices, rate=5.0, used_devices=10,
        limits=SimpleNamespace(requests_per_second=wanted),
    )  # fmt: skip
    (found,) = service_baselines.service_baselines(service, [], None)
    assert (found.kind, found.deployment, found.devices, found.rate) == ("un-split", *best)
    assert found.gain == pytest.approx(gain)


def test_ranks_are_as_much_slower_as_the_measured_worker(monkeypatch):
    line = SimpleNamespace(alone=SimpleNamespace(sum=lambda: 4.0))
    asked = []
    monkeypatch.setattr(service_baselines, "derive_prefill", lambda *given: asked.append(given[1:]))
    monkeypatch.setattr(service_baselines, "PromptLine", SimpleNamespace(of=lambda *_: line))
    service = SimpleNamespace(
        model=SimpleNamespace(devices=4, chunk_tokens=64),
        pool=SimpleNamespace(
            traffic=SimpleNamespace(prompts=None, cached=None),
            line=SimpleNamespace(alone=SimpleNamespace(sum=lambda: 6.0)),
        ),
    )
    source = SimpleNamespace(placement=SimpleNamespace(attention_hardware="h"))
    assert service_baselines._measured_over_derived(service, source) == 1.5
    assert asked == [("h", 4, 64)]


def test_a_played_ratio_is_that_of_both_sides(monkeypatch):
    """Eight attention workers for two of the FFN give 3 where equal loads would give 4."""
    monkeypatch.setattr(simulated_ratio, "replace", lambda blind, **changes: changes)
    played = SimpleNamespace(
        problem=SimpleNamespace(ffn_workers=2, bundle=lambda a: a),
        _nearest_model=lambda: SimpleNamespace(resources=lambda a: {"ffn": a, "attention": 1.0}),
        curve=tuple, near_equal=lambda: (7, 9), value=lambda a: 3.0,
        runs={8: SimpleNamespace(step_time_quantiles="q")},
    )  # fmt: skip
    found = simulated_ratio.PlayedSearch.recommendation(played, None, 8, 4.0)
    assert (found["optimal_ratio"], found["bottleneck"], found["barrier_cost"]) == (
        4.0,
        "ffn",
        0.25,
    )
    assert simulated_ratio.PlayedSearch.recommendation(played, None, 8, 2.0)["barrier_cost"] == 0.0
