"""Where the best is looked for, by hand: workers without an effect, placed loads, KV caches."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.calibration.memory import CacheKind
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.model.variation import Scatter
from afdplan.planning import effect_costs as effects
from afdplan.planning import placement_gain as placed
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums, _cache_law
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-5, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, microbatches=1)


class Played:
    """A hill over A whose steps take A; what was asked is written down."""

    def __init__(self, top, jump=0):
        self.top, self.jump, self.asked = top, jump, []

    def __call__(self, counts):
        self.asked.append(counts.tolist())
        a = np.asarray(counts)
        height = 1e4 - (a - self.top) ** 2
        if self.jump:  # a tooth after each so many workers
            height = height - 40 * (a % self.jump)
        return height, a


@pytest.mark.parametrize(
    ("top", "bound", "best"),
    [(37, math.inf, 37), (1, math.inf, 1), (60, math.inf, 60), (99, math.inf, 64),
     (37, 20.0, 20), (37, 37.0, 37)],
)  # fmt: skip
def test_the_top_of_a_hill_is_found_with_few_looks(top, bound, best):
    """64 numbers of workers: 16 at even ratios and what runs, then all between two neighbours."""
    played, able = Played(top), np.arange(1, 65)
    found, height, kept = effects._best_of(played, able, 5, bound, 0)
    assert (found, height) == (best, 1e4 - (best - top) ** 2)
    assert kept == 1e4 - (5 - top) ** 2
    first = np.unique(np.rint(np.geomspace(1, 64, 16))).tolist()
    assert played.asked[0] == sorted({*first, 5.0})
    assert sum(map(len, played.asked)) <= 32
    assert len({a for few in played.asked for a in few}) == sum(map(len, played.asked))


def test_few_workers_are_all_looked_at():
    played = Played(3)
    assert effects._best_of(played, np.arange(1, 17), 5, math.inf, 0)[0] == 3
    assert played.asked == [list(map(float, range(1, 17)))]
    played = Played(3)
    effects._best_of(played, np.arange(1, 18), 5, math.inf, 0)
    assert len(played.asked[0]) < 17
    only = Played(3)
    assert effects._best_of(only, np.array([5, 8, 12]), 5, math.inf, 0)[0] == 5
    assert only.asked == [[5.0, 8.0, 12.0]]


def test_teeth_have_their_own_best_on_both_sides():
    """A tooth of 8: 40 and 48 are as near to 44; without a jump the neighbours alone are."""
    played, able = Played(44.5, jump=8), np.arange(1, 257)
    found, *_ = effects._best_of(played, able, 5, math.inf, 8)
    assert found == 48
    asked = {a for few in played.asked for a in few}
    assert {40.0, 48.0} <= asked


def test_teeth_end_with_the_workers_that_there_are():
    found, *_ = effects._best_of(Played(300, jump=8), np.arange(1, 254), 5, math.inf, 8)
    assert found == 253


@pytest.mark.parametrize(("devices", "left"), [(1, {}), (2, {"experts": 2}), (4, {"experts": 4})])
def test_experts_of_one_rank_are_never_uneven(devices, left):
    choice = LatencyChoice(model="qwen3-30b-a3b", hardware="h100", ffn_devices=devices)
    found = effects.derived_without(choice.placement())
    assert {name: ranks for name, (_, ranks) in found.items()} == left


def test_jobs_are_those_of_one_layer_and_microbatch():
    """Eight requests of 2,000 tokens: 17 ms of attention; three workers' 24 tokens: 2.24 ms."""
    attention, ffn = effects._jobs(PROBLEM, LATENCY, 3, PROBLEM.slot_loads())
    assert (attention, ffn) == (pytest.approx(0.017), pytest.approx(2.24e-3))
    busy = replace(LATENCY, coupling=Coupling(send_attention=1.0, receive_attention=0.5))
    attention, ffn = effects._jobs(PROBLEM, busy, 3, PROBLEM.slot_loads())
    way = 5e-4 + 2e-6 * 8
    assert attention == pytest.approx(0.017 + way * 1.5)


