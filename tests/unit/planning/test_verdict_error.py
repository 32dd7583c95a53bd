from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived_error import with_factor
from afdplan.calibration.placement import place
from afdplan.lengths.law import IndependentLengths
from afdplan.planning import verdict
from afdplan.planning.derived_source import DerivedSource, exchange_wait
from afdplan.planning.limits import Limits
from afdplan.planning.plan import make_plan
from afdplan.planning.space import SearchSpace

CONTEXT = IndependentLengths(prompt="fixed:8192", decode="fixed:1")
SMALL = SearchSpace(batch_sizes=(48,), microbatches=(2,), ffn_workers=(4,))
RACK = Limits(devices=32, time_per_output_token=0.06, node_devices=4)


def source(**options):
    placement = place(find_model("qwen3-235b-a22b-fp8"), find_hardware("gb200"), **options)
    return DerivedSource(placement, attention_devices=(1,))


@pytest.fixture(scope="module")
def plan():
    return make_plan(CONTEXT, source(serving_system="fastafd"), RACK, space=SMALL)


@pytest.mark.parametrize("ranks", [2, 8, 64])
def test_the_wait_is_that_of_drawn_late_ranks(ranks):
    draws = np.random.default_rng(1).pareto(2.0, size=(200_000, ranks)) + 1
    # The largest of a law with infinite variance: its median of means over blocks.
    blocks = draws.max(axis=1).reshape(100, -1).mean(axis=1)
    drawn = 7.0e-6 * (np.median(blocks) - 2.0)
    assert exchange_wait(ranks) == pytest.approx(drawn, rel=0.05)


def test_unsplit_ranks_wait_in_their_transfers_and_split_ones_do_not():
    one = source(serving_system="vllm-afd-plugin")
    for ranks in (4, 16):
        plain = DerivedSource(with_factor(one.placement, "waiting", 1e-9), (1,)).colocated
        late, early = (s.latency(1, ranks, 64) for s in (one.colocated, plain))
        for way in ("send", "receive"):
            wait = getattr(late, way).time(64, 64) - getattr(early, way).time(64, 64)
            assert wait == pytest.approx(exchange_wait(ranks) / 2)
        # Separate kernels, whatever the split system fuses.
        assert early.send.time(64, 64) > 0
    assert one.latency(1, 4, 64).send.time(64, 64) == 0


def test_what_both_sides_share_cancels_and_waiting_does_not(plan):
    moves = dict(plan.verdict.interval.parts)
    assert moves["waiting"] > 1.5 * moves["attention"] > 0
    assert list(moves.values()) == sorted(moves.values(), reverse=True)
    low, high, gain = plan.verdict.interval.low, plan.verdict.interval.high, plan.verdict.gain
    assert low < gain < high
    reach = 1.96 * np.sqrt(sum(move**2 for move in moves.values()))
    assert np.log((1 + gain) / (1 + low)) == pytest.approx(reach)
    late = 1 + plan.verdict.interval.host_gap / plan.best_colocated.step_time.mean
    assert np.log((1 + high) / (1 + gain)) == pytest.approx(reach + np.log(late))


def test_the_verdict_is_that_of_its_interval(plan):
    interval = plan.verdict.interval
    expected = "even" if interval.low < 0 < interval.high else "yes" if interval.low > 0 else "no"
    assert plan.verdict.split == expected
    # Half as fast a split: no doubt any more.
    slow = source(serving_system="fastafd")
    slow = slow.of(with_factor(slow.placement, "experts", 4.0))
    worse = make_plan(CONTEXT, slow, Limits(devices=32, node_devices=4), space=SMALL)
    assert worse.verdict.gain < plan.verdict.gain


def test_the_words_tell_the_interval_in_the_sense_of_their_sentence(plan):
    def told(gain, low, high):
        found = replace(plan.verdict.interval, low=low, high=high)
        best = replace(plan.split, score=(1 + gain) * plan.best_colocated.score)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(verdict, "gain_interval", lambda *_: found)
            asked = (plan.requests, plan.source, best, plan.colocated, plan.limits, plan.latency)
            return verdict.judge(*asked).reasons[0]

    assert "23.0 % cheaper per token (between 0.34 % and 29.3 %)" in told(-0.23, -0.293, -0.0034)
    assert (
        "3.0 % worse than the best un-split deployment (between 10.0 % worse and 5.0 % better)"
        in (told(-0.03, -0.1, 0.05))
    )
    assert "split: 20.0 % more than the best un-split deployment (between 5.0 % and 40.0 %)" in (
        told(0.2, 0.05, 0.4)
    )


def test_a_verdict_that_cannot_tell_says_so_and_keeps_the_unsplit():
    space = SearchSpace(batch_sizes=(44, 88), microbatches=(1, 2), ffn_workers=(4,))
    unsure = make_plan(CONTEXT, source(serving_system="fastafd"), RACK, space=space)
    interval = unsure.verdict.interval
    assert interval.low < 0 < interval.high
    assert unsure.verdict.split == "even"
    assert unsure.verdict.reasons[0].startswith("do not split unless a measurement")
    assert unsure.kind == "un-split"
