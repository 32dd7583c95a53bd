"""Does a plan still stand? Every number of the answer by sums, every bound on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.files.plan_file import PlanFile
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.check import _standing, check_plan, regret_of_keeping
from afdplan.planning.replan import stored_source

LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3),
    ffn=(1e-4, 2e-3),
    transfer=(2e-6, 5e-4),
    layers=10,
    time_unit="s",
    step_overhead=0.01,
    tokens_per_step=1.5,
)
PLAN = PlanFile(
    bundles=1,
    bundle=Bundle(attention_workers=2, ffn_workers=1, batch_size=8, microbatches=1),
    attention_devices=1,
    ffn_devices=4,
    latency=LATENCY,
    step_time_mean=0.3,
    step_time_p99=0.3,
    tokens_per_second=1.0,
    mean_prompt_tokens=1600.0,
    mean_decode_tokens=1.0,
    mean_token_load=1600.0,
    time_per_output_token=None,
    statistic="mean",
    overflow_probability=1e-3,
    cache_capacity=None,
    cache_kinds=(),
    planned_regret=0.0,
    model="",
    target="",
    target_version=None,
    unsplit=None,
    recommends_unsplit=False,
    afdplan_version="0",
    inputs={},
)
FIXED = {"batch_sizes": [8], "microbatches": [1], "ffn_workers": [1]}


def law(tokens=2000):
    return IndependentLengths(prompt=f"fixed:{tokens}", decode="fixed:1")


def step(workers, tokens=2000):
    """Ten layers of fixed requests, one after the other, for one token and a half [s]."""
    a, f, c = 1e-3 + 1e-6 * 8 * tokens, 2e-3 + 1e-4 * 8 * workers, 5e-4 + 2e-6 * 8
    return 0.01 + 10 * (a + f + 2 * c)


def scores(workers, ffn_cost=1.0, tokens=2000):
    return workers / step(workers, tokens) / (workers + 4 * ffn_cost)


def running(attention_workers=2, **changes):
    return replace(
        PLAN, bundle=replace(PLAN.bundle, attention_workers=attention_workers), **changes
    )


def test_what_keeping_a_costs_by_hand():
    every = np.arange(1, 17)
    best = int(every[np.argmax(scores(every))])
    lost = 1 - scores(2) / scores(best)
    found = check_plan(PLAN, law())
    assert best not in (1, 2, 16)
    assert found.best_attention_workers == best
    assert found.regret == pytest.approx(lost)
    assert regret_of_keeping(PLAN, law()) == pytest.approx(lost)
    assert found.step_time == pytest.approx(step(2))
    assert found.time_per_output_token == pytest.approx(step(2) / 1.5)
    assert (found.mean_token_load, found.planned_token_load) == (2000.0, 1600.0)
    assert (found.measured_step_time, found.memory_overflow_probability) == (None, 0.0)
    assert (found.standing, found.replanned, found.replan_regret) == ("replan", None, None)
    assert (
        f"{best} attention workers would now be better than 2: {lost:.1%}"[:-1] in found.reasons[0]
    )
    assert "the plan was not made again" in found.notes[0]
    # What was lost when it was planned is no change; what is left is told where it stands.
    same = check_plan(replace(PLAN, planned_regret=lost - 0.02), law())
    assert (same.standing, same.regret) == ("stands", pytest.approx(0.02))
    assert same.reasons == (
        "the mean token load changed by +25.0 %; keeping 2 attention workers loses 2.0 %",
    )
    assert check_plan(replace(PLAN, planned_regret=0.9), law()).regret == 0.0


@pytest.mark.parametrize(("ours", "most"), [(2, 16), (3, 16), (5, 20), (40, 160), (200, 800)])
def test_other_a_are_looked_at_up_to_four_times_ours(ours, most):
    """So dear an FFN device, and so quick, that more attention workers are always better."""
    dear = replace(
        running(ours, inputs={"ffn_cost": 1e6, "per": "currency"}),
        latency=LATENCY.with_coefficients({"ffn.slope": 1e-9}),
    )
    found = check_plan(dear, law())
    assert found.best_attention_workers == most


@pytest.mark.parametrize("most", [1, 3, 4])
@pytest.mark.parametrize("dear", [1.0, 100.0])
def test_another_a_counts_only_within_the_time(most, dear):
    """Ours is kept where it is too slow already: others may be no slower than it is."""
    limit = step(most) * (1 + 1e-12) / 1.5
    cost = {"ffn_cost": dear, "per": "currency"}
    found = check_plan(running(time_per_output_token=limit, inputs=cost), law())
    assert found.best_attention_workers == max(most, 2)
    lost = 1 - scores(2, dear) / scores(max(most, 2), dear)
    assert found.regret == pytest.approx(lost, abs=1e-12)


@pytest.mark.parametrize(("over", "standing"), [(1.0201, "replan"), (1.0199, "stands")])
def test_two_percent_over_the_time_is_too_much(over, standing):
    limit = step(2) / 1.5 / over
    found = check_plan(running(time_per_output_token=limit, planned_regret=1.0), law())
    assert found.standing == standing
    if standing == "replan":
        assert found.reasons == (
            f"time per output token (mean) is {step(2) / 1.5e-3:.4g} ms, beyond the limit of "
            f"{limit * 1e3:.4g} ms",
        )


def test_a_plan_falls_only_if_it_falls_at_both_ends():
    """At 5 % less load the step is 4 % shorter."""
    limit = step(2, 1900) / 1.5 / 1.01
    plan = running(time_per_output_token=limit, planned_regret=1.0)
    assert step(2) / 1.5 / limit > 1.02
    sure = Estimate(value=2000.0, low=1990.0, high=2010.0, confidence=0.95, method="x")
    wide = Estimate(value=2000.0, low=1900.0, high=2100.0, confidence=0.95, method="x")
    assert check_plan(plan, law()).standing == "replan"
    assert check_plan(plan, law(), token_load=sure).standing == "replan"
    assert check_plan(plan, law(), token_load=Estimate.exact(2000.0)).standing == "replan"
    found = check_plan(plan, law(), token_load=wide)
    assert found.standing == "stands"
    assert found.time_per_output_token == pytest.approx(step(2) / 1.5)  # of the load itself
    # Of regrets, too, the least counts.
    lost = [
        1 - scores(2, tokens=t) / scores(np.arange(1, 17), tokens=t).max() for t in (1900, 2100)
    ]
    found = check_plan(PLAN, law(), token_load=wide)
    assert found.regret == pytest.approx(min(lost))


@pytest.mark.parametrize(
    ("measured", "standing", "again", "words"),
    [
        (1.101, "replan", "replan", "10 % slower"),
        (1.099, "stands", "replan", ""),
        (1.069, "stands", "stands", ""),
        (0.931, "stands", "stands", ""),
        (0.929, "stands", "replan", ""),
        (0.899, "replan", "replan", "10 % faster"),
    ],
)
def test_measured_steps_are_held_against_the_model(measured, standing, again, words):
    plan = running(planned_regret=1.0)
    seconds = measured * step(2) / 1.5  # a server tells the time per token
    found = check_plan(plan, law(), measured_step_time=seconds)
    assert found.standing == standing
    assert found.measured_step_time == pytest.approx(measured * step(2))
    assert words in found.reasons[0]
    fallen = check_plan(plan, law(), measured_step_time=seconds, previous="replan")
    assert fallen.standing == again
    if again == "replan" and standing == "stands":
        assert fallen.reasons == ("it fell before and is not well inside the bounds again",)


@pytest.mark.parametrize(("lost", "standing"), [(0.0149, "stands"), (0.0151, "replan")])
def test_a_fallen_plan_stands_again_below_half_the_regret(lost, standing):
    now = regret_of_keeping(PLAN, law())
    plan = replace(PLAN, planned_regret=now - lost)
    assert check_plan(plan, law(), previous="replan").standing == standing
    assert check_plan(plan, law(), previous="watch").standing == "stands"


@pytest.mark.parametrize(("lost", "standing"), [(0.0299, "stands"), (0.0301, "replan")])
def test_three_percent_of_regret_are_too_much(lost, standing):
    plan = replace(PLAN, planned_regret=regret_of_keeping(PLAN, law()) - lost)
    assert check_plan(plan, law()).standing == standing


@pytest.mark.parametrize("over", [1.0001, 0.9999])
def test_a_fallen_plan_stands_again_only_within_its_time(over):
    plan = running(time_per_output_token=step(2) / 1.5 / over, planned_regret=1.0)
    found = check_plan(plan, law(), previous="replan")
    assert found.standing == ("replan" if over > 1 else "stands")


@pytest.mark.parametrize(
    ("allowed", "standing", "again"),
    [(0.49, "replan", "replan"), (0.51, "stands", "replan"), (1.01, "stands", "stands")],
)
def test_twice_the_allowed_overflow_is_too_much(allowed, standing, again):
    """Eight slots, prompts of 1 to 4,000 tokens: room for some of them."""
    wide = IndependentLengths(prompt="uniform:1..4000", decode="fixed:1")
    plan = running(cache_capacity=20_000.0, cache_kinds=((1.0, None),), planned_regret=1.0)
    found = check_plan(plan, wide)
    chance = found.memory_overflow_probability
    # A sum of eight: mean 16,004, deviation 3,266; a normal has 11 % beyond.
    assert chance == pytest.approx(0.11, abs=0.01)
    plan = replace(plan, overflow_probability=allowed * chance)
    found = check_plan(plan, wide)
    assert found.standing == standing
    assert check_plan(plan, wide, previous="replan").standing == again
    if standing == "replan":
        assert found.reasons == (
            f"KV memory overflows with probability {chance:.2g} per worker and step, the plan "
            f"allows {allowed * chance:g}: lower the batch size",
        )


def test_no_overflow_is_allowed_where_none_was():
    plan = running(cache_capacity=8 * 2000.0, cache_kinds=((1.0, None),), planned_regret=1.0)
    plan = replace(plan, overflow_probability=0.0)
    assert check_plan(plan, law()).standing == "stands"
    assert check_plan(plan, law(2001)).standing == "replan"


@pytest.mark.parametrize(
    ("previous", "beyond", "inside", "standing"),
    [
        (None, True, False, "replan"),
        (None, False, False, "stands"),
        ("stands", True, False, "watch"),
        ("watch", True, False, "replan"),
        ("replan", True, False, "replan"),
        ("replan", False, False, "replan"),
        ("replan", False, True, "stands"),
        ("watch", False, False, "stands"),
        ("stands", False, False, "stands"),
    ],
)
def test_one_check_beyond_is_watched_and_two_are_a_fall(previous, beyond, inside, standing):
    assert _standing(beyond=beyond, inside=inside, previous=previous) == standing


def test_planned_again_by_hand():
    """Of 16 devices: bundles of A and 4 devices each, idle ones paid for, steps of sums."""
    plan = running(inputs=FIXED | {"devices": 16}, planned_regret=1.0)

    def tokens(a):
        return (16 // (a + 4)) * a * 8 * 1.5 / step(a)

    best = max(range(1, 13), key=tokens)
    ours = 2 * 8 * 1.5 / step(2)
    found = check_plan(plan, law())
    assert (best, found.replanned.best.design.attention_workers) == (12, 12)
    assert found.replanned.kept.score == pytest.approx(ours / 16)
    assert found.replanned.best.score == pytest.approx(tokens(best) / 16)
    gain = tokens(best) / ours - 1
    assert found.replan_regret == pytest.approx(1 - ours / tokens(best))
    assert found.standing == "replan"
    assert f"would give {gain:.1%} more".replace("%", " %") in found.reasons[0]
    assert "on 16 devices" in found.reasons[0]
    given_up = 1 - ours / tokens(best) - 0.01
    kept = check_plan(replace(plan, planned_replan_regret=given_up), law())
    assert (kept.standing, kept.replan_regret) == ("stands", pytest.approx(0.01))
    regret = f"{1 - ours / tokens(best):.1%}".replace("%", " %")
    assert f"keeping the design loses {regret} against planning again" in kept.reasons[0]
    assert f"of which {given_up:.1%}".replace("%", " %") in kept.reasons[0]


def test_a_rate_that_is_missed_and_limits_that_nothing_meets():
    able = 2 * 8 * 1.5 / step(2)  # requests of one token
    asked = FIXED | {"devices": 16}
    for rate, standing in ((able * 1.001, "replan"), (able * 0.999, "stands")):
        plan = running(inputs=asked | {"rate": rate}, planned_regret=1.0, planned_replan_regret=1.0)
        found = check_plan(plan, law())
        assert found.standing == standing
        if standing == "replan":
            assert found.reasons == (
                f"it finishes {able:,.4g} requests/s at most, {rate:,.4g} were asked for",
            )
    plan = running(inputs=asked | {"rate": 1e6}, planned_regret=1.0)
    found = check_plan(plan, law())
    assert found.replanned.best is None
    assert "no design meets the limits" in found.reasons[0]


@pytest.mark.parametrize("recommends", [False, True])
def test_only_of_a_plan_that_is_not_to_be_split_is_said_what_is_checked(recommends):
    notes = check_plan(replace(PLAN, recommends_unsplit=recommends), law()).notes
    assert any("what is checked is its best split" in note for note in notes) is recommends


def test_a_load_of_nothing_has_no_ends():
    """Its interval is no factor of it."""
    none = Estimate(value=0.0, low=0.0, high=5.0, confidence=0.95, method="x")
    assert check_plan(PLAN, law(), token_load=none) == check_plan(PLAN, law())


def test_a_plan_without_its_unsplit_deployment_is_checked_as_its_split():
    plan = running(inputs=FIXED | {"devices": 16}, recommends_unsplit=True)
    found = check_plan(plan, law())
    assert found.best_attention_workers is not None
    assert "the plan recommends not to split: what is checked is its best split" in found.notes


def test_what_a_plan_file_lacks_of_its_derivation_is_named():
    notes = stored_source(running(inputs={"model": "m", "attention_devices": None}))[1]
    assert len(notes) == 1
    assert notes[0].startswith("the plan file does not keep hardware: other numbers of FFN workers")
