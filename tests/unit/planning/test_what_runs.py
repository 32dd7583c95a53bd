"""What is looked at of a bundle that runs: other numbers of workers, effects, both modes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.deploy.registry import find_target
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad
from afdplan.planning import check, plan_effects, ratio_answer
from afdplan.planning.effect_costs import _best_of, _without
from afdplan.planning.plan_modes import has_both_modes
from afdplan.planning.ratio_question import RatioQuestion
from tests.unit.planning.test_check import PLAN, running, step

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")


@pytest.mark.parametrize("ours", [1, 3, 30, 100, 200, 300])
def test_every_a_up_to_twice_ours_and_few_beyond_are_looked_at(monkeypatch, ours):
    """Of more than 512 numbers every second or so, that which runs among them."""
    asked = []

    class Cycle:
        def evaluate(self, workers, probabilities):
            asked.extend(workers.tolist())
            return SimpleNamespace(mean=np.ones_like(workers))

    monkeypatch.setattr(check, "cycle_model", lambda *_: Cycle())
    monkeypatch.setattr(check, "limited", lambda times: times.mean)
    check._under(running(ours), LAW, 1.0)
    if ours < 200:
        assert set(range(1, 2 * ours + 1)) <= set(asked)
    assert ours in asked
    assert max(asked) <= max(4 * ours, 16)
    assert len(asked) <= 513
    beyond = [a for a in asked if a > 2 * ours]
    assert len(beyond) < 60


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_attention_workers_cost_their_devices(devices):
    """Of A / step(A) / (devices A + 4) the best A, which is less the more devices each takes."""
    every = np.arange(1, 17)
    values = every / step(every) / (devices * every + 4)
    lost, best, mean, held = check._under(replace(PLAN, attention_devices=devices), LAW, 1.0)
    assert best == every[np.argmax(values)]
    assert lost == pytest.approx(1 - values[1] / values.max())
    assert (mean, held) == (pytest.approx(step(2)), pytest.approx(step(2) / 1.5))


def teeth(counts, jump, top):
    """A hill of teeth: after each so many workers it falls, and rises again to their last."""
    a = np.asarray(counts)
    tooth = np.ceil(a / jump)
    return 100 - np.abs(tooth - top) - (tooth * jump - a) / jump, a


@pytest.mark.parametrize("jump", [7, 12, 25])
@pytest.mark.parametrize("top", [1, 3, 8, 14, 16])
@pytest.mark.parametrize("more", [0, 1, 200])
def test_the_last_worker_of_the_best_tooth_is_found(jump, top, more):
    """Of all numbers up to it, up to the next one, and far beyond."""
    able = np.arange(1, jump * top + more + 1)
    found, height, _ = _best_of(lambda a: teeth(a, jump, top), able, 5, np.inf, jump)
    assert (found, height) == (jump * top, 100)


def test_ranks_of_experts_are_told_where_no_imbalance_is_stated():
    latency = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3))
    own = replace(latency, experts=ExpertLoad(experts=64, experts_per_token=4, ranks_per_worker=2))
    stated = replace(latency, experts=ExpertLoad(imbalance=1.3))
    for model, ranks in ((own, 8), (stated, None)):
        assert list(_without(model, 4, None)) == [("experts", (latency, ranks))]


@pytest.mark.parametrize(("limit", "longest"), [(None, None), (0.2, 0.2 * 1.5)])
def test_effects_of_what_runs_keep_its_limit(monkeypatch, limit, longest):
    """A token takes a step and a half of tokens: a limit of 0.2 s is one of 0.3 s for a step."""
    monkeypatch.setattr(plan_effects, "effect_costs", lambda *given, **asked: (given, asked))
    given, asked = plan_effects.running_effects(running(3, time_per_output_token=limit), "p")
    assert given == ("p", 3)
    assert asked["longest_step"] == longest
    assert (asked["derived"], asked["statistic"]) == (None, "mean")
    assert asked["allowed"](np.array([1, 2, 3])).tolist() == [True, True, True]
    plan = running(2, target="vllm-afd-plugin", ffn_devices=1)
    _, asked = plan_effects.running_effects(plan, "p")
    rule = find_target("vllm-afd-plugin")
    workers = np.arange(1, 9)
    wanted = rule.allows(workers, 1, 1, 1)
    assert asked["allowed"](workers).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("restricts", "executions", "both"),
    [
        (False, ["synchronous"], True), (True, ["synchronous"], False),
        (True, ["synchronous", "barrier-free"], True), (True, ["barrier-free"], True),
    ],
)  # fmt: skip
def test_a_system_has_both_modes_if_any_version_does(monkeypatch, restricts, executions, both):
    found = [SimpleNamespace(execution=one) for one in executions]
    monkeypatch.setattr("afdplan.planning.plan_modes.versions", lambda name: found)
    assert has_both_modes(SimpleNamespace(restricts=restricts, name="x")) is both


@pytest.mark.parametrize(
    ("trace", "duration", "asked"), [("t", 60.0, True), (None, 60.0, False), ("t", None, False)]
)
def test_windows_are_answered_where_a_trace_and_their_length_are_given(
    monkeypatch, trace, duration, asked
):
    told = []
    monkeypatch.setattr(
        "afdplan.planning.ratio_day.ratio_day", lambda *given, **_: told.append(given) or "day"
    )
    workload = SimpleNamespace(trace=trace)
    question = SimpleNamespace(workload=workload, window_duration=duration, problem="p")

    class Bar:
        def __enter__(self):
            return None

        def __exit__(self, *_):
            return None

    assert ratio_answer._day(question, None, lambda _: Bar()) == ("day" if asked else None)
    assert told == ([("p", "t", 60.0)] if asked else [])


def test_what_stands_around_a_ratio_is_asked_for():
    question = RatioQuestion(problem=None, workload=None, choice=None)
    assert (question.has_around, question.played, question.window_duration) == (False, None, None)


@pytest.mark.parametrize(("limit", "longest"), [(None, None), (0.2, 0.2 * 1.5)])
def test_effects_of_a_plan_keep_its_limit(monkeypatch, limit, longest):
    monkeypatch.setattr(plan_effects, "effect_costs", lambda *given, **asked: (given, asked))
    design = SimpleNamespace(
        attention_workers=3, ffn_workers=2, batch_size=8, attention_devices=4, ffn_devices=1
    )
    target = SimpleNamespace(allows=lambda workers, *of: (workers, of))
    plan = SimpleNamespace(
        split=SimpleNamespace(design=design),
        limits=SimpleNamespace(time_per_output_token=limit, statistic="p99"),
        space=SimpleNamespace(target=target), latency=SimpleNamespace(tokens_per_step=1.5),
    )  # fmt: skip
    given, asked = plan_effects.plan_effects(plan, None, "p")
    assert given == ("p", 3)
    assert (asked["longest_step"], asked["statistic"]) == (longest, "p99")
    assert asked["derived"] is None
    assert asked["allowed"](5) == (5, (2, 4, 1))
