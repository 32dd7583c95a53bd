"""Designs, limits and verdicts in words, and which of two equals is preferred."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_model
from afdplan.calibration.placement import place
from afdplan.errors import InfeasibleError
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Candidate, Design
from afdplan.planning.fitting import recommend_ratio
from afdplan.planning.limits import Limits
from afdplan.planning.plan import make_plan
from afdplan.planning.plan_grid import plan_grid
from afdplan.planning.search import DesignSearch
from afdplan.planning.service_baselines import _largest
from afdplan.planning.verdict import _percent, _regimes
from afdplan.planning.verdict_error import GainInterval, gain_interval
from tests.unit.planning.test_service_numbers import LAW, LIMITS, SEARCH, TRACE, pool, ranks

DESIGN = Design(
    bundles=1, attention_workers=3, ffn_workers=2, batch_size=8, microbatches=1,
    attention_devices=1, ffn_devices=2,
)  # fmt: skip


def test_designs_in_words_and_numbers():
    assert str(DESIGN) == "(3 attention : 2 FFN), batch 8, 1 microbatch"
    other = replace(DESIGN, bundles=4, microbatches=2, attention_devices=2)
    assert str(other) == "4 x (3 attention : 2 FFN), batch 8 x 2 microbatches, attention TP 2"
    assert (other.devices_by_side, other.bundle_devices, other.devices) == ((24, 16), 10, 40)
    assert (other.slots, other.requests_per_attention_worker) == (192, 16)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(devices=1), "At most 1 device, KV cache short in at most 0.1 % of steps."),
        (
            Limits(requests_per_second=1234.5, time_per_output_token=0.0125, statistic="p99"),
            "At least 1,234.5 requests/s, at most 12.5 ms per output token (p99), KV cache short "
            "in at most 0.1 % of steps.",
        ),
        (
            Limits(devices=16, node_devices=2, margin=0.05, overflow_probability=0.02),
            "At most 16 devices, KV cache short in at most 2 % of steps, whole nodes of 2 devices, "
            "5 % of each limit left free.",
        ),
        (
            Limits(most_cost=1500.0),
            "A cost of at most 1,500, KV cache short in at most 0.1 % of steps.",
        ),
    ],
)
def test_limits_in_words(limits, words):
    assert str(limits) == words


def test_of_equal_scores_the_smaller_design_is_preferred():
    one = Candidate(score=1.0, design=DESIGN)
    assert one.beats(None)
    assert Candidate(score=1.0 + 1e-8, design=replace(DESIGN, bundles=9)).beats(one)
    assert not Candidate(score=1.0 - 1e-8, design=DESIGN).beats(one)
    for changes in (
        {"bundles": 2}, {"batch_size": 9}, {"microbatches": 2},
        {"attention_workers": 5, "ffn_workers": 1},
    ):  # fmt: skip
        other = Candidate(score=1.0 + 1e-10, design=replace(DESIGN, **changes))
        assert one.beats(other), changes
        assert not other.beats(one), changes
    assert not one.beats(one)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.00994, "0.99 %"), (0.009995, "1.0 %"), (0.0123, "1.2 %"), (-0.004, "-0.40 %")],
)
def test_small_shares_have_one_digit_more(value, words):
    assert _percent(value) == words


def test_regimes_in_which_splitting_gains_little():
    law = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
    fine = DerivedSource(place(find_model("deepseek-v3"), find_hardware("h200")))
    for link, experts, words in (
        ("scale-up", 256, None),
        ("scale-out", 256, "256 fine-grained experts over a scale-out network"),
        ("scale-out", 64, "64 fine-grained experts"),
        ("scale-out", 63, None),
        ("scale-out", 0, "dense model: every FFN worker reads all weights"),
    ):
        placement = SimpleNamespace(link=link, architecture=SimpleNamespace(experts=experts))
        source = object.__new__(type(fine))
        source.placement = placement
        found = _regimes(law, source, None, None)
        assert len(found) == (words is not None)
        assert not found or found[0].startswith(words)
    short = IndependentLengths(prompt="fixed:1023", decode="fixed:1")
    edge = IndependentLengths(prompt="fixed:1024", decode="fixed:1")
    source.placement = SimpleNamespace(link="scale-up", architecture=SimpleNamespace(experts=8))
    assert _regimes(short, source, None, None)[0].startswith("short contexts (1,023 tokens")
    assert _regimes(edge, source, None, None) == []


def test_a_host_may_lose_time_of_the_unsplit_side_alone():
    """The interval is even in the logarithm but for what a host may add to the un-split step."""
    source = DerivedSource(place(find_model("qwen3-30b-a3b"), find_hardware("h100")), (1,))
    law = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
    split = SimpleNamespace(
        design=replace(DESIGN, batch_size=64, ffn_devices=1, microbatches=2),
    )
    other = SimpleNamespace(
        ranks=4, devices_per_rank=1, batch_size=64, two_batch_overlap=False,
        step_time=SimpleNamespace(mean=0.02),
    )  # fmt: skip
    found = gain_interval(law, source, split, other, 0.3)
    assert isinstance(found, GainInterval)
    late = 1 + found.host_gap / 0.02
    assert (1 + found.low) * (1 + found.high) == pytest.approx(1.3**2 * late)
    moves = [move for _, move in found.parts]
    assert moves == sorted(moves, reverse=True)
    assert dict(found.parts)["common"] > 0
    wider = gain_interval(law, source, split, replace_namespace(other, ranks=8), 0.3)
    assert wider.host_gap == pytest.approx(2 * found.host_gap)


def replace_namespace(one, **changes):
    return SimpleNamespace(**(vars(one) | changes))


@pytest.mark.parametrize(("chunk", "met"), [(2048, True), (159_000, True), (161_000, False)])
def test_a_percentile_meets_a_pass_of_prompts_unless_they_are_rare(chunk, met):
    """A step of 16 slots and ten tokens takes in 1.6 prompts of 1,000: a pass each 1.6 / chunk."""
    group, prefill = ranks(1), pool(limit=1e4)
    prefill.model = replace(prefill.model, chunk_tokens=chunk)
    limits = replace(LIMITS, statistic="p99")
    search = ColocatedSearch.of(SEARCH)
    needed = search.again(group, limits).step_time.p99 + (1e-3 * chunk if met else 0.0)
    assert needed == pytest.approx(group.step_time.p99 + (1e-3 * chunk if met else 0.0))
    for factor, batch in ((1.001, 8), (0.999, 7)):
        asked = replace(limits, time_per_output_token=factor * needed)
        found = _largest(search, group, prefill, asked)
        assert (found.batch_size if found else 0) <= batch
        assert (found is not None and found.batch_size == 8) is (factor > 1)


def test_one_request_is_the_smallest_batch_of_a_group():
    group, prefill = ranks(), pool(limit=60.0)
    found = {}
    search = ColocatedSearch.of(SEARCH)
    for size in (1, 2):
        plan = search.again(replace(group, batch_size=size), LIMITS)
        rate = plan.requests_per_second
        found[size] = plan.time_per_output_token * (1 + rate)  # 1 / (1 - rate / (1 + rate))
    between = replace(LIMITS, time_per_output_token=(found[1] + found[2]) / 2)
    assert _largest(search, group, prefill, between).batch_size == 1
    below = replace(LIMITS, time_per_output_token=0.999 * found[1])
    assert _largest(search, group, prefill, below) is None


@pytest.mark.parametrize("judged", [True, False])
def test_a_plan_says_what_arrives_unless_it_is_part_of_a_service(judged):
    """Forty requests in 79 s, of ten tokens: a thousandth of what 30 devices finish."""
    plan = make_plan(
        LAW, SEARCH.source, Limits(devices=30), space=SEARCH.space, trace=TRACE,
        judges_supply=judged,
    )  # fmt: skip
    assert bool(plan.supply) is judged
    assert plan.spare.arrival_rate == pytest.approx(39 / TRACE.duration)


def test_what_does_not_fit_a_device_is_refused_before_it_is_solved():
    law = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
    latency = derived_model("deepseek-v3", "h200").latency
    with pytest.raises(InfeasibleError, match="largest batch size that fits is"):
        recommend_ratio(law, latency, batch_size=1_000_000)


def test_other_batches_of_a_plan_have_the_best_a_beside_its_own_ffn_workers():
    limits = Limits(devices=24)
    space = replace(SEARCH.space, batch_sizes=(4, 8, 16), microbatches=(1, 2))
    plan = make_plan(LAW, SEARCH.source, limits, space=space)
    search = DesignSearch(LAW, SEARCH.source, space, plan.cost)
    shown = []
    cases = list(plan_grid(plan, shown.append))
    assert len(cases) == 6
    assert shown == [(k + 1) / 6 for k in range(6)]
    own = plan.split.design
    for case in cases:
        inside = replace(space, batch_sizes=(case.batch_size,), microbatches=(case.microbatches,))
        alike = search.best(limits, replace(inside, ffn_workers=(own.ffn_workers,)))
        assert case.attention_workers == alike.design.attention_workers
        assert case.best.design == search.best(limits, inside).design
        assert case.reason == ""
