"""What limits leave, by hand; and what slots of an attention worker a device holds."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InfeasibleError, InvalidInputError
from afdplan.planning import memory_limit as memories
from afdplan.planning.held import breaches
from afdplan.planning.limits import TIE, Limits, limited, percentile
from afdplan.planning.memory_limit import MemoryLimit, require_memory


def test_devices_that_are_paid_for_though_idle():
    limits = Limits(devices=10, optional_devices=3)
    assert limits.idle_devices(np.array([5, 6, 7, 8])).tolist() == [2, 1, 0, 0]
    assert limits.idle_devices(5) == 2
    for free in (
        Limits(devices=10, requests_per_second=1.0), Limits(devices=10, most_cost=1.0),
        Limits(most_cost=1.0), Limits(requests_per_second=1.0),
    ):  # fmt: skip
        assert free.idle_devices(np.array([5, 6])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("attention", "ffn", "unit"), [(3, 4, 8), (2, 4, 4), (8, 8, 1), (6, 0, 4), (0, 0, 1), (1, 8, 8)]
)
def test_bundles_that_fill_nodes_of_eight(attention, ffn, unit):
    assert Limits(devices=64, node_devices=8).bundle_unit(attention, ffn) == unit
    assert Limits(devices=64).bundle_unit(attention, ffn) == 1


def test_what_a_margin_takes_off():
    limits = Limits(
        devices=21, requests_per_second=8.0, time_per_output_token=0.1, margin=0.25, statistic="p95"
    )
    assert limits.wanted_rate == 10.0
    assert Limits(devices=1).wanted_rate is None
    most = 0.1 * (1 - 0.25) * (1 + TIE)
    assert limits.longest_step() == most
    assert limits.longest_step(2.0) == pytest.approx(2 * most, rel=1e-15)
    assert limits.meets(np.array([most, most * (1 + 1e-12)])).tolist() == [True, False]
    assert Limits(devices=1).longest_step() == math.inf
    assert bool(Limits(devices=1).meets(1e9))
    assert (limits.probabilities, percentile("p50"), percentile("mean")) == ((0.95,), (0.5,), ())


def test_limits_in_words():
    full = Limits(
        devices=1, most_cost=2500.0, requests_per_second=1234.5, time_per_output_token=0.0125,
        statistic="p99", overflow_probability=0.001, node_devices=8, margin=0.05,
    )  # fmt: skip
    assert str(full) == (
        "At most 1 device, a cost of at most 2,500, at least 1,234.5 requests/s, at most 12.5 ms "
        "per output token (p99), KV cache short in at most 0.1 % of steps, whole nodes of 8 "
        "devices, 5 % of each limit left free."
    )
    assert str(Limits(devices=2)) == (
        "At most 2 devices, KV cache short in at most 0.1 % of steps."
    )
    assert str(Limits(devices=2, node_devices=2)).endswith(", whole nodes of 2 devices.")


def test_limits_that_make_no_sense():
    with pytest.raises(InvalidInputError, match="a budget or a goal"):
        Limits()
    with pytest.raises(InvalidInputError, match="optional_devices"):
        Limits(devices=3, optional_devices=4)
    assert Limits(devices=3, optional_devices=3).optional_devices == 3
    with pytest.raises(InvalidInputError, match="optional_devices"):
        Limits(requests_per_second=1.0, optional_devices=1)
    with pytest.raises(InvalidInputError, match="most_cost"):
        Limits(most_cost=0.0)


def test_the_statistic_that_was_asked_for():
    times = SimpleNamespace(mean=np.array([1.0]), quantiles=np.array([[2.0, 3.0]]))
    assert limited(times).tolist() == [2.0]
    none = SimpleNamespace(mean=np.array([1.0]), quantiles=np.zeros((1, 0)))
    assert limited(none).tolist() == [1.0]


def found(time=1.0, overflow=0.0, rate=10.0):
    return SimpleNamespace(
        token_time=lambda _: time, held_overflow_probability=overflow, requests_per_second=rate
    )


def test_breaches_are_relative_to_what_is_allowed():
    limits = Limits(
        devices=8, time_per_output_token=1.0, margin=0.25, requests_per_second=8.0,
        overflow_probability=0.01,
    )  # fmt: skip
    slow, full, few = breaches(found(0.9, 0.02, 5.0), "noon", limits)
    assert (slow.value, slow.allowed, slow.excess) == (0.9, 0.75, pytest.approx(0.2))
    assert (full.value, full.allowed, full.excess) == (0.02, 0.01, 0.02)
    assert (few.value, few.allowed, few.excess) == (5.0, 10.0, 0.5)
    assert str(slow) == "noon: 900 ms per output token, 750 ms allowed: 20.0 % too long"
    assert str(few) == "noon: 5 requests/s can be finished, 10 are needed: 50.0 % too few"
    assert list(breaches(found(0.75, 0.01, 10.0 * (1 - TIE)), "noon", limits)) == []
    (just,) = breaches(found(0.75, 0.01, 10.0 * (1 - 3 * TIE)), "noon", limits)
    assert just.limit == "rate"
    (hair,) = breaches(found(0.75 * 1.0005), "noon", limits)
    assert str(hair).endswith("0.0005 of it too long")
    (thousandth,) = breaches(found(0.75 * 1.00101), "noon", limits)
    assert str(thousandth).endswith("0.1 % too long")
    assert list(breaches(found(9.0, 0.001, 0.0), "noon", Limits(devices=8))) == []


@pytest.mark.parametrize(
    ("most", "batch", "m", "words"),
    [
        (10, 5, 2, None), (11, 5, 2, None), (10, 6, 2, "12 requests take 6.0 GB"),
        (10, 6, 2, "the largest batch size that fits is 5"), (1, 1, 2, "none fits"),
        (0, 1, 1, "1 request takes"), (0, 1, 1, "4.0 GB are free"),
    ],
)  # fmt: skip
def test_requests_that_a_device_does_not_hold(monkeypatch, most, batch, m, words):
    asked = []

    def limit(law, memory, requests):
        asked.append(requests)
        return MemoryLimit(
            most_requests=most, overflow_probability=0.001, mean_bytes=5e8 * requests,
            capacity_bytes=4e9,
        )  # fmt: skip

    monkeypatch.setattr(memories, "memory_limit", limit)
    if words is None:
        assert require_memory(None, "a device", batch, m).largest_batch_size(m) == 5
    else:
        with pytest.raises(InfeasibleError, match=words):
            require_memory(None, "a device", batch, m)
    assert asked == [batch * m]
    assert require_memory(None, None, batch, m) is None
    monkeypatch.setattr(memories, "memory_limit", lambda *_: None)
    with pytest.raises(InfeasibleError, match="no memory is left"):
        require_memory(None, "a device", batch, m)


def test_only_a_named_device_bounds_the_slots(monkeypatch):
    asked = []

    def placement(**changes):
        asked.append(changes)
        return SimpleNamespace(memory=lambda: "memory")

    told = {"limit": SimpleNamespace(most_requests=70)}
    monkeypatch.setattr(
        memories, "require_memory", lambda *given: asked.append(given) or told["limit"]
    )
    derived = SimpleNamespace(is_derived=True, placement=placement)
    assert memories.require_fit(derived, "law", 8, 3, 2) == 70
    assert asked == [{"batch_size": 8, "ffn_workers": 3}, ("law", "memory", 8, 2)]
    told["limit"] = None
    assert memories.require_fit(derived, "law", 8, 3, 2) is None
    assert memories.require_fit(SimpleNamespace(is_derived=False), "law", 8, 3, 2) is None
