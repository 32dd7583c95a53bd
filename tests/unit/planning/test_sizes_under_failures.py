"""Which bundle sizes are tried where devices fail, by hand; and rooms that several share."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from afdplan.calibration.memory import CacheKind
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning import failure_plan as failures
from afdplan.planning.cache_memory import CacheSpace
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.worker_memories import WorkerMemories


class Sizes:
    """Bundles of one FFN worker and so many devices as there may be, up to 12, and their scores."""

    law = SimpleNamespace(mean_decode_tokens=10.0)

    def __init__(self, scores):
        self.space, self.scores, self.asked = SearchSpace(batch_sizes=(8,)), scores, []

    def best(self, limits, space):
        most = min(space.max_bundle_devices or 12, 12)
        self.asked.append((space.max_bundle_devices, limits.requests_per_second))
        if most not in self.scores:
            return None
        design = Design(
            bundles=1, attention_workers=most - 1, ffn_workers=1, batch_size=8, microbatches=1
        )
        rate = limits.requests_per_second or 0.0
        return Found(
            design=design, score=self.scores[most], requests_per_second=rate, cost=5 + rate
        )


class Found(SimpleNamespace):
    """A plan."""


@pytest.fixture(autouse=True)
def shares(monkeypatch):
    """A bundle of n devices keeps 1 - n / 100 of its tokens."""
    monkeypatch.setattr(failures, "_under", lambda plan, *_: SimpleNamespace(
        share=1 - plan.design.bundle_devices / 100
    ))  # fmt: skip
    monkeypatch.setattr(
        failures, "replace", lambda one, **changes: Found(**{**vars(one), **changes})
        if isinstance(one, Found) else replace(one, **changes)
    )  # fmt: skip


def test_sizes_are_tried_until_smaller_ones_cannot_be_better():
    """Twelve devices keep 88 of 100; eleven score 99 and keep 88.1; ten score 88: too little."""
    search = Sizes({12: 100.0, 11: 99.0, 10: 88.0})
    found = failures.bundle_choice(search, Limits(devices=40), None)
    assert [(one.most_devices, one.share) for one in found] == [(12, 0.88), (11, 0.89)]
    assert [one.expected_score for one in found] == pytest.approx([88.0, 88.11])
    assert [most for most, _ in search.asked] == [None, 11, 10]
    # What is better by a ten-thousandth is still looked for, what is not is not.
    for score, many in ((88.11 * (1 + 1.1e-4), 3), (88.11 * (1 + 0.9e-4), 2)):
        search = Sizes({12: 100.0, 11: 99.0, 10: score})
        assert len(failures.bundle_choice(search, Limits(devices=40), None)) == many
    small = Sizes(dict.fromkeys(range(1, 13), 100.0))
    found = failures.bundle_choice(small, Limits(devices=40), None)
    assert [one.most_devices for one in found] == list(range(12, 1, -1))
    assert failures.bundle_choice(Sizes({}), Limits(devices=40), None) == ()


def test_only_devices_that_are_said_take_the_same_spares(monkeypatch):
    asked = []

    def under(plan, law, often, limits, others):
        asked.append(others)
        return SimpleNamespace(share=0.5)

    monkeypatch.setattr(failures, "_under", under)
    failures.bundle_choice(Sizes({12: 1.0}), Limits(devices=40), None)
    failures.bundle_choice(Sizes({12: 1.0}), Limits(devices=40), None, 7)
    assert asked == [0, 7]


def test_no_more_sizes_than_a_page_are_tried(monkeypatch):
    monkeypatch.setattr(failures, "MOST_SIZES", 3)
    found = failures.bundle_choice(Sizes(dict.fromkeys(range(13), 100.0)), Limits(devices=9), None)
    assert len(found) == 3


def test_a_rate_is_asked_for_once_more_over_what_is_left():
    """Twelve devices leave 0.88 of 4 requests/s: 4 / 0.88 are planned, which is enough."""
    search = Sizes({12: 100.0})
    (one,) = failures.bundle_choice(search, Limits(requests_per_second=4.0), None)
    assert [rate for _, rate in search.asked[:2]] == [4.0, pytest.approx(4 / 0.88)]
    assert one.plan.score == pytest.approx(4 * 10 / (5 + 4 / 0.88) / 0.88)
    assert one.expected_score == pytest.approx(4 * 10 / (5 + 4 / 0.88))
    assert len(search.asked) == 3

    class Short(Sizes):
        def best(self, limits, space):
            found = super().best(limits, space)
            if found:
                found.requests_per_second = 1.0
            return found

    search = Short({12: 100.0})
    (one,) = failures.bundle_choice(search, Limits(requests_per_second=4.0), None)
    assert len([most for most, _ in search.asked if most is None]) == 5

    class Never(Sizes):
        def best(self, limits, space):
            return super().best(limits, space) if limits.requests_per_second == 4.0 else None

    assert failures.bundle_choice(Never({12: 1.0}), Limits(requests_per_second=4.0), None) == ()


def test_rooms_of_like_kinds_have_one_law():
    law = IndependentLengths(prompt="fixed:1000", decode="fixed:1")
    model = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3))
    source = MeasuredSource(model, kv_tokens=10_500.0)
    memories, limits = WorkerMemories(law, source), Limits(devices=8)
    assert memories.most_requests(1, 99, limits) == 10
    assert memories.most_requests(1, 7, limits) == 7
    assert memories.most_requests(1, 99, Limits(devices=8, margin=0.1)) == 9
    assert memories.of_worker(1) is memories.of_worker(1)
    twice = memories.scaled(2.0)
    assert twice.most_requests(1, 99, limits) == 21
    assert twice.scaled(0.25).most_requests(1, 99, limits) == 5
    heavy = WorkerMemories(law, source, load_factor=2.0)
    assert heavy.most_requests(1, 99, limits) == 5
    assert heavy.scaled(2.0).most_requests(1, 99, limits) == 10
    free = WorkerMemories(law, MeasuredSource(model))
    assert free.of_worker(1) is None
    assert free.most_requests(1, 99, limits) == math.inf
    two = CacheSpace(capacity=30_000.0, kinds=(CacheKind(2.0, None), CacheKind(1.0, 500)))
    again = CacheSpace(capacity=9.0, kinds=(CacheKind(4.0, None), CacheKind(2.0, 500)))
    other = CacheSpace(capacity=9.0, kinds=(CacheKind(4.0, None), CacheKind(2.001, 500)))
    first = memories.of_space(two)
    assert memories.of_space(again)._sums is first._sums
    assert memories.of_space(other)._sums is not first._sums
    assert first.capacity_tokens == 10_000.0
    assert heavy.of_space(two).capacity_tokens == 5_000.0
    assert first.mean_fraction(2) == pytest.approx(2 * (2 * 1000 + 500) / 30_000)


@pytest.mark.parametrize(
    ("ffn_devices", "attention", "most", "widths"),
    [(4, 1, 16, (4, 8, 16)), (4, 2, 16, (2, 4, 8)), (3, 1, 16, (3,)), (3, 2, 16, (1,)),
     (8, 1, 7, ()), (1, 2, 7, (1, 2)), (6, 4, 4, (1,)), (6, 4, 3, ())],
)  # fmt: skip
def test_widths_of_measured_ranks(ffn_devices, attention, most, widths):
    """Doubled ranks on whole FFN workers; else as many as one of these has the devices for."""
    model = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3))
    source = MeasuredSource(model, attention_devices=attention, ffn_devices=ffn_devices)
    assert source.colocated.widths(attention, most) == widths
    assert source.colocated.ffn_tokens(attention, 8) == 8 * ffn_devices / attention
    assert source.ffn_workers(4) == (1, 2, 3, 4)
    assert source.least_device_ratio == 0.0
    assert source.shares_ffn_times
    assert source.shares_ffn_latency


def test_rooms_of_measured_ranks():
    model = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3))
    both = MeasuredSource(model, kv_tokens=9.0, colocated_kv_tokens=4.0).sharing(0.5)
    assert both.cache(1).kinds[0].bytes_per_token == 0.5
    assert (both.cache(1).capacity, both.colocated.cache(1, 2).capacity) == (9.0, 4.0)
    assert both.colocated.cache(1, 2).kinds[0].bytes_per_token == 0.5
    told = [len(MeasuredSource(model, **given).assumptions) for given in (
        {}, {"kv_tokens": 9.0}, {"kv_tokens": 9.0, "colocated_kv_tokens": 4.0},
    )]  # fmt: skip
    assert (told[0] - told[2], told[1] - told[2]) == (1, 1)
    assert MeasuredSource(model).sharing(0.5).cache(1) is None
    assert MeasuredSource(model).colocated.sharing(0.5).cache(1, 1) is None