@pytest.mark.parametrize(
    ("most", "longest", "here", "last", "bound"),
    [(None, None, 3, 128, math.inf), (7, None, 3, 7, math.inf), (7, None, 9, 9, math.inf),
     (7, 5.0, 3, 7, 5.0), (7, 0.1, 3, 7, None)],
)  # fmt: skip
def test_what_is_looked_at_without_an_effect(monkeypatch, most, longest, here, last, bound):
    """Up to 64 workers for each FFN worker, the one that runs with them; a tooth for each jump."""
    asked = []

    def best_of(played, able, at, limit, jump):
        asked.append((able.tolist(), at, limit, jump))
        return 11, 2.0, 1.6

    monkeypatch.setattr(effects, "_best_of", best_of)
    monkeypatch.setattr(effects, "_jobs", lambda p, latency, a, s: (
        (3.0, 2.0) if latency.scatter.attention else (2.5, 1.6)
    ))  # fmt: skip
    latency = replace(LATENCY, scatter=Scatter(attention=0.1, ffn=0.2))
    problem = replace(PROBLEM, latency=latency, ffn_workers=2, max_attention_workers=most)
    (found,) = effects.effect_costs(
        problem, here, longest_step=longest,
        allowed=lambda able: able != 4,
    )  # fmt: skip
    able, at, limit, jump = asked[0]
    assert able == [a for a in range(1, last + 1) if a != 4]
    assert (at, jump) == (here, 0)
    step = 0.01 * 0 + 10 * (0.017 + 2e-3 + 1e-5 * 8 * here / 2 + 2 * (5e-4 + 16e-6))
    if bound is None:  # what runs may be too slow already
        assert step < limit < 1.3 * step
    else:
        assert limit == pytest.approx(bound * (1 + 1e-9) if bound < math.inf else bound, rel=1e-12)
        assert limit >= bound
    base = (1 - found.cost) * 1.6
    assert found.gain == pytest.approx(2.0 / base - 1)
    assert base == pytest.approx(here * 8 / step / (here + 2), rel=0.25)
    assert (found.attention_longer, found.ffn_longer) == pytest.approx((0.2, 0.25))
    assert (found.attention_scatter, found.ffn_scatter) == (0.1, 0.2)
    assert found.attention_workers_without == 11
    plain = effects.EffectCost(
        effect="launch", attention_workers=1, attention_workers_without=1, cost=0.1, gain=0.1,
        attention_longer=0.0, ffn_longer=0.0,
    )  # fmt: skip
    assert (plain.attention_scatter, plain.ffn_scatter, plain.ranks) == (0.0, 0.0, None)


def test_effects_are_taken_away_one_by_one():
    every = Coupling(send_attention=0.5, receive_ffn=0.25, launch=1e-5, fan_in="whole")
    latency = replace(LATENCY, scatter=Scatter(ffn=0.1), coupling=every)
    left = {name: times for name, (times, _) in effects._without(latency, 4, None)}
    assert list(left) == ["scatter", "occupancy", "launch", "fan-in"]
    assert left["scatter"] == replace(latency, scatter=Scatter())
    assert not left["occupancy"].coupling.is_occupying
    assert left["occupancy"].coupling.launch == 1e-5
    assert left["launch"].coupling == replace(every, launch=0.0)
    assert left["fan-in"].coupling.fan_in == "even"
    one = replace(LATENCY, scatter=Scatter(attention=0.1))
    assert [name for name, _ in effects._without(one, 4, None)] == ["scatter"]
    assert list(effects._without(LATENCY, 4, None)) == []


