"""Which numbers of workers are looked at, and when a warning is due: every bound on both sides."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.model.variation import Scatter
from afdplan.theory.cycle import StepTimes
from afdplan.theory.latency_draws import drawn_interval, drawn_step_times
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from afdplan.theory.search import WorkerSearch
from afdplan.theory.solve import largest_resource, worker_limit
from afdplan.theory.transient import horizon_mean_load, renewal_chances
from afdplan.theory.validity import (
    barrier_free_warnings,
    latency_range_warnings,
    scatter_error,
    short_life_error,
    theory_warnings,
)

LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:20")


class Hill:
    """A bundle whose objective is known at any A; weight 1 counts all instances alike."""

    def __init__(self, objective, whole=False, ffn_workers=1, stepped=False):
        self._objective, self.whole_numbers, self.is_stepped = objective, whole, stepped
        self.problem = SimpleNamespace(ffn_weight=2.0, ffn_workers=ffn_workers)
        self.asked = 0

    def evaluate(self, workers, probabilities=()):
        self.asked += workers.size
        return StepTimes(
            mean=1 / np.array([self._objective(a) for a in workers]),
            quantiles=np.zeros((workers.size, 0)),
            cycle=3.0 * workers,
            attention_idle_fraction=0.1 + 0 * workers,
            ffn_idle_fraction=0.2 + 0 * workers,
        )

    def objective(self, workers, steps, weight):
        return weight / 2 / steps


def hill(best, width=0.7):
    return lambda a: math.exp(-((math.log(a / best) / width) ** 2))


@pytest.mark.parametrize("best", [1, 2, 100, 255, 256, 300, 7321, 99_000, 100_000])
@pytest.mark.parametrize("limit", [256, 257, 100_000])
def test_the_top_of_a_hill(best, limit):
    model = Hill(hill(best))
    search = WorkerSearch(model, limit)
    assert search.best() == min(best, limit)
    assert model.asked <= (256 if limit == 256 else 2000)
    low, high = search.near_equal()
    inside = [
        a for a in (low, high) if model._objective(a) > 0.99 * model._objective(search.best())
    ]
    assert inside == [low, high]
    enough = 0.99 * model._objective(search.best())
    assert low == 1 or model._objective(low - 1) <= enough
    assert high == limit or model._objective(high + 1) <= enough
    assert search.curve()[0].attention_workers == 1
    assert search.curve()[-1].attention_workers == limit


@pytest.mark.parametrize("best", [1.0, 1.4, 6.37, 199.6])
def test_the_real_top_lies_beside_the_whole_one(best):
    search = WorkerSearch(Hill(hill(best)), 256)
    assert search.real_best() == pytest.approx(best, abs=2e-4)
    assert WorkerSearch(Hill(hill(best), whole=True), 8).real_best() == search_best(best, 8)
    assert WorkerSearch(Hill(hill(best), stepped=True), 256).real_best() == round(best)
    assert WorkerSearch(Hill(hill(500.0)), 256).real_best() == 256


@pytest.mark.parametrize(("whole", "dense"), [(False, 256), (True, 8)])
def test_so_many_numbers_are_all_looked_at(whole, dense):
    assert len(WorkerSearch(Hill(hill(5), whole=whole), dense).curve()) == dense
    more = WorkerSearch(Hill(hill(5), whole=whole), 4 * dense).curve()
    assert len(more) < 2 * dense
    workers = [point.attention_workers for point in more]
    assert workers[0] == 1
    assert workers[-1] == 4 * dense
    assert {4, 5, 6} <= set(workers)


def search_best(best, limit):
    return min(round(best), limit)


def test_points_of_a_curve():
    search = WorkerSearch(Hill(hill(10)), 40)
    for point in search.curve():
        a = point.attention_workers
        assert point.objective == pytest.approx(hill(10)(a))
        assert point.throughput_per_instance == pytest.approx(hill(10)(a) / 2)
        assert point.regret == pytest.approx(1 - hill(10)(a))
        assert point.step_time == pytest.approx(1 / hill(10)(a))
        assert (point.cycle_time, point.attention_idle_fraction) == (3.0 * a, 0.1)
        assert point.ffn_idle_fraction == 0.2
    assert len(search.curve()) == 40
    assert search.value(50) == pytest.approx(hill(10)(50))
    flat = WorkerSearch(Hill(lambda a: 1.0), 40)
    assert (flat.best(), flat.near_equal()) == (1, (1, 40))


def test_tops_lie_where_all_ffn_workers_have_equally_many_peers():
    """Of seven FFN workers: at 7, 14, 21, ...; a grid that misses all would miss the best."""

    def saw(a):
        return hill(3500, 0.5)(a) * (1 + (a % 7 == 0))

    search = WorkerSearch(Hill(saw, ffn_workers=7, stepped=True), 100_000)
    assert search.best() % 7 == 0
    assert saw(search.best()) > 0.999 * saw(3500)


def test_bundles_that_are_played_are_few():
    model = Hill(hill(600), whole=True)
    assert WorkerSearch(model, 4096).best() == 600
    assert model.asked <= 80


def test_the_largest_resource_of_equals_is_named_first():
    assert largest_resource({"attention": 1.0, "ffn": 2.0, "latency": 2.0}) == "ffn"
    assert largest_resource({"attention": 2.0 * (1 - 1e-10), "ffn": 2.0}) == "attention"
    assert largest_resource({"attention": 2.0 * (1 - 1e-8), "ffn": 2.0}) == "ffn"


def test_how_many_workers_are_considered():
    problem = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, ffn_workers=3)
    slots = problem.slot_loads()
    assert worker_limit(problem, slots) == 192
    assert worker_limit(replace(problem, max_attention_workers=7), slots) == 7
    light = LATENCY.with_coefficients({"ffn.slope": 1e-7, "ffn.intercept": 2.0})
    far = replace(problem, latency=light)
    from afdplan.theory.solve import mean_field_of

    widest = mean_field_of(far, slots).optimal_ratio(ffn_weight=1.0, lowest=1 / 3, highest=3e4)
    assert widest > 100
    assert worker_limit(far, slots) == min(math.ceil(1.25 * widest * 3), 100_000)


def told(**changes):
    asked = {"attention_workers": 4, "ffn_workers": 1, "batch_size": 8, "microbatches": 2}
    latency = changes.pop("latency", LATENCY)
    law = changes.pop("law", LAW)
    return theory_warnings(law, latency, Bundle(**(asked | changes)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        (
            {"law": IndependentLengths(prompt="100", decode="fixed:19")},
            ("only 190 rounds", "0.9 %"),
        ),
        ({"law": IndependentLengths(prompt="100", decode="fixed:3")}, ("only 30 rounds", "2.5 %")),
        ({"latency": replace(LATENCY, tokens_per_step=2.0)}, ("only 100 rounds", "by up to 1.0 %")),
        ({"microbatches": 4}, ()),
        ({"microbatches": 5}, ("5 microbatches are beyond the declared validity of 4",)),
        ({"attention_workers": 64}, ()),
        ({"attention_workers": 65}, ("65 attention workers are beyond", "of 64.")),
        ({"latency": replace(LATENCY, scatter=Scatter(attention=0.1, ffn=0.1))}, ()),
        (
            {"latency": replace(LATENCY, scatter=Scatter(attention=0.11))},
            ("scatter by 11 %", "up to 2.0 %. Check"),
        ),
        (
            {"latency": replace(LATENCY, scatter=Scatter(ffn=0.31))},
            ("scatter by 31 %", "validity of 10 %", "up to 2.0 % or more. Check"),
        ),
        (
            {"latency": replace(LATENCY, scatter=Scatter(ffn=0.25)), "microbatches": 3},
            ("scatter by 25 %", "up to 4.0 %. Check"),
        ),
        (
            {"latency": replace(LATENCY, scatter=Scatter(send=0.1))},
            ("the theory takes their mean",),
        ),
        ({"latency": replace(LATENCY, scatter=Scatter(receive=0.1))}, ("theory takes their mean",)),
    ],
)
def test_every_bound_of_the_declared_validity(changes, words):
    found = [warning.replace("%", " %").replace("  %", " %") for warning in told(**changes)]
    assert len(found) == bool(words)
    for word in words:
        assert word in found[0]


def test_errors_that_are_stated():
    assert [short_life_error(r) for r in (0.5, 1, 5, 30, 100, 200, 900)] == pytest.approx(
        [0.10, 0.10, 0.03, 0.025, 0.01, 0.009, 0.009]
    )
    middle = math.sqrt(0.10 * 0.03)
    assert short_life_error(math.sqrt(5)) == pytest.approx(middle)
    found = [scatter_error(s, m) for m in (2, 3) for s in (0.1, 0.11, 0.2, 0.21)]
    assert found == [0.01, 0.02, 0.02, 0.02, 0.01, 0.03, 0.03, 0.04]


@pytest.mark.parametrize(
    ("m", "workers", "scatter", "words"),
    [
        (3, 64, Scatter(attention=0.3), []),
        (4, 64, Scatter(), ["4 microbatches are beyond the 3"]),
        (3, 65, Scatter(), ["65 attention workers are beyond the 64"]),
        (3, 64, Scatter(ffn=0.31), ["31 percent of scatter are beyond the 30"]),
        (4, 65, Scatter(attention=0.4), ["4 micro", "65 att", "40 percent"]),
    ],
)
def test_every_bound_without_the_barrier(m, workers, scatter, words):
    latency = replace(LATENCY, scatter=scatter)
    found = barrier_free_warnings(latency, microbatches=m, attention_workers=workers)
    assert len(found) == len(words)
    assert all(one.startswith(word) for one, word in zip(found, words, strict=True))


def test_ranges_that_a_design_leaves():
    """Eight slots of 1,000 to 2,999 tokens: 15,996 in the mean, three deviations are 4,897."""
    law = IndependentLengths(prompt="uniform:1000..2999", decode="fixed:1")
    problem = RatioProblem(law=law, latency=LATENCY, batch_size=8)
    slots = problem.slot_loads()
    reach = 3 * math.sqrt(8 * (2000**2 - 1) / 12)
    low, high = 15_996 - reach, 15_996 + reach

    def warned(aligned=False, **bounds):
        latency = replace(LATENCY, validity=Validity(**bounds))
        return latency_range_warnings(
            latency, slots, batch_size=8, ffn_tokens=32.0, aligned=aligned
        )

    assert warned() == []
    assert (
        warned(attention_tokens=(low - 1, high + 1), ffn_tokens=(32, 32), batch_size=(8, 8)) == []
    )
    for bounds in ((low + 1, high + 1), (low - 1, high - 1)):
        (said,) = warned(attention_tokens=bounds)
        assert f"this design runs at {low:,.0f} to {high:,.0f}: extrapolated" in said
        assert f"measured at {bounds[0]:,.0f} to {bounds[1]:,.0f} KV tokens" in said
    (said,) = warned(aligned=True, attention_tokens=(8001, 30_000))
    assert "runs at 8,000 to 23,992" in said
    assert warned(aligned=True, attention_tokens=(8000, 23_992)) == []
    (said,) = warned(ffn_tokens=(33, 40))
    assert "tokens per FFN worker and microbatch, this design runs at 32:" in said
    (said,) = warned(batch_size=(1, 7))
    assert "1 to 7 requests per microbatch, this design runs at 8:" in said


@pytest.mark.parametrize(("requests", "slots"), [*product((1, 3, 7, 400, 5000), (2, 5)), (1026, 7)])
def test_the_mean_load_of_a_horizon_is_that_of_a_recursion(requests, slots):
    """u_j = sum_i P(D = i) u_(j-i); each start brings P, P + 1, ... while it lasts."""
    law = IndependentLengths(prompt="fixed:7", decode="uniform:1..6")
    steps = max(round(requests * 3.5 / slots), 1)
    starts = [1.0]
    for j in range(1, steps):
        starts.append(sum(starts[j - i] for i in range(1, min(j, 6) + 1)) / 6)
    loads = [(7 + k) * (6 - k) / 6 for k in range(6)]
    total = sum(u * sum(loads[: min(steps - j, 6)]) for j, u in enumerate(starts))
    assert horizon_mean_load(law, requests, slots) == pytest.approx(total / steps, rel=1e-9)
    found = renewal_chances(np.append(0.0, np.full(6, 1 / 6)), steps)
    assert found == pytest.approx(starts[: found.size], abs=1e-9)
    assert found.size in (steps, 512)


def test_where_a_further_draw_lies():
    """Of 1 to 39 the quantiles at p (n + 1): 2.5 % of 40 are 1, 97.5 % are 39."""
    assert drawn_interval(np.arange(1.0, 40.0)) == pytest.approx([1.0, 39.0])
    assert drawn_interval(np.arange(1.0, 80.0)) == pytest.approx([2.0, 78.0])


def test_smaller_bundles_beside_a_large_one():
    """Half, a third, ...: about as many workers each, and what the best of them gains."""
    law = IndependentLengths(prompt="geometric:500", decode="geometric:100")
    problem = RatioProblem(law=law, latency=LATENCY, batch_size=8, ffn_workers=6)
    found = recommend(replace(problem, max_attention_workers=60))
    best = found.optimal_attention_workers
    gains = {}
    for bundles in (2, 3, 6):
        smaller = replace(problem, ffn_workers=6 // bundles)
        curve = recommend(replace(smaller, max_attention_workers=60)).curve
        for a in {max(best // bundles, 1), -(-best // bundles)}:
            point = next(p for p in curve if p.attention_workers == a)
            gains[bundles, a] = point.objective / found.best.objective - 1
    top = max(gains, key=gains.get)
    told = found.replication
    assert (told.bundles, told.attention_workers) == top
    assert told.ffn_workers == 6 // top[0]
    assert told.gain == pytest.approx(gains[top])
    assert recommend(replace(problem, ffn_workers=1, max_attention_workers=9)).replication is None


def test_draws_alike_give_up_nothing_wherever_the_quick_barrier_has_its_best():
    """Of few requests with long tails a normal barrier likes five workers better than three."""
    law = IndependentLengths(prompt="lognormal:mean=200,cv=1.5", decode="geometric:5")
    known = Uncertainty(coefficients=("ffn.intercept",), draws=[[5e-3], [5e-3], [5e-3]])
    latency = LatencyModel.linear(
        attention=(1e-5, 1e-4), ffn=(1e-4, 5e-3), transfer=(2e-6, 5e-4), time_unit="s",
        uncertainty=known,
    )  # fmt: skip
    problem = RatioProblem(law=law, latency=latency, batch_size=2)
    found = recommend(replace(problem, max_attention_workers=16))
    best, told = found.optimal_attention_workers, found.latency_uncertainty
    workers = np.arange(1.0, 17.0)
    quick, _ = drawn_step_times(problem, problem.slot_loads(), workers)
    assert workers[np.argmax(workers / (workers + 1) / quick)] != best
    assert (told.low, told.high) == (best, best)
    assert told.mean_regret == pytest.approx(0.0, abs=1e-9)
    assert told.step_time_low == pytest.approx(found.best.step_time)
    assert told.step_time_high == pytest.approx(found.best.step_time)
