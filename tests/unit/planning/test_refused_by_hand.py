"""What conflicts, told by hand: searches whose answers are sums of round numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from afdplan.planning import infeasible
from afdplan.planning.infeasible import _Way
from afdplan.planning.limits import Limits
from afdplan.planning.space import SearchSpace


def plan(devices=8, time=0.5, rate=4.0):
    return SimpleNamespace(
        design=SimpleNamespace(devices=devices), devices=devices, token_time=lambda _: time,
        requests_per_second=rate, time_per_output_token=time, tokens_per_second=10 * rate,
        score=rate,
    )  # fmt: skip


class Search:
    """Steps of 0.1 s and 0.01 s for each request a second; eight devices and one for each."""

    def __init__(self, most_time=99.0, overflow=0.0, nodes=1):
        self.asked, self.overflow, self.nodes = [], overflow, nodes
        self.space = SearchSpace(batch_sizes=(4, 8), microbatches=(2, 3))
        self.source = SimpleNamespace(
            attention_devices=(2, 1), ffn_devices=2, ffn_workers=lambda most: self.numbers
        )
        self.numbers = (3, 4)
        self.memories = SimpleNamespace(of_worker=lambda devices: self.rooms[devices])
        self.rooms = {1: None, 2: None}

    def best(self, limits, space=None):
        self.asked.append((limits, space))
        rate = limits.requests_per_second or 0.0
        need = 0.1 + 0.01 * rate
        time = limits.time_per_output_token
        if time is not None and time * (1 - limits.margin) < need * (1 - 1e-12):
            return None
        if self.overflow > limits.overflow_probability or limits.node_devices > self.nodes:
            return None
        least = 8 + math.ceil(rate)
        if limits.devices is not None and limits.devices < least:
            return None
        self.last = plan(limits.devices or least, 0.5 if time is None else need)
        return self.last


@pytest.fixture(autouse=True)
def fastest(monkeypatch):
    monkeypatch.setattr(infeasible, "fastest_design", lambda *_: plan(time=0.1))


@pytest.mark.parametrize(
    ("rate", "margin", "least"),
    [(None, 0.0, 0.1), (None, 0.2, 0.125), (10.0, 0.0, 0.2), (10.0, 0.2, 0.25), (39.0, 0.0, 0.49)],
)
def test_the_least_time_that_would_do(rate, margin, least):
    """Alone the fastest step; at a rate the step in which it is reached, to 0.04 %."""
    search = Search()
    limits = Limits(devices=99, requests_per_second=rate, time_per_output_token=0.05, margin=margin)
    way = infeasible._time(search, limits)
    assert least * (1 - 1e-9) <= way.excess * 0.05 + 0.05 <= least * (1.0005 if rate else 1 + 1e-9)
    told = way.excess * 0.05 + 0.05
    assert way.limits.time_per_output_token == pytest.approx(told * (1 + 1e-6), rel=1e-9)
    assert way.plan is not None
    words = f"{infeasible._enough(told * 1e3)} ms, {infeasible._more(told / 0.05)}"
    assert way.words == f"time per output token (mean) of 50 ms would have to be {words}"
    assert len(search.asked) == (2 if rate is None else 14)
    assert infeasible._time(search, Limits(devices=99)) is None
    assert infeasible._time(search, Limits(devices=7, time_per_output_token=0.05)) is None


def test_no_time_mends_what_has_no_fastest_design(monkeypatch):
    monkeypatch.setattr(infeasible, "fastest_design", lambda *_: None)
    assert infeasible._time(Search(), Limits(devices=99, time_per_output_token=0.05)) is None


def test_devices_and_rates_that_would_do():
    search = Search()
    few = Limits(devices=10, requests_per_second=4.0)
    way = infeasible._devices(search, few)
    assert (way.excess, way.limits.devices) == (pytest.approx(0.2), 12)
    assert way.words == "12 devices would be needed, 10 may be used"
    assert way.plan is search.last
    assert search.asked[-1][0].devices == 12
    alone = infeasible._devices(search, Limits(devices=4))
    assert alone.limits.devices == alone.plan.devices == 9
    assert infeasible._devices(search, Limits(requests_per_second=4.0)) is None
    assert infeasible._devices(search, Limits(devices=12, requests_per_second=4.0)) is None
    slow = Limits(devices=4, time_per_output_token=0.01)
    assert infeasible._devices(search, slow) is None
    way = infeasible._rate(search, Limits(devices=10, requests_per_second=5.0, margin=0.25))
    assert way.words == "5 requests/s would have to be 3.2 at most"
    assert way.excess == pytest.approx(5 / 3.2 - 1)
    assert way.limits.requests_per_second == pytest.approx(3.2 * (1 - 1e-6), rel=1e-9)
    assert infeasible._rate(search, Limits(requests_per_second=5.0)) is None
    assert infeasible._rate(search, Limits(devices=5)) is None
    assert infeasible._rate(search, Limits(devices=5, requests_per_second=5.0)) is None


def test_nodes_that_would_do():
    search = Search()
    way = infeasible._nodes(search, Limits(devices=10, node_devices=8))
    assert (way.excess, way.words) == (1.0, "nodes of 8 devices would be shared")
    assert way.limits.node_devices == 1
    assert infeasible._nodes(search, Limits(devices=10)) is None
    assert infeasible._nodes(search, Limits(devices=7, node_devices=8)) is None


def room(chance, share):
    asked = []
    return SimpleNamespace(
        overflow_probability=lambda n, part: asked.append((n, part)) or chance,
        mean_fraction=lambda n: share, asked=asked,
    )  # fmt: skip


def test_memory_that_would_do():
    """Two microbatches of four are the least; of both widths the one that overflows less counts."""
    search = Search(overflow=0.2)
    search.rooms = {1: room(0.9, 1.5), 2: room(0.2, 0.95)}
    limits = Limits(devices=10, margin=0.1)
    way = infeasible._memory(search, limits)
    assert way.excess == 0.0
    assert way.words == (
        "KV memory: 8 requests per attention worker already fill 95 % of it on average and "
        "overflow with probability 0.2, more than 0.001"
    )
    assert search.rooms[2].asked == [(8, 0.9)]
    assert way.limits.overflow_probability == pytest.approx(0.2 * (1 + 1e-9), rel=1e-12)
    assert way.limits.overflow_probability > 0.2
    last = search.asked[-1][1]
    assert (last.batch_sizes, last.microbatches, last.fills_gaps) == ((4,), (2,), False)
    search = Search(overflow=1.0)
    search.rooms = {1: None, 2: room(1.0, 3.0)}
    assert infeasible._memory(search, limits).limits.overflow_probability == 1.0
    search.rooms = {1: None, 2: room(0.001, 0.5)}
    assert infeasible._memory(search, limits) is None
    search.rooms = {1: None, 2: None}
    assert infeasible._memory(search, limits) is None
    assert infeasible._memory(search, Limits(devices=5)) is None


class Ranks:
    """Ranks of 0.3 s a token, on one device for each request a second and five more."""

    def __init__(self):
        self.asked = []

    def widths(self, limits):
        self.asked.append(limits.time_per_output_token)
        rate, time = limits.requests_per_second or 0.0, limits.time_per_output_token
        least = 5 + math.ceil(rate)
        if (time is not None and time < 0.3) or least > (limits.devices or 99):
            return []
        return [plan(least + 4), plan(least, rate=9.0)]


@pytest.fixture
def ranks(monkeypatch):
    found = Ranks()
    monkeypatch.setattr(infeasible, "ColocatedSearch", SimpleNamespace(of=lambda _: found))
    return found


def test_what_ranks_would_need(ranks):
    def ways(**asked):
        return list(infeasible._unsplit_ways(None, Limits(**asked)))

    assert ways(devices=5) == ["6 devices would be needed"]
    assert ways(devices=8, requests_per_second=4.0) == ["9 devices would be needed"]
    assert ways(devices=9, requests_per_second=4.0) == []
    assert ways(requests_per_second=4.0) == []
    (told,) = ways(devices=30, time_per_output_token=0.05)
    at = float(told.split()[0])
    assert told.endswith(" ms would be needed")
    assert 300 <= at <= 300 * 1.002 + 0.1
    # Doubled three times from 50 ms to 400, then halved between 200 and 400 to 0.2 %.
    assert ranks.asked[-13:-9] == pytest.approx([0.05, 0.1, 0.2, 0.4])
    assert len(ranks.asked[-9:]) == 9
    assert ways(devices=3, time_per_output_token=0.05) == []


@pytest.mark.parametrize(
    ("value", "direction", "words"),
    [(15.0815, 1, "15.09"), (15.08, 1, "15.08"), (214.09, -1, "214"), (0.12345, 1, "0.1235"),
     (0.12345, -1, "0.1234"), (9999.5, 1, "1e+04"), (1.0, 1, "1"), (10.001, 1, "10.01")],
)  # fmt: skip
def test_limits_are_rounded_to_where_they_are_met(value, direction, words):
    assert infeasible._enough(value, direction) == words


@pytest.mark.parametrize(
    ("factor", "words"),
    [(10.0, "10 times"), (9.99, "899 % more"), (1.095, "9 % more"), (1.094, "9.4 % more"),
     (1.0095, "1.0 % more"), (1.0094, "0.94 % more")],
)  # fmt: skip
def test_how_much_more_is_said(factor, words):
    assert infeasible._more(factor) == words


def test_the_least_excess_is_told_first(monkeypatch, ranks):
    ways = {"_time": 0.5, "_devices": 0.2, "_rate": None, "_memory": None, "_nodes": 1.0}
    near = {name: plan(devices=k, rate=float(k)) for k, name in enumerate(ways, 1)}
    limits = Limits(devices=4)
    for name, excess in ways.items():
        way = excess and _Way(excess, f"{name[1:]} too little", limits, near[name])
        monkeypatch.setattr(infeasible, name, lambda *_, way=way: way)
    monkeypatch.setattr(infeasible, "_given", lambda one: f"{one.devices} of them")
    error = infeasible.explain_infeasible(None, limits)
    assert error.nearest is near["_devices"]
    assert str(error) == (
        "no plan meets all limits: devices too little; or time too little; or nodes too little. "
        "Nearest feasible split: 2 of them. Without a split 6 devices would be needed"
    )
    able = [plan(7, rate=1.0), plan(9, rate=3.0), plan(8, rate=2.0)]
    error = infeasible.explain_infeasible(
        None, limits, able, where="noon", breaks=lambda one, inside: f"morning: {inside.devices}"
    )
    assert str(error) == (
        "no split meets all limits in noon: devices too little; or time too little; or nodes too "
        "little. Nearest split: 2 of them, but in morning: 4. "
        "Without a split all are met: 9 of them"
    )
    monkeypatch.setattr(infeasible, "_unsplit_ways", lambda *_: [])
    assert "Nearest feasible plan: 2 of them" in str(infeasible.explain_infeasible(None, limits))


def test_what_nothing_alone_mends():
    search = Search()
    say = infeasible._basics
    need = "{} devices are fewer than the 7 that one attention worker and 3 FFN workers"
    assert say(search, Limits(devices=6)).startswith(need.format(6))
    assert say(search, Limits(devices=7)).startswith("give more devices")
    assert say(search, Limits(requests_per_second=1.0)).startswith("give more devices")
    search.numbers = ()
    assert say(search, Limits(devices=6)).startswith("the FFN weights do not fit")
    search.space = SearchSpace(batch_sizes=(4,), ffn_workers=(2, 5))
    asked = []
    search.source.ffn_workers = lambda most: asked.append(most) or tuple(range(6, 40))
    told = say(search, Limits(devices=6))
    assert asked == [5, 1024]
    assert told.startswith("ffn_workers 2, 5 neither")
    assert told.endswith(", ".join(map(str, range(6, 22))))
    search.source.ffn_workers = lambda _: ()
    assert say(search, Limits(devices=6)).endswith("possible are none")