@pytest.mark.parametrize(
    ("here", "ffn_workers", "given", "ratio", "most", "ends"),
    [(4, 1, None, 3.0, 64, (3, 2)), (4, 2, None, 4.0, 128, (4, 9)), (40, 1, None, 99.0, 160, None),
     (4, 1, 6, 6.0, 6, (4, 6)), (4, 1, 2, 4.0, 4, (4, 4)), (4, 1, None, 0.2, 64, (1, 4))],
)  # fmt: skip
def test_placed_workers_are_looked_for_up_to_the_mean_fields(
    monkeypatch, here, ffn_workers, given, ratio, most, ends
):
    asked, counts = {}, []

    def optimal_ratio(ffn_weight, lowest, highest):
        asked.update(lowest=lowest, highest=highest)
        return ratio

    class Model:
        def __init__(self, problem, _):
            self.is_blind = problem.placement != "longest-prompt"

        def evaluate(self, at):
            counts.append(at.tolist())
            return SimpleNamespace(mean=np.full(at.size, 2.0 if self.is_blind else 1.5))

        def objective(self, at, steps, weight):
            return np.full(at.size, 4.0) if self.is_blind else 6.0 - np.abs(at - there - 1) / 100

    field = SimpleNamespace(optimal_ratio=optimal_ratio)
    monkeypatch.setattr(placed, "mean_field_of", lambda *_: field)
    monkeypatch.setattr(placed, "cycle_model", Model)
    monkeypatch.setattr(placed, "equal_loads", lambda *_: lambda at: 8.0)
    there = round(ratio * ffn_workers)
    problem = replace(
        PROBLEM,
        ffn_workers=ffn_workers,
        latency=replace(LATENCY, tokens_per_step=1.25),
        max_attention_workers=given,
    )
    found = placed.placement_gain(problem, here, "longest-prompt")
    assert asked == {"lowest": 1 / ffn_workers, "highest": most / ffn_workers}
    looked, blind = counts
    assert blind == [here]
    even = np.rint(np.geomspace(here, max(there, 1), 24)).tolist()
    assert looked == sorted({*even, max(there - 1.0, 1.0), min(there + 1.0, most)})
    best = min(max(there + 1, 1), most)
    top, stay = 6.0 - abs(best - there - 1) / 100, 6.0 - abs(here - there - 1) / 100
    assert found.attention_workers == best
    assert found.barrier_cost.value == 0.5
    assert found.given_back.value == pytest.approx((stay - 4) / 8)
    assert found.given_back.high - found.given_back.value == pytest.approx(0.015 * stay / 8)
    assert found.gain.value == pytest.approx(top / 4 - 1)
    assert found.gain.value - found.gain.low == pytest.approx(0.015 * top / 4)
    assert found.regret_of_blind.value == pytest.approx(1 - stay / top)
    assert found.regret_of_blind.low == found.regret_of_blind.high
    assert found.blind_time_per_output_token == pytest.approx(1.6)
    assert found.time_per_output_token == pytest.approx(1.2)
    assert found.placement_window == 1


class Room(CacheMemory):
    """A room for so many requests, where a guess is said."""

    def __init__(self, fit, guess):
        self.fit, self.guess, self.asked = fit, guess, []
        self.capacity_tokens = 100.0

    def _likely_requests(self, probability, capacity):
        self.likely = (probability, capacity)
        return self.guess

    def overflow_probability(self, requests, share=1.0):
        self.asked.append(requests)
        return 0.25 if requests <= self.fit else 0.5


@pytest.mark.parametrize(
    ("fit", "guess", "most", "found", "asked"),
    [
        (10, 10, 99, 10, [10, 11]), (10, 9, 99, 10, [9, 10, 12, 11]),
        (10, 12, 99, 10, [12, 11, 9, 10]), (0, 5, 99, 0, [5, 4, 2, 1]), (99, 5, 8, 8, [5, 6, 8]),
        (99, 500, 8, 8, [8]), (0, -3, 8, 0, [1]), (1, 0, 8, 1, [1, 2]),
        (20, 3, 99, 20, [3, 4, 6, 10, 18, 34, 26, 22, 20, 21]),
    ],
)  # fmt: skip
def test_requests_that_fit_are_found_from_a_guess(fit, guess, most, found, asked):
    room = Room(fit, guess)
    assert room.most_requests(0.25, 0.5, most) == found
    assert room.asked == asked
    assert room.likely == (0.25, 50.0)


@pytest.mark.parametrize("prompt", ["fixed:100", "uniform:50..150", "skewed"])
def test_a_guess_is_where_a_nearly_normal_sum_ends(prompt):
    """S loads of mean 100 and z of their deviations: a quadratic in the root of S."""
    if prompt == "skewed":  # 99 of 50 and one of 5,050
        law = EmpiricalLengths(
            Trace(
                prompt_tokens=np.array([50] * 99 + [5050]), decode_tokens=np.ones(100, int),
                arrival_times=None, source="x",
            )
        )  # fmt: skip
    else:
        law = IndependentLengths(prompt=prompt, decode="fixed:1")
    space = CacheSpace.tokens(1e5)
    memory = CacheMemory(CacheSums(law, space.kinds), space)
    for probability, z in ((0.5, 0.0), (0.022750131948179, 2.0), (0.158655253931457, 1.0)):
        slots = memory._likely_requests(probability, 1e5)
        m, s = memory._sums.slot.moments.mean, memory._sums.slot.moments.std
        g = memory._sums.skewness

        skewed = (z * z - 1) / 6 * g * s
        ends = [n * m + z * s * n**0.5 + skewed for n in (slots, slots + 1)]
        assert ends[0] <= 1e5 * (1 + 1e-9) < ends[1] * (1 + 1e-9)
    assert memory._likely_requests(0.5, 1e30) == (1 << 17) ** 2
    assert memory._likely_requests(0.5, -1e9) == 0
    assert memory._likely_requests(0.0, 1e5) == memory._likely_requests(1e-9, 1e5)
    assert memory._likely_requests(1.0, 1e5) == memory._likely_requests(1 - 1e-9, 1e5)


