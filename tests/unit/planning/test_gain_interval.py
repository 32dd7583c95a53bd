"""Between which gains a split's may lie, and what is warned of, worked by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.planning import verdict, verdict_error
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.limits import Limits
from afdplan.planning.verdict_error import GainInterval, _attention, _log_gain, gain_interval

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")


def unsplit(ranks=4, devices=2, step=0.02, score=100.0):
    return SimpleNamespace(
        ranks=ranks, devices_per_rank=devices, score=score, tokens_per_second=score,
        step_time=SimpleNamespace(mean=step),
    )  # fmt: skip


def test_errors_of_parts_add_as_squares(monkeypatch):
    """One part weighs twice on the un-split side, one as much less, waiting a fifth."""
    weights = {"attention": 2.0, "links": -1.0, "waiting": 0.2, "nothing": 0.0}
    monkeypatch.setattr(
        verdict_error, "part_errors", lambda _: {"attention": 0.1, "links": 0.3, "nothing": 1.0}
    )
    monkeypatch.setattr(
        verdict_error, "_log_gain", lambda law, source, *_: 0.7 + source.moved if source else 0.7
    )

    class Source:
        placement, moved = None, 0.0

        def slower(self, part, factor):
            return SimpleNamespace(moved=weights[part] * math.log(factor))

    found = gain_interval(LAW, Source(), None, unsplit(), 0.25)
    assert [name for name, _ in found.parts] == [
        "links", "attention", "waiting", "common", "nothing"
    ]  # fmt: skip
    assert [move for _, move in found.parts] == pytest.approx([0.3, 0.2, 0.1, 0.02, 0.0])
    reach = 1.96 * math.sqrt(0.09 + 0.04 + 0.01 + 0.0004)
    assert found.host_gap == pytest.approx(8 * 0.75e-3)
    assert found.low == pytest.approx(1.25 * math.exp(-reach) - 1)
    assert found.high == pytest.approx(1.25 * math.exp(reach) * (1 + 6e-3 / 0.02) - 1)
    assert found.confidence == 0.95


def test_both_sides_take_the_steps_of_their_own_numbers():
    """The un-split step over that of the split, each at its own batch and tokens per expert."""
    latency = LatencyModel.linear(
        attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
    )
    asked = {}

    def told(name, answer):
        def tell(*given):
            asked[name] = given
            return answer

        return tell

    source = SimpleNamespace(
        latency=told("split", latency),
        colocated=SimpleNamespace(
            latency=told("unsplit", latency), ffn_tokens=told("tokens", 24.0)
        ),
    )
    design = SimpleNamespace(
        attention_devices=2, ffn_workers=3, batch_size=8, microbatches=1,
        bundle=SimpleNamespace(ffn_tokens=64.0),
    )  # fmt: skip
    other = SimpleNamespace(devices_per_rank=2, ranks=4, batch_size=16, two_batch_overlap=False)
    found = _log_gain(LAW, source, SimpleNamespace(design=design), other)
    assert asked == {"split": (2, 3, 8), "unsplit": (2, 4, 16), "tokens": (2, 16)}
    split = 1e-3 + 1e-6 * 8 * 2000 + 2e-3 + 1e-4 * 64 + 2 * (5e-4 + 2e-6 * 8)
    ranks = 1e-3 + 1e-6 * 16 * 2000 + 2e-3 + 1e-4 * 24 + 2 * (5e-4 + 2e-6 * 16)
    assert found == pytest.approx(math.log(ranks / split))


def test_attention_of_layers_that_see_a_window():
    kinds = tuple(
        AttentionLayers(curve=LinearCurve(slope=1e-6, intercept=1e-3), layers=n, context_window=w)
        for n, w in ((6, None), (4, 500))
    )
    found = _attention(LAW, SimpleNamespace(attention=kinds), 8)
    assert found == pytest.approx(6 * (1e-3 + 1e-6 * 16_000) + 4 * (1e-3 + 1e-6 * 4_000))


def judged(monkeypatch, score, *widths, low=0.1, high=0.4, gap=0.0):
    interval = GainInterval(low=low, high=high, confidence=0.95, parts=(), host_gap=gap)
    monkeypatch.setattr(verdict, "gain_interval", lambda *_: interval)
    source = object.__new__(DerivedSource)
    source.placement = SimpleNamespace(architecture=SimpleNamespace(experts=8), link="scale-up")
    best = SimpleNamespace(score=score)
    return verdict.judge(LAW, source, best, widths, Limits(devices=8), None)


def test_an_interval_decides_by_its_ends(monkeypatch):
    for low, high, split in ((1e-9, 0.2, "yes"), (0.0, 0.2, "even"), (-0.2, 0.0, "even")):
        assert judged(monkeypatch, 110.0, unsplit(), low=low, high=high).split == split
    assert judged(monkeypatch, 90.0, unsplit(), low=-0.2, high=-1e-9).split == "no"
    even = judged(monkeypatch, 100.0, unsplit(), low=-0.2, high=0.2).reasons[0]
    assert "0.00 % better than" in even
    assert "(between 20.0 % worse and 20.0 % better)" in even


@pytest.mark.parametrize(("gap", "told"), [(0.99e-3, False), (1.01e-3, True)])
def test_what_a_host_may_lose_is_told_from_a_twentieth_of_a_step(monkeypatch, gap, told):
    reasons = judged(monkeypatch, 120.0, unsplit(step=0.02), gap=gap).reasons
    assert (len(reasons) == 2) is told
    assert not told or reasons[1].startswith("the upper end holds 1 ms per step that a host")


@pytest.mark.parametrize(
    ("score", "narrow", "words"),
    [
        (120.0, 80.0, "baseline of 8 devices the split would seem 50 % better"),
        (80.0, 80.0, "the split would seem 0 % better"),
        (79.2, 80.0, "the split would seem 1 % worse"),
        (104.0, 99.0, "the split would seem 5 % better"),
        (104.0, 99.1, ""),
    ],
)
def test_a_narrow_baseline_is_told_where_it_flatters(monkeypatch, score, narrow, words):
    wide = 100.0 if score != 104.0 else 104.0
    widths = unsplit(4, 2, score=narrow), unsplit(16, 1, score=wide)
    found = judged(monkeypatch, score, *widths)
    assert found.narrow_gain == pytest.approx(score / narrow - 1)
    assert [words in reason for reason in found.reasons[1:]] == [True] * bool(words)
