"""What puts answers together, on parts that are known: each is asked for what it should be."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InfeasibleError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import UNCOUPLED, Coupling
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning import (
    plan_modes,
    ratio_answer,
    ratio_around,
    ratio_day,
    ratio_grid,
    running,
    theory_curve,
    whole,
)
from afdplan.planning.design import Combination
from afdplan.planning.fastest import fastest_design
from afdplan.planning.limits import Limits
from afdplan.planning.source import GATHERED
from afdplan.planning.standing import standings
from afdplan.planning.verify import DECLARED_MEAN, DECLARED_P99, Verification, _part
from afdplan.simulation.scenario import Scenario
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, ffn_workers=2)


@pytest.mark.parametrize(
    ("mean", "p99", "agrees"),
    [
        (1.0, 2.0, True), (1 + DECLARED_MEAN + 0.09, 2.0, True),
        (1 + DECLARED_MEAN + 0.11, 2.0, False), (1 - DECLARED_MEAN - 0.11, 2.0, False),
        (1.0, 1.9 - 2 * DECLARED_P99 + 0.01, True), (1.0, 1.9 - 2 * DECLARED_P99 - 0.01, False),
        (1.0, 2.2 + 2 * DECLARED_P99 - 0.01, True), (1.0, 2.2 + 2 * DECLARED_P99 + 0.01, False),
    ],
)  # fmt: skip
def test_a_prediction_agrees_within_what_is_declared_and_the_interval(mean, p99, agrees):
    """The mean was played to a tenth; the percentile lies between 1.9 and 2.2."""
    asked = {"confidence": 0.95, "method": "x"}
    found = Verification(
        name="x", design=None, predicted_mean=mean, predicted_p99=p99,
        simulated_mean=Estimate(value=1.0, low=0.9, high=1.1, **asked),
        simulated_p99=Estimate(value=2.0, low=1.9, high=2.2, **asked),
        tokens_per_second_per_device=1.0,
    )  # fmt: skip
    assert found.agrees is agrees


def test_progress_of_one_of_several():
    assert _part(None, 0, 2) is None
    shown = []
    _part(shown.append, 1, 4)(0.5)
    assert shown == [0.375]


@pytest.fixture
def planned(monkeypatch):
    """Return what is asked for by a whole plan whose parts are known."""

    def planned(sizes, service=None, share=0.8, rate=9.0):
        asked = SimpleNamespace(plans=[], failures=[], choices=[])

        @dataclass(frozen=True)
        class Found:
            plan: object
            service: object
            failures: object = None

        @dataclass(frozen=True)
        class Lost:
            bundle: object
            requests_per_second: float

        def plan(law, source, limits, prefill, space, cost, progress, more):
            asked.plans.append((limits.devices, limits.requests_per_second, space, cost))
            inside = Limits(devices=max((limits.devices or 70) - 6, 1))
            return Found(SimpleNamespace(limits=inside, source="s", recommended="r"), service)

        def lost(recommended, search, inside, failures, sizes, others):
            asked.failures.append((inside.devices, inside.requests_per_second, others))
            return Lost(SimpleNamespace(share=share), rate)

        def choice(search, inside, failures, others):
            asked.choices.append((search, inside.devices, inside.requests_per_second, others))
            return sizes

        monkeypatch.setattr(whole, "_planned", plan)
        monkeypatch.setattr(whole, "failure_plan", lost)
        monkeypatch.setattr(whole, "bundle_choice", choice)
        monkeypatch.setattr(whole, "DesignSearch", lambda *given: given[2:])
        monkeypatch.setattr(whole, "source_for", lambda target, source: source)
        return asked

    return planned


def size(score, most):
    return SimpleNamespace(expected_score=score, most_devices=most)


def test_spare_devices_are_taken_off_the_budget(planned):
    asked = planned([size(2.0, 16), size(1.0, 8)])
    space = whole.SearchSpace(batch_sizes=(3,))
    found = whole.plan_whole(
        LAW, None, Limits(devices=64), failures=SimpleNamespace(spare_devices=4), space=space
    )
    assert [given[:3] for given in asked.plans] == [(60, None, space)]
    assert (asked.choices[0][0][0], asked.choices[0][1:]) == (space, (54, None, 0))
    assert asked.failures == [(54, None, 0)]
    assert found.failures.requests_per_second == 9.0
    for spare, devices in ((62, 64), (1, 3)):
        whole.plan_whole(
            LAW, None, Limits(devices=devices), failures=SimpleNamespace(spare_devices=spare)
        )
    with pytest.raises(InfeasibleError, match="must leave devices to work, got 63 of 64"):
        whole.plan_whole(LAW, None, Limits(devices=64), failures=SimpleNamespace(spare_devices=63))
    never = whole.plan_whole(LAW, None, Limits(devices=64))
    assert (asked.plans[-1][0], never.failures) == (64, None)
    assert asked.plans[-1][2:] == (whole.SearchSpace(), whole.DeviceCost())


def test_smaller_bundles_and_more_of_them_where_failures_take_some(planned):
    service = SimpleNamespace(prefill_devices=5, rate=7.0)
    asked = planned([size(1.0, 16), size(2.0, 8)], service)
    limits, none = Limits(requests_per_second=4.0), SimpleNamespace(spare_devices=0)
    found = whole.plan_whole(LAW, None, limits, failures=none)
    assert [given[:2] for given in asked.plans] == [(None, 4.0), (None, 5.0)]
    assert [given[2].max_bundle_devices for given in asked.plans] == [None, 8]
    assert asked.choices[0][1:] == (64, 4.0, 5)
    assert asked.failures == [(64, 4.0, 5)] * 2
    assert found.failures.requests_per_second == 7.0  # prefill lets no more through
    ample = SimpleNamespace(prefill_devices=1, rate=99.0)
    asked = planned([], ample)
    found = whole.plan_whole(LAW, None, limits, failures=none)
    assert (found.service, found.failures.requests_per_second) == (ample, 9.0)
    assert [given[2].max_bundle_devices for given in asked.plans] == [None, None]
    asked = planned([], None)
    found = whole.plan_whole(LAW, None, limits, failures=none)
    assert (found.service, asked.failures) == (None, [(64, 4.0, 0)] * 2)


def test_a_service_is_planned_where_prefill_is_asked_for(monkeypatch):
    monkeypatch.setattr(whole, "make_plan", lambda *given, **asked: (given, asked))
    monkeypatch.setattr(
        whole, "plan_service", lambda *given, **asked: SimpleNamespace(plan=given[3:])
    )
    shared = (LAW, "s", "l"), ("space", "cost", None, {"trace": 1})
    alone = whole._planned(*shared[0], None, *shared[1])
    assert alone.plan == (
        (LAW, "s", "l"), {"space": "space", "cost": "cost", "progress": None, "trace": 1}
    )  # fmt: skip
    assert alone.service is None
    prefill = SimpleNamespace(limit=1, workers=2, traffic=3)
    assert whole._planned(*shared[0], prefill, *shared[1]).service.plan == (1, 2, 3)


@pytest.fixture
def read(monkeypatch):
    """Read invented counters; what is done with them is written down."""
    done = []

    class Counters:
        def __init__(self, name, is_window=False):
            self.name, self.is_window = name, is_window

        def since(self, earlier):
            return Counters(f"{self.name} since {earlier}")

    def chosen(gained, selector):
        done.append(selector)
        return gained

    def serving(gained, alike):
        done.append((alike("org/Some-Model-7B"), alike("other")))
        return gained

    def source(name, what, error):
        kind = "json" if name.endswith("json") else "text"
        head = '{"wall_time": 1, "scheduled_requests": 1}' if "pass" in name else "{}"
        opened = SimpleNamespace(kind=kind, head=head, name=name)
        return nullcontext(opened)

    monkeypatch.setattr(running, "open_source", source)
    monkeypatch.setattr(running, "FPM_SIGN", SimpleNamespace(search=lambda head: "wall" in head))
    monkeypatch.setattr(running, "read_forward_passes", lambda source: "passes")
    monkeypatch.setattr(running, "_passing", lambda plan, passes: passes)
    monkeypatch.setattr(
        running, "read_snapshot", lambda source: Counters(source.name, "window" in source.name)
    )
    monkeypatch.setattr(running, "read_snapshots", lambda *names: Counters("+".join(names)))
    monkeypatch.setattr(running, "chosen_engines", chosen)
    monkeypatch.setattr(running, "engines_serving", serving)
    monkeypatch.setattr(
        running, "server_metrics",
        lambda gained: SimpleNamespace(name=gained.name, step_time=SimpleNamespace(mean=0.5)),
    )  # fmt: skip
    monkeypatch.setattr(running, "observed_load", lambda found: "load")
    monkeypatch.setattr(running, "observed_lengths", lambda found: "law")
    monkeypatch.setattr(running, "_warnings", lambda found, plan: ["w"])
    monkeypatch.setattr(
        "afdplan.files.measurements.prometheus_api.prometheus_increase",
        lambda url, window, selector: Counters(f"{url} {window} {selector}"),
    )
    return done


PLAN = SimpleNamespace(model="", latency=SimpleNamespace(time_unit="s"))


def test_counters_are_read_once_twice_or_from_a_server(read):
    now = running.running(PLAN, ["a.txt"])
    assert (now.metrics.name, now.snapshot.name, now.step_time) == ("a.txt", "a.txt", 0.5)
    assert (now.law, now.token_load, now.warnings) == ("law", "load", ("w",))
    later = running.running(PLAN, ["a.txt"], earlier="b", selector="x=1")
    assert (later.metrics.name, later.snapshot.name) == ("a.txt since b", "a.txt")
    window = running.running(PLAN, ["window.txt"], earlier="b")
    assert (window.metrics.name, window.snapshot) == ("window.txt", None)
    both = running.running(PLAN, ["a.txt", "b.txt"])
    assert (both.metrics.name, both.snapshot) == ("a.txt+b.txt", None)
    named = running.running(PLAN, ["prompt=a.txt"])
    assert (named.metrics.name, named.snapshot) == ("prompt=a.txt", None)
    assert read == ["", "x=1", "", "", ""]
    asked = running.running(PLAN, [], prometheus="url", window=60.0, selector="y=2")
    assert (asked.metrics.name, asked.snapshot) == ("url 60.0 y=2", None)
    assert len(read) == 5  # the server was asked for these engines only


def test_passes_are_told_from_counters_and_models_apart(read):
    assert running.running(PLAN, ["pass.json"]) == "passes"
    assert running.running(PLAN, ["other.json"]).metrics.name == "other.json"
    assert running.running(PLAN, ["pass.txt"]).metrics.name == "pass.txt"
    abstract = SimpleNamespace(model="some-model", latency=SimpleNamespace(time_unit="abstract"))
    read.clear()
    assert running.running(abstract, ["a.txt"]).step_time is None
    assert read == ["", (True, False)]


def test_a_theory_curve_reaches_a_quarter_beyond_what_was_played(monkeypatch):
    asked = []

    def recommend(problem):
        asked.append(problem.max_attention_workers)
        return SimpleNamespace(curve=[SimpleNamespace(attention_workers=a) for a in (1, 2, 3)])

    monkeypatch.setattr(theory_curve, "recommend", recommend)
    monkeypatch.setattr(theory_curve, "shown_workers", lambda every, played: every[::2])
    scenario = Scenario(bundle=PROBLEM.bundle(3), latency=LATENCY, lengths=LAW, start="stationary")
    for played in ([2, 12], [13], [40, 3]):
        shown = theory_curve.theory_curve(scenario, LAW, played)
        assert [point.attention_workers for point in shown] == [1, 3]
    assert asked == [16, 16, 50]
    other = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
    assert theory_curve.theory_curve(scenario, other, [2]) == ()
    assert theory_curve.theory_curve(replace(scenario, start="fresh"), LAW, [2]) == ()
    assert theory_curve.theory_curve(replace(scenario, kv_capacity=99_999), LAW, [2]) == ()


@pytest.mark.parametrize(
    ("devices", "own", "bundle", "most"),
    [(None, None, None, None), (20, None, None, 7), (21, 9, None, 7), (20, 3, None, 3),
     (20, None, 12, 3), (7, None, None, 1), (20_000, None, None, 1021)],
)  # fmt: skip
def test_both_modes_have_the_attention_workers_that_devices_leave_room_for(
    monkeypatch, devices, own, bundle, most
):
    """Two FFN workers of three devices; an attention worker has two."""
    asked = []
    monkeypatch.setattr(plan_modes, "solve_ratio", lambda *given: asked.append(given))
    monkeypatch.setattr(plan_modes, "compare_modes", lambda problem, *_: problem)
    design = SimpleNamespace(ffn_workers=2, ffn_devices=3, attention_devices=2)
    plan = SimpleNamespace(
        problem=replace(PROBLEM, placement="longest-prompt"), latency=LATENCY,
        split=SimpleNamespace(design=design), limits=SimpleNamespace(devices=devices),
        space=SimpleNamespace(max_attention_workers=own, max_bundle_devices=bundle),
    )  # fmt: skip
    problem = plan_modes.plan_modes(plan)
    assert (problem.execution, problem.placement) == ("barrier-free", "round-robin")
    assert asked[0][0].max_attention_workers == most
    assert problem.latency == LATENCY
    for coupling, kept in ((Coupling(**GATHERED), UNCOUPLED), (LATENCY.coupling,) * 2):
        plan.latency = replace(LATENCY, coupling=coupling)
        assert plan_modes.plan_modes(plan).latency.coupling == kept


def test_a_limit_is_held_where_it_is_hardest_to_keep():
    """The name of the hardest part comes first of all names."""
    part = {"requests_per_second": 5.0, "arrival_rate": None}
    plan = SimpleNamespace(
        limits=Limits(devices=9, time_per_output_token=0.1, overflow_probability=0.02),
        recommended=SimpleNamespace(
            token_time=lambda _: 0.05, memory_overflow_probability=0.001,
            requests_per_second=6.0, devices=8,
        ),
        breaches=(), basis="noon", cache=1, devices=8,
        drift=(SimpleNamespace(part="a", time_per_output_token=0.08,
                               memory_overflow_probability=0.01, **part),),
        interval=(SimpleNamespace(part="z", time_per_output_token=0.06,
                                  memory_overflow_probability=0.005, **part),),
    )  # fmt: skip
    time, memory = standings(plan)[:2]
    assert (time.value, time.part, time.left) == (0.08, "a", pytest.approx(0.2))
    assert (memory.value, memory.part) == (0.01, "a")


def test_only_where_a_smaller_f_allows_a_smaller_a_it_can_be_fastest():
    """The least A of F = 1, 2, 3, 4 are 2, 5, 3, 9: two FFN workers need more than three."""
    looked, asked, share = [], [], [1.0]

    def evaluate(combination, attention, ffn, probabilities):
        looked.append((tuple(combination), attention.tolist(), ffn.tolist()))
        return SimpleNamespace(mean=attention * 1.0, quantiles=np.empty((attention.size, 0)))

    lattice = SimpleNamespace(
        attention=np.array([2, 3, 5, 3, 4, 9]), ffn=np.array([1, 1, 2, 3, 3, 4]),
        most_bundles=np.array([6, 1, 1, 1, 1, 1]),
    )  # fmt: skip

    def search(shares):
        return SimpleNamespace(
            combinations=lambda free: [Combination(1, 2, 16), Combination(1, 2, 8)], space="space",
            lattice=lambda *given: asked.append(given[1:]) or lattice,
            source=SimpleNamespace(shares_ffn_latency=shares),
            models=SimpleNamespace(
                evaluate=evaluate, least_reading=lambda base, sizes: (share[0], None)
            ),
            pairs=SimpleNamespace(design_of=lambda *given: given[2:]),
            describe=lambda design, free: SimpleNamespace(design=design, token_time=lambda _: 1.0),
        )  # fmt: skip

    assert fastest_design(search(True), Limits(requests_per_second=3.0)).design == (0, 6)
    fastest_design(search(False), Limits(devices=40))
    assert looked == [((1, 2, 8), [2, 3, 9], [1, 3, 4]), ((1, 2, 8), [2, 5, 3, 9], [1, 2, 3, 4])]
    assert asked == [("space", 1, 256), ("space", 1, 40)]
    # Where reading is faster at 16 requests, they are looked at too.
    share[0] = 0.9
    fastest_design(search(True), Limits(devices=40))
    assert [one for one, *_ in looked[2:]] == [(1, 2, 8), (1, 2, 16)]


def test_windows_are_answered_up_to_twice_what_all_requests_together_take(monkeypatch):
    asked, shown = [], []

    def answer(problem, trace, load):
        asked.append((trace, load, problem.max_attention_workers))
        known = None if trace != 2.0 else SimpleNamespace(low=6, high=9, token_load="l")
        return SimpleNamespace(
            curve=[SimpleNamespace(attention_workers=a, objective=a / 10) for a in (1, 8, 20)],
            optimal_attention_workers=8, uncertainty=known, mean_token_load=7.0,
        )  # fmt: skip

    def part(tokens):
        return SimpleNamespace(trace=Trace(tokens))

    class Trace(float):
        decode_tokens = np.array([3, 4])

    monkeypatch.setattr(ratio_day, "cut_by_clock", lambda *_: ([part(1.0), part(2.0)], 5))
    monkeypatch.setattr(ratio_day, "token_load_estimate", lambda trace: f"of {trace:g}")
    monkeypatch.setattr(ratio_day, "_answer", answer)
    monkeypatch.setattr(ratio_day, "_day", lambda *given: given)
    day = ratio_day.ratio_day(PROBLEM, 0.0, 60.0, progress=shown.append)
    assert asked == [(0.0, None, None), (1.0, "of 1", 40), (2.0, "of 2", 40)]
    assert shown == [0.5, 1.0]
    assert (day[0], day[2], day[3], day[7]) == (60.0, 5, 8, [8, 8])
    assert [(c.number, c.output_tokens, c.objective[20]) for c in day[4]] == [
        (0, 7.0, 2.0), (1, 7.0, 2.0)
    ]  # fmt: skip
    assert day[5:7] == ([Estimate.exact(7.0), "l"], [(8, 8), (6, 9)])
    ratio_day.ratio_day(replace(PROBLEM, max_attention_workers=9), 0.0, 60.0)
    assert [most for *_, most in asked[3:]] == [9, 9, 9]


def test_a_window_over_a_horizon_has_no_interval_of_its_load(monkeypatch):
    monkeypatch.setattr(ratio_day, "EmpiricalLengths", lambda trace: LAW)
    monkeypatch.setattr(ratio_day, "recommend", lambda problem, load: load)
    known = Estimate.exact(3.0)
    assert ratio_day._answer(PROBLEM, 1, known) == known
    moving = replace(PROBLEM, horizon=50, method="mean-field")
    assert ratio_day._answer(moving, 1, known) is None


@pytest.mark.parametrize(("execution", "methods"), [("synchronous", "m"), ("barrier-free", {})])
@pytest.mark.parametrize(("free", "lost"), [(0.5, 0.2), (0.3, 0.0)])
def test_a_case_that_is_played(monkeypatch, execution, methods, free, lost):
    """Six attention workers for two of the FFN give 0.4."""
    asked = []

    class Played:
        def __init__(self, *given, **more):
            asked.append((given[2:], more["runs"]))

        best = staticmethod(lambda: 6)
        curve = staticmethod(lambda: [SimpleNamespace(attention_workers=a) for a in (5, 6)])
        near_equal = staticmethod(lambda: (5, 6))
        value = staticmethod(lambda a: 0.4)
        objectives = staticmethod(dict)

    monkeypatch.setattr("afdplan.planning.simulated_ratio.PlayedSearch", Played)
    monkeypatch.setattr(ratio_grid, "equal_loads", lambda problem, slots: lambda a: free)
    monkeypatch.setattr(ratio_grid, "_other_methods", lambda *_: "m")
    solved = SimpleNamespace(
        best=7, mean_field_ratio=3.5, model=SimpleNamespace(resources=lambda a: {"ffn": a, "x": 1})
    )
    problem = SimpleNamespace(batch_size=8, microbatches=2, ffn_workers=2, execution=execution)
    found = ratio_grid._played_case(problem, (), solved, None, {1: 2})
    assert (found.optimal_ratio, found.bottleneck, found.best.attention_workers) == (3.0, "ffn", 6)
    assert (found.other_methods, found.barrier_cost) == (methods, pytest.approx(lost))
    assert asked == [(((7, 3.5),), {1: 2})]


def test_what_was_played_is_not_played_again_around_it(monkeypatch):
    asked = []
    monkeypatch.setattr(ratio_around, "ratio_around", lambda *_, **more: asked.append(more["runs"]))
    question = SimpleNamespace(
        problem=1, most_requests=3, latency_of=4,
        workload=SimpleNamespace(token_load=5),
    )  # fmt: skip
    for played in (None, SimpleNamespace(runs={6: 7})):
        ratio_answer._around(question, 8, played, None, lambda words: nullcontext())
    assert asked == [{}, {6: 7}]