def test_sums_fit_or_do_not_for_certain():
    """Loads of 50, or of 150: two of them take 100, 200 or 300."""
    trace = Trace(
        prompt_tokens=np.array([50, 150]), decode_tokens=np.array([1, 1]), arrival_times=None,
        source="x",
    )  # fmt: skip
    sums = CacheSums(EmpiricalLengths(trace), (CacheKind(4.0, None),))
    assert (sums.slot.lowest, sums.slot.highest) == (50.0, 150.0)
    assert sums.skewness == pytest.approx(0.0, abs=1e-12)
    assert [sums.exceedance(2, room) for room in (300.0, 99.9, 0.0)] == [0.0, 1.0, 1.0]
    assert sums._sums == {}
    for room, chance in ((100.0, 0.75), (199.0, 0.75), (200.0, 0.25), (299.0, 0.25)):
        assert sums.exceedance(2, room) == pytest.approx(chance)
    rare = replace(trace, prompt_tokens=np.array([50, 50, 50, 150]), decode_tokens=np.ones(4, int))
    assert CacheSums(EmpiricalLengths(rare), (CacheKind(4.0, None),)).skewness == pytest.approx(
        (0.25 * 75**3 - 0.75 * 25**3) / 1875**1.5
    )
    close = replace(rare, prompt_tokens=np.array([1, 1, 1, 2]))  # as skewed, whatever the scale
    assert CacheSums(EmpiricalLengths(close), (CacheKind(4.0, None),)).skewness == pytest.approx(
        (0.25 * 75**3 - 0.75 * 25**3) / 1875**1.5
    )


def test_two_kinds_of_layers_hold_what_each_keeps():
    """Half of the bytes keep all tokens, a quarter each 100 and 1,000 of them."""
    law = IndependentLengths(prompt="fixed:600", decode="fixed:1")
    kinds = (CacheKind(2.0, None), CacheKind(1.0, 100), CacheKind(1.0, 1000))
    slot = _cache_law(law, kinds)
    load = law.slot_load().moments.mean
    assert slot.moments.mean == pytest.approx(2 * load + 100 + load)
    assert slot.lowest == pytest.approx(slot.moments.mean)
    assert (slot.probabilities.tolist(), slot.spacing) == ([1.0], slot.moments.mean)
    assert slot.moments.std == 0.0
    alike = _cache_law(law, (CacheKind(2.0, 100), CacheKind(3.0, 100), CacheKind(0.0, None)))
    assert alike.moments.mean == pytest.approx(500.0)
    nothing = _cache_law(
        IndependentLengths(prompt="fixed:0", decode="fixed:1"),
        (CacheKind(0.25, None), CacheKind(0.25, 10)),
    )
    assert nothing.spacing == 1.0 or nothing.moments.mean > 0
    wide = IndependentLengths(prompt="uniform:0..400", decode="fixed:1")
    unused = _cache_law(wide, (CacheKind(2.0, 100), CacheKind(3.0, 100), CacheKind(0.0, None)))
    assert unused.spacing == 5.0 * wide.slot_load(100).spacing
    law_of = _cache_law(wide, (CacheKind(2.0, None), CacheKind(0.5, 100), CacheKind(0.0, 10)))
    tokens = wide.slot_load()
    held = 2.0 * tokens.support + 0.5 * np.minimum(tokens.support, 100)
    mean = float(tokens.probabilities @ held)
    assert law_of.moments.mean == pytest.approx(mean)
    assert law_of.moments.variance == pytest.approx(
        float(tokens.probabilities @ (held - mean) ** 2)
    )
    assert law_of.spacing == pytest.approx(0.5)
    assert law_of.lowest == pytest.approx(held.min())
