"""Rounds of one kind of layers of few atoms, workers that are slow in a kind, waits of prompts."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import lognorm

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.lengths.load_motion import STILL as STANDING
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.variation import Scatter
from afdplan.theory.attention_scatter import scattered
from afdplan.theory.attention_time import TimeLaw, exact_time
from afdplan.theory.constant import aligned_loads
from afdplan.theory.cycle import CycleModel
from afdplan.theory.layer_cycle import _IdealCycle, _PipelinedCycle, layer_cycle
from afdplan.theory.layer_order import slow_workers
from afdplan.theory.moving_load import WorkerMotion, worker_motion
from afdplan.theory.prefill_wait import erlang_wait_probability, prefill_waits
from afdplan.theory.problem import RatioProblem
from afdplan.theory.shared_times import StageTimes
from tests.unit.theory.schedule import played_steps

ATOMS = TimeLaw(lowest=4.0, spacing=3.0, probabilities=np.array([0.5, 0.3, 0.2]))
STILL = WorkerMotion(jumps=0.0, mean_jumps=0.0, mean_growth=0.0, evenness=1.0, mean_square=0.0)


def stages(workers=2.0, **options):
    times = {"ffn": 3.0, "out": 1.0, "back": 2.0} | options
    return StageTimes(
        attention_workers=np.array([workers]),
        **{name: np.array([one]) for name, one in times.items()},
    )


def slowest(law, count):
    """Return values and chances of the slowest of so many workers."""
    found: dict[float, float] = {}
    for case in product(range(law.probabilities.size), repeat=count):
        value = float(law.support[list(case)].max())
        found[value] = found.get(value, 0.0) + float(law.probabilities[list(case)].prod())
    return sorted(found.items())


@pytest.mark.parametrize("floor", [{"ffn": 6.0}, {"out": 6.0}, {"back": 6.0}])
@pytest.mark.parametrize("count", [1, 3])
def test_of_a_perfect_overlap_the_slowest_stage(count, floor):
    """Workers of 4, 7 and 10, and a stage of 6."""
    cycle = _IdealCycle(ATOMS)
    given = stages(float(count), **({"ffn": 3.0, "out": 1.0, "back": 2.0} | floor))
    mean, quantiles, variance = cycle.round(given, (0.2, 0.6, 0.999))
    law = slowest(ATOMS, count)
    assert mean.tolist() == pytest.approx([sum(p * max(6.0, value) for value, p in law)])
    below, expected = np.cumsum([p for _, p in law]), []
    for p in (0.2, 0.6, 0.999):
        expected.append(max(6.0, law[int(np.searchsorted(below, p))][0]))
    assert quantiles.tolist() == [pytest.approx(expected)]
    assert variance.tolist() == [[0.0] * 3]
    assert cycle.round(given, ())[1].shape == (1, 0)
    assert cycle.later(2.0).round(given, ())[0].tolist() == pytest.approx(
        [sum(p * max(6.0, value + 2) for value, p in law)]
    )
    told = cycle.resources(given)
    assert told["attention"].tolist() == pytest.approx([sum(p * value for value, p in law)])
    assert told["communication"].tolist() == [max(float(given.out[0]), float(given.back[0]))]
    assert told["ffn"].tolist() == given.ffn.tolist()
    assert (cycle.attention_mean, cycle.attention_std) == (ATOMS.mean, ATOMS.std)


@pytest.mark.parametrize(("fresh", "between"), [(2.0, None), (2.0, 1.5), (0.5, 3.0)])
def test_of_a_perfect_overlap_an_ffn_that_is_drawn_afresh(fresh, between):
    """E[max(Y, F)] over the atoms of Y and a lognormal F of mean 6 and both deviations."""
    deviation = math.hypot(fresh, between or 0.0)
    sigma = math.sqrt(math.log1p((deviation / 6) ** 2))
    law = lognorm(sigma, scale=6 * math.exp(-(sigma**2) / 2))
    options = {"ffn": 6.0, "fresh": fresh} | ({} if between is None else {"between": between})
    mean, quantiles, variance = _IdealCycle(ATOMS).round(stages(1.0, **options), (0.4, 0.9))

    def paid(y):
        return law.expect(lambda f: f - y, lb=y, ub=np.inf)

    exact = sum(p * (y + paid(y)) for y, p in slowest(ATOMS, 1))
    assert mean[0] == pytest.approx(exact, rel=0.01)  # 16 even levels of three atoms
    assert quantiles[0].tolist() == pytest.approx([y + paid(y) for y in (4.0, 10.0)], rel=1e-6)
    assert variance[0].tolist() == pytest.approx([law.sf(y) * fresh**2 for y in (4.0, 10.0)])


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("ffn", [3.0, 8.0, 30.0])
def test_a_pipelined_round_of_every_outcome(m, count, ffn):
    cycle = _PipelinedCycle(ATOMS, m, layers=4, motion=STILL, std=ATOMS.std, ceiling=math.inf)
    given = stages(float(count), ffn=ffn)
    mean, quantiles, variance = cycle.round(given, (0.9,))
    longest_sum = busiest = exact = longest = 0.0
    rounds: dict[float, float] = {}
    for case in product(range(3), repeat=m * count):
        times = ATOMS.support[list(case)].reshape(count, m)
        p = float(ATOMS.probabilities[list(case)].prod())
        busiest = m * max(ffn, 2.0)
        one = max(times.sum(axis=1).max(), busiest, times.max() + ffn + 3.0)
        exact += p * one
        rounds[one] = rounds.get(one, 0.0) + p
        longest_sum += p * float(times.sum(axis=1).max())
        longest += p * float(times.max())
    assert mean[0] == pytest.approx(exact)
    values = sorted(rounds)
    below = np.cumsum([rounds[value] for value in values])
    assert quantiles[0, 0] == pytest.approx(values[int(np.searchsorted(below, 0.9))])
    assert variance.tolist() == [[0.0]]
    told = {name: float(times[0]) for name, times in cycle.resources(given).items()}
    assert told == pytest.approx(
        {
            "attention": longest_sum / m,
            "communication": 2.0,
            "ffn": ffn,
            "latency": (longest + ffn + 3.0) / m,
        }
    )
    # Of transfers that share the time of their workers a trip is shorter by so much.
    shorter = cycle.resources(stages(float(count), ffn=ffn, out_delay=0.25, back_delay=0.5))
    assert shorter["latency"][0] == pytest.approx((longest + ffn + 0.75) / m)
    later = cycle.later(1.5)
    assert later.attention_mean == pytest.approx(ATOMS.mean + 1.5)
    assert later.resources(given)["attention"][0] == pytest.approx(longest_sum / m + 1.5)
    levels = np.array([0.3, 0.95])
    assert later.slowest_round(given.attention_workers, levels) == pytest.approx(
        cycle.slowest_round(given.attention_workers, levels) + 1.5 * m
    )


def test_two_workers_are_slow_each_in_its_own_kind():
    slowest_sums = [np.array([[12.0, 12.0, 12.0]]), np.array([[9.0, 9.0, 9.0]])]
    times = slow_workers(
        slowest_sums, [5.0, 4.0], [0.5, 0.2], np.array([[1.0, 0.25], [0.25, 1.0]]),
        attention_workers=np.array([1.0, 2.0, 3.0]), microbatches=2,
    )  # fmt: skip
    sums = times.sum(axis=1)[:, :, 0]
    assert sums[0, 1].tolist() == pytest.approx([12.0, 10 + 0.25 * 2, 10 + 0.25 * 2])
    assert sums[1, 0].tolist() == pytest.approx([9.0, 8 + 0.25, 8 + 0.25])
    # Apart by what sorted normals are, as far as the worker's loads are the kind's.
    apart = (times[0, 0] - times[0, 1])[:, 0]
    assert apart[0].tolist() == pytest.approx([2 * 0.5642 * 0.5] * 3)
    assert apart[1].tolist() == pytest.approx([0.5642, 0.25 * 0.5642, 0.25 * 0.5642])


def test_a_job_is_never_shorter_than_nothing():
    times = slow_workers(
        [np.array([[1.0]])], [0.5], [9.0], np.ones((1, 1)),
        attention_workers=np.array([4.0]), microbatches=2,
    )  # fmt: skip
    assert times.ravel().tolist() == pytest.approx([0.5 + 0.5642 * 9, 0.0])


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("load", [0.3, 0.8])
def test_waits_of_several_workers_by_their_shift(workers, load):
    """5,000 prompts of 1 and 3 s in turn that come four at a time."""
    services = np.tile([1.0, 3.0], 2500)
    arrivals = np.repeat(np.arange(1250.0), 4) * (4 * 2 / load / workers)
    found = prefill_waits(arrivals, services, workers)
    workload, waiting = 0.0, [0.0]
    for k in range(4999):
        workload = max(workload + services[k] / workers - (arrivals[k + 1] - arrivals[k]), 0.0)
        waiting.append(workload)
    busy = 2 * 4999 / arrivals[-1] / workers  # of the mean service, per arrival interval
    fall = 2 * workers * (1 - busy) / (2 * (1 + 1 / 4))  # of variance 1 about 2
    shift = math.log(busy / erlang_wait_probability(workers, busy * workers)) / fall
    assert shift > 0
    assert found == pytest.approx(np.maximum(np.array(waiting) - shift, 0.0), abs=1e-8)


def test_so_many_arrivals_are_enough_and_so_much_work_too_much():
    with pytest.raises(InsufficientDataError, match="got 4,999"):
        prefill_waits(np.arange(4999.0), np.full(4999, 0.5), 2)
    assert (prefill_waits(np.arange(5000.0), np.full(5000, 0.5), 2) == 0).all()
    arrivals = np.arange(5000.0)
    with pytest.raises(InvalidInputError, match="overloaded: 1 of"):
        prefill_waits(arrivals, np.full(5000, 2.0), 2)
    assert prefill_waits(arrivals, np.full(5000, 1.99), 2).max() < 2.0
    # Two arrivals are enough for one worker, whose waits are exact.
    assert prefill_waits(np.array([0.0, 1.0]), np.array([3.0, 1.0]), 1).tolist() == [0.0, 2.0]
    with pytest.raises(InvalidInputError, match="two times or more, got 1"):
        prefill_waits(np.zeros(1), np.ones(1), 1)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_the_chance_to_wait_is_erlangs(workers, share):
    """``(a^N / N!) / (1 - rho)`` over itself and ``sum a^k / k!``."""
    a = share * workers
    all_busy = a**workers / math.factorial(workers) / (1 - share)
    others = sum(a**k / math.factorial(k) for k in range(workers))
    assert erlang_wait_probability(workers, a) == pytest.approx(all_busy / (all_busy + others))
    with pytest.raises(InvalidInputError, match=r"got -0\.1"):
        erlang_wait_probability(workers, -0.1)


FIXED = IndependentLengths(prompt="fixed:4", decode="fixed:1")
SHORT = IndependentLengths(prompt="uniform:3..9", decode="uniform:1..5")


def kinds(*given):
    """Return attention of layers that each take so long whatever they hold."""
    return tuple(
        AttentionLayers(curve=LinearCurve(slope=0.0, intercept=a), layers=n) for a, n in given
    )


def bundle(law=FIXED, attention=((10.0, 2), (30.0, 3)), **changes):
    names = ("coupling", "step_overhead", "drain", "tokens_per_step", "scatter")
    latency = replace(
        LatencyModel.linear(attention=(0.0, 1.0), ffn=(0.25, 5.0), transfer=(0.0, 1.5), layers=5),
        attention=kinds(*attention),
        **{name: changes.pop(name) for name in names if name in changes},
    )
    problem = RatioProblem(**{"law": law, "latency": latency, "batch_size": 4} | changes)
    return problem, CycleModel(problem, problem.slot_loads())


@pytest.mark.parametrize("method", ["exact", "gaussian", "mean-field"])
def test_a_step_of_two_kinds_of_constant_layers(method):
    """FFN 5 + A, links of 1.5 each way: one microbatch makes one trip after the other."""
    problem, model = bundle(
        method=method, microbatches=1, step_overhead=7.0, tokens_per_step=2.0, ffn_weight=3.0
    )
    workers = np.array([1.0, 4.0, 9.0])
    step = model.evaluate(workers, (0.5, 0.99))
    f = 5 + workers
    whole = 2 * 10 + 3 * 30 + 5 * (f + 3) + 7
    assert step.mean == pytest.approx(whole)
    assert step.quantiles == pytest.approx(np.stack([whole, whole], axis=1))
    assert step.cycle == pytest.approx((whole - 7) / 5)
    assert step.attention_idle_fraction == pytest.approx(1 - 110 / whole)
    assert step.ffn_idle_fraction == pytest.approx(1 - 5 * f / whole)
    assert model.objective(workers, step.mean, 3.0) == pytest.approx(
        workers * 4 * 2 / whole / (workers + 3)
    )
    later = model.later([1.0, 2.0]).evaluate(workers, (0.5,))
    assert later.mean == pytest.approx(whole + 2 * 1 + 3 * 2)
    told = model.resources(4.0)
    assert told == pytest.approx(
        {
            "attention": (2 * 10 + 3 * 30) / 5,
            "communication": 1.5,
            "ffn": 9.0,
            "latency": (2 * 10 + 3 * 30) / 5 + 9 + 3,
        }
    )
    assert problem.latency.kind_of_layer == (0, 0, 1, 1, 1)
    assert not model.is_stepped
    assert not model.whole_numbers


def test_a_perfect_overlap_of_two_kinds():
    _, model = bundle(overlap="ideal", microbatches=3)
    step = model.evaluate(np.array([4.0, 20.0]), (0.9,))
    assert step.mean == pytest.approx([2 * 10 + 3 * 30, 2 * 25 + 3 * 30])
    assert step.cycle == pytest.approx(step.mean / 5)
    assert "latency" not in model.resources(4.0)


def test_transfers_that_occupy_workers_are_no_computing():
    """Attention 30 is busy with half of 1.5 each way, the FFN of 9 with a quarter: m = 2."""
    coupling = Coupling(send_attention=0.5, receive_attention=0.5, send_ffn=0.25, receive_ffn=0.25)
    _, model = bundle(attention=((30.0, 5),), coupling=coupling)
    step = model.evaluate(np.array([4.0]))
    busy = 30 + 2 * 0.75
    assert step.mean == pytest.approx([5 * 2 * busy])
    assert step.attention_idle_fraction == pytest.approx([1 - 30 / busy])
    assert step.ffn_idle_fraction == pytest.approx([1 - 9 / busy])
    # In a trip what is occupied counts once.
    _, slow = bundle(attention=((30.0, 5),), coupling=coupling, microbatches=1)
    assert slow.evaluate(np.array([4.0])).mean == pytest.approx([5 * (30 + 9 + 3)])


@pytest.mark.parametrize("m", [1, 2, 3])
def test_what_a_cycle_is_made_of(m):
    """Its windows end what loads can take; loads stand still where every step begins anew."""
    curve = LinearCurve(slope=0.5, intercept=10.0)
    for window, drain in ((None, False), (6, False), (None, True)):
        kind = AttentionLayers(curve=curve, layers=4, context_window=window, time_per_request=0.25)
        plain = LatencyModel.linear(attention=(0.0, 1.0), ffn=(0.0, 1.0), layers=4)
        latency = replace(
            plain, attention=(kind,), drain=drain, scatter=Scatter(attention=0.2, law="lognormal"),
            tokens_per_step=1.5,
        )  # fmt: skip
        problem = RatioProblem(law=SHORT, latency=latency, batch_size=5, microbatches=m)
        (slot,) = problem.slot_loads()
        cycle = layer_cycle(problem, kind, slot, slot.moments.mean)
        ceiling = math.inf if window is None else m * (10 + 0.5 * 5 * 6 + 0.25 * 5)
        assert cycle._ceiling == pytest.approx(ceiling)
        assert cycle.attention_mean == pytest.approx(10 + 0.5 * 5 * slot.moments.mean + 1.25)
        assert cycle.attention_std == pytest.approx(0.5 * math.sqrt(5) * slot.moments.std)
        wanted = worker_motion(STANDING if drain else slot.motion, 5 * m, 0.5, 1.5)
        assert cycle._motion.mean_jumps == pytest.approx(wanted.mean_jumps)
        assert cycle._motion.mean_square == pytest.approx(wanted.mean_square)
        assert cycle._fresh.cv == 0.2
        assert cycle._fresh.microbatches == m
        lognormal = scattered(exact_time(slot, kind, 5), 0.2, "lognormal")
        assert cycle._fresh.jobs.once.probabilities == pytest.approx(lognormal.probabilities)
        ideal = replace(problem, overlap="ideal")
        alone = layer_cycle(ideal, kind, slot, slot.moments.mean)
        assert alone.attention_mean == pytest.approx(cycle.attention_mean)
        assert alone.attention_std == pytest.approx(lognormal.std)


def test_ages_in_turn_and_mean_loads_are_constant_cycles():
    kind = AttentionLayers(curve=LinearCurve(slope=0.5, intercept=10.0), layers=4, context_window=9)
    latency = replace(
        LatencyModel.linear(attention=(0.0, 1.0), ffn=(0.0, 1.0), layers=4), attention=(kind,)
    )
    law = IndependentLengths(prompt="fixed:7", decode="fixed:4")
    problem = RatioProblem(law=law, latency=latency, batch_size=2, phase="aligned")
    (slot,) = problem.slot_loads()
    cycle = layer_cycle(problem, kind, slot, 3.0)
    ages = cycle.slowest_microbatch(np.ones(1), np.array([0.2, 0.4, 0.6, 0.9]))[:, 0]
    assert ages.tolist() == [10 + 7, 10 + 8, 10 + 9, 10 + 9]  # 7, 8, 9 and 10 tokens, cut at 9
    field = layer_cycle(replace(problem, phase="random", method="mean-field"), kind, slot, 3.0)
    assert (field.attention_mean, field.attention_std) == (10 + 0.5 * 2 * 3, 0.0)
    assert aligned_loads(law, None).tolist() == [7.0, 8.0, 9.0, 10.0]
    many = aligned_loads(IndependentLengths(prompt="fixed:1", decode="fixed:8192"), None)
    assert many.size == 4096
    assert many[:2].tolist() == [1.5, 3.5]  # two ages each


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize(
    ("ffn", "out", "back"),
    [(4.0, 1.0, 2.0), (40.0, 1.0, 2.0), (4.0, 35.0, 2.0), (4.0, 1.0, 35.0), (20.0, 9.0, 19.0)],
)
def test_constant_layers_in_their_order_are_played(drain, m, ffn, out, back):
    """Whichever stage is the busiest: a step is that of the schedule, stage by stage."""
    problem, _ = bundle(drain=drain, microbatches=m)
    latency = replace(
        problem.latency,
        ffn=LinearCurve(slope=0.0, intercept=ffn),
        send=Transfer(curve=LinearCurve(slope=0.0, intercept=out)),
        receive=Transfer(curve=LinearCurve(slope=0.0, intercept=back)),
    )
    problem = replace(problem, latency=latency)
    model = CycleModel(problem, problem.slot_loads())
    step = model.evaluate(np.array([2.0]), (0.5,))
    times = np.array([10.0, 30.0])[:, None, None] * np.ones((2, m, 2))
    expected = played_steps(times, (0, 0, 1, 1, 1), ffn, out, back, is_drained=drain)
    assert step.mean == pytest.approx([expected], rel=1e-9 if drain else 0.02)
    assert step.quantiles[0, 0] == pytest.approx(step.mean[0], rel=1e-9)
