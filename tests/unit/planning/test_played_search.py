"""Which ratios are played, how often and what is told of them: with runs whose pace is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning import simulated_ratio
from afdplan.planning.simulated_ratio import PlayedSearch, _room_said
from afdplan.statistics.replications import ratio_estimate
from afdplan.theory.problem import RatioProblem

LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    step_overhead=0.01,
)  # fmt: skip
LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, ffn_workers=2)


@dataclass(frozen=True)
class Run:
    """Replications of one A, as many as `parts`; each has a pace of its own."""

    scenario: int
    parts: tuple[float, ...]
    pace: object
    attention_idle_fraction: float = 0.25
    ffn_idle_fraction: float = 0.5

    @property
    def throughputs(self):
        return np.array(self.parts)

    @property
    def throughput(self):
        return ratio_estimate(self.throughputs, np.ones(len(self.parts)))

    @property
    def step_time(self):
        return Estimate.exact(0.31)

    def against(self, other, factor=1.0):
        runs = min(len(self.parts), len(other.parts))
        return ratio_estimate(factor * self.throughputs[:runs], other.throughputs[:runs])

    def with_more(self, replications):
        first = len(self.parts)
        more = tuple(self.pace(self.scenario, first + k) for k in range(replications))
        return replace(self, parts=self.parts + more)


@pytest.fixture
def searched(monkeypatch):
    """Return a search over A whose throughput per cost `pace` tells of A and a replication."""

    def searched(pace, between, most=None, shown=None):
        def thrown(count, part):
            return (count + 2.0) * pace(count, part)

        def played(scenario, replications, seconds=0.0):
            parts = tuple(thrown(scenario, k) for k in range(replications))
            return Run(scenario, parts, thrown)

        monkeypatch.setattr(simulated_ratio, "play_paired", played)
        asked = replace(PROBLEM, max_attention_workers=most)
        return PlayedSearch(asked, lambda problem, count: count, between, shown)

    return searched


def peak(best):
    return lambda count, part: 1.0 - abs(count / best - 1) ** 2 + 1e-4 * (-1) ** part


@pytest.mark.parametrize("best", [3, 10, 37, 100])
@pytest.mark.parametrize("between", [(8, 6.0), (40, 15.0), (2, 1.0)])
def test_the_top_of_a_hill_is_found_from_anywhere(searched, best, between):
    found = searched(peak(best), between)
    assert abs(found.settled() / best - 1) <= 0.02
    assert len(found.runs) <= (40 if best < 100 else 90)
    counts = sorted(found.runs)
    at = counts.index(found.best())
    for other in counts[max(at - 1, 0) : at + 2]:
        assert abs(other - found.best()) <= max(0.03 * found.best(), 1)


def test_first_four_ratios_lie_between_both_answers(searched):
    flat = searched(lambda count, part: 1.0 / (1 + abs(count - 14)), (8, 10.0))
    assert {8, 12, 16, 20} <= flat.runs.keys()
    assert flat.best() == 14
    assert set(range(13, 16)) <= flat.runs.keys()


def test_no_more_workers_than_are_allowed_are_played(searched):
    rising = searched(lambda count, part: float(count), (8, 6.0), 30)
    assert rising.best() == max(rising.runs) == 30
    free = searched(lambda count, part: float(count), (8, 6.0))
    assert max(free.runs) == 128  # 64 for each FFN worker
    wide = searched(lambda count, part: float(count), (8, 40.0))
    assert max(wide.runs) == 320  # four times the farther answer
    falling = searched(lambda count, part: 1.0 / count, (80, 60.0), 30)
    assert falling.best() == min(falling.runs) == 1
    assert max(falling.runs) == 30


def test_runs_end_once_the_best_is_told_from_its_rival(searched):
    """Eight or nine workers: 0.1 % apart, each replication up or down by one per cent."""
    noisy = searched(
        lambda count, part: {8: 1.001, 9: 1.0}.get(count, 0.5) * (1 + 0.01 * ((part + count) % 2)),
        (8, 4.5),
    )
    assert noisy.settled() in (8, 9)
    assert {len(noisy.runs[a].parts) for a in (8, 9)} == {16}
    assert {len(run.parts) for a, run in noisy.runs.items() if a not in (8, 9)} == {4}
    clear = searched(peak(10), (8, 5.0))
    clear.settled()
    assert {len(run.parts) for run in clear.runs.values()} == {4}
    alone = searched(peak(1), (1, 0.5), 1)
    assert (alone.settled(), sorted(alone.runs)) == (1, [1])


def test_what_is_told_of_played_ratios(searched):
    shown = []
    found = searched(lambda count, part: 1.0 - abs(count - 10) / 250, (8, 5.0), shown=shown.append)
    top = found.settled()
    assert top == 10
    for point in found.curve():
        a = point.attention_workers
        value = 1.0 - abs(a - 10) / 250
        assert point.objective == pytest.approx(value)
        assert point.regret == pytest.approx(1 - value, abs=1e-12)
        assert point.throughput_per_instance == pytest.approx(value)
        assert point.step_time == 0.31
        assert point.cycle_time == pytest.approx((0.31 - 0.01) / (10 * 2))
        assert (point.attention_idle_fraction, point.ffn_idle_fraction) == (0.25, 0.5)
    assert [point.attention_workers for point in found.curve()] == sorted(found.runs)
    near = [a for a in found.runs if abs(a - 10) / 250 < 0.01]
    assert found.near_equal() == (min(near), max(near))
    assert found.as_good() == (10, 10)
    assert found.cost(10) == 12
    assert found.objective(10).value == found.value(10) == pytest.approx(1.0)
    assert shown == sorted(shown)
    assert shown[0] == pytest.approx(1 / 5)
    unsure = searched(lambda count, part: 1.0 + 0.02 * ((part + count) % 2), (8, 5.0))
    low, high = unsure.as_good()
    assert low < unsure.best() < high or low < high


def test_requests_that_the_memory_does_not_hold():
    """Of 1,000 requests some need 5,001 tokens; up to a hundredth of them are refused."""

    def room(long, capacity=5000):
        prompts = np.full(1000, 1000)
        prompts[:long] = 5000
        law = EmpiricalLengths(Trace(prompt_tokens=prompts, decode_tokens=np.full(1000, 2)))
        return _room_said(SimpleNamespace(kv_capacity=capacity, law=law))

    assert room(0, None) == ()
    (held,) = room(0)
    assert held.endswith("slots that the KV memory keeps empty")
    assert room(1000, 5001) == (held,)  # a request holds its prompt and all but its last token
    (some,) = room(4)
    assert "of the requests do not fit it and are refused" in some
    with pytest.raises(UnsupportedError, match="need more, up to 5,001; give more memory"):
        room(40)


class Told:
    """A run of one A: what it gives, and its ratios to others by hand."""

    def __init__(self, throughput, step, ratios):
        self.throughput, self.step_time = estimate(throughput), estimate(step)
        self._ratios = ratios

    def against(self, other, factor=1.0):
        return estimate(factor * self._ratios[other])


def estimate(value):
    return Estimate(value=value, low=0.9 * value, high=1.1 * value, confidence=0.95, method="x")


def test_what_placing_gains_and_gives_back_by_hand(monkeypatch):
    """Costs of 4 + 3 x 2 and 6 + 3 x 2; equal loads would give 1.25 a cost, blind ones give 1.

    Placed requests give a tenth more at 4 workers: 0.08 of what equal loads give there. The best
    number, 6, gives 1.44 times as much as the blind one at 1.2 times its cost.
    """
    latency = replace(LATENCY, tokens_per_step=1.5)
    problem = replace(PROBLEM, latency=latency, ffn_weight=3.0, max_attention_workers=9)
    base = Told(10.0, 0.3, {})
    here = Told(11.0, 0.28, {base: 1.1})
    top = Told(14.4, 0.33, {base: 1.44})
    here._ratios[top] = 11.0 / 14.4
    asked, runs = [], {4: here, 6: top}

    class Search:
        def __init__(self, *given):
            self.runs = runs
            asked.append((given[0].max_attention_workers, given[2]))

        def settled(self):
            return 6

        def played(self, count, replications):
            assert replications == simulated_ratio.DECIDING
            return self.runs[count]

        def cost(self, count):
            return PlayedSearch.cost(SimpleNamespace(problem=problem), count)

        def recommendation(self, blind, best, free):
            return Recommended(best=best, free=free)

        def objectives(self):
            return "objectives"

    @dataclass(frozen=True)
    class Recommended:
        best: int
        free: float
        warnings: tuple[str, ...] = ()

    @dataclass(frozen=True)
    class Scene:
        placement: str = "longest-prompt"
        placement_window: int = 7
        kv_capacity: None = None

    def play_paired(scenario, replications):
        assert (scenario.placement, scenario.placement_window) == ("round-robin", 1)
        assert replications == simulated_ratio.DECIDING
        return base

    monkeypatch.setattr(simulated_ratio, "PlayedSearch", Search)
    monkeypatch.setattr(simulated_ratio, "play_paired", play_paired)
    monkeypatch.setattr(simulated_ratio, "equal_loads", lambda *_: lambda a: 1.25 * a / 4)
    monkeypatch.setattr(simulated_ratio, "_recovered", lambda *given: given)
    blind = SimpleNamespace(optimal_attention_workers=4, mean_field_ratio=3.0, warnings=("w",))
    shown = []
    found = simulated_ratio.simulate_ratio(
        problem, blind, lambda *_: Scene(), progress=shown.append
    )
    gain = found.gain
    assert asked == [(9, (4, 3.0))]
    assert (gain.placement, gain.placement_window) == ("longest-prompt", 7)
    assert (gain.blind_attention_workers, gain.attention_workers) == (4, 6)
    assert gain.barrier_cost.value == pytest.approx(1 - 10 / 10 / 1.25)
    assert gain.given_back.value == pytest.approx(0.1 * 0.8)
    assert gain.gain.value == pytest.approx(1.44 / 1.2 - 1)
    assert gain.regret_of_blind.value == pytest.approx(1 - 11 / 14.4 * 1.2)
    assert gain.blind_time_per_output_token == pytest.approx(0.3 / 1.5)
    assert gain.time_per_output_token == pytest.approx(0.33 / 1.5)
    assert gain.recovered == (base, here, pytest.approx(12.5))
    assert found.recommendation == Recommended(best=6, free=1.875, warnings=("w",))
    assert (found.objectives, found.runs, shown) == ("objectives", runs, [1.0])


def test_what_is_known_gives_back_at_the_cost_of_the_bundle(monkeypatch):
    """Five workers and two FFN workers of a weight of 3: equal loads give 11 times 0.5."""
    problem = replace(PROBLEM, ffn_weight=3.0)
    asked = []

    def play(scenario, replications, seconds):
        asked.append((scenario.placement, scenario.bundle.attention_workers, replications, seconds))
        return scenario.placement

    monkeypatch.setattr(simulated_ratio, "play_paired", play)
    monkeypatch.setattr(simulated_ratio, "equal_loads", lambda *_: lambda a: a / 10)
    monkeypatch.setattr(simulated_ratio, "_recovered", lambda *given: given)
    told = simulated_ratio.recovered(problem, 5, "longest-prompt")
    assert told == ("round-robin", "longest-prompt", pytest.approx(11 * 0.5))
    seconds = simulated_ratio.MOST_SECONDS / 40
    assert asked == [
        ("round-robin", 5, 8, pytest.approx(seconds)),
        ("longest-prompt", 5, 8, pytest.approx(seconds)),
    ]
    free = replace(problem, execution="barrier-free")
    assert simulated_ratio.recovered(free, 5, "longest-prompt") is None
    assert simulated_ratio.recovered(problem, 5, "round-robin") is None
