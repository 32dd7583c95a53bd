"""The gain of moving loads against brute force: longest paths, and schedules stage by stage."""

import math
from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.lengths.load_motion import LoadMotion
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.theory.cycle import CycleModel
from afdplan.theory.moving_load import (
    DIFFUSIVE,
    WorkerMotion,
    followed_share,
    moving_load_gain,
    worker_motion,
)
from afdplan.theory.pipeline import RoundLawTable
from afdplan.theory.problem import RatioProblem
from tests.unit.theory.schedule import mean_rounds


@pytest.mark.parametrize(
    ("detour", "rate"), [(1.0, 0.1), (10.0, 0.1), (10.0, 0.5), (10.0, 2.0), (100.0, 2.0)]
)
def test_share_that_is_followed_is_that_of_the_longest_path(detour, rate):
    """Two resources whose difference jumps; the path pays `detour` per change."""
    generator = np.random.default_rng(3)
    reach = max(25.0, 6 * (2 * detour * rate) ** (1 / 3))
    lanes, steps, warm = 2048, 1200, 300
    x = generator.uniform(-reach, reach, lanes)
    lead = np.zeros(lanes)
    frozen = followed = size = square = 0.0
    for k in range(steps):
        jumps = generator.poisson(rate, lanes)
        move = np.zeros(lanes)
        for n in range(int(jumps.max())):
            live = jumps > n
            signs = generator.choice((-1.0, 1.0), int(live.sum()))
            move[live] += signs * generator.exponential(1.0, signs.size)
        x = x + move
        x = np.where(x > reach, 2 * reach - x, np.where(x < -reach, -2 * reach - x, x))
        lead = np.clip(lead, -detour, detour) + x
        if k >= warm:
            followed += np.maximum(lead - detour, 0.0).sum()
            frozen += np.maximum(x, 0.0).sum()
            size += np.abs(move).sum()
            square += (move**2).sum()
    count = lanes * (steps - warm)
    size, square = size / count, square / count
    seen = (frozen - followed) / count / (detour * size / (2 * reach))
    assert float(followed_share(detour * size**3 / square**2)) == pytest.approx(seen, rel=0.09)


@pytest.mark.parametrize(
    ("workers", "batch", "m", "f", "decode"),
    [(8, 4, 4, 100.0, 60), (8, 16, 4, 100.0, 60), (32, 4, 3, 100.0, 60), (8, 4, 2, 60.0, 25)],
)
def test_mean_round_is_that_of_a_schedule_whose_loads_move(workers, batch, m, f, decode):
    """Slots of geometric requests, played stage by stage (not by the product's simulator)."""
    generator = np.random.default_rng(7)
    prompt, transfer = 200, 5.0
    load = batch * (prompt + decode - 1)
    slope, intercept = 70.0 / load, 30.0
    shape = (workers, m, batch)
    prompts = generator.geometric(1 / prompt, shape)
    ages = generator.geometric(1 / decode, shape) - 1

    def times(_):
        nonlocal prompts, ages
        ended = generator.random(shape) < 1 / decode
        prompts = np.where(ended, generator.geometric(1 / prompt, shape), prompts)
        ages = np.where(ended, 0, ages + 1)
        return intercept + slope * (prompts + ages).sum(axis=2)

    seen, frozen = mean_rounds(times, workers, m, f, transfer, transfer, 12_000)
    latency = LatencyModel.linear(
        attention=(slope, intercept), ffn=(0.0, f), transfer=(0.0, transfer)
    )
    problem = RatioProblem(
        law=IndependentLengths(prompt=f"geometric:{prompt}", decode=f"geometric:{decode}"),
        latency=latency,
        batch_size=batch,
        microbatches=m,
    )
    model = CycleModel(problem, problem.slot_loads())
    step = model.evaluate(np.array([float(workers)]))
    table = RoundLawTable(model._cycles[0]._law, m)
    trip = np.array([f + 2 * transfer])
    stated = table.evaluate(
        np.array([float(workers)]), longest_delay=trip, floor=np.array([m * f])
    ).mean[0]
    # The same requests with frozen loads: what is left is what moving gains.
    gain = (frozen - seen) / seen
    assert gain > 0.01  # power: the band is well below what is to be found
    assert (stated - float(step.mean[0])) / seen == pytest.approx(gain, abs=0.004)


def gain_of(times=1.0, **changes):
    points = np.linspace(0.0, 1.0, 400, endpoint=False)
    weights = np.exp(-((points - 0.5) ** 2) / 0.02)
    options = {
        "attention_workers": np.array([1.0, 1.5, 2.0, 8.0, 64.0]),
        "microbatches": 4,
        "layers": 1,
        "floor": np.full(5, 4.0 * times),
        "trip": np.full(5, 2.1 * times),
        **changes,
    }
    edges = 3.6 * times + 0.8 * times * np.append(points, 1.0)
    cumulative = np.insert(np.cumsum(weights) / weights.sum(), 0, 0.0)
    motion = WorkerMotion(
        jumps=0.05,
        evenness=1.0,
        mean_jumps=0.01 * times,
        mean_growth=0.01 * times,
        mean_square=0.001 * times**2,
    )
    return moving_load_gain(edges, cumulative, motion, **options)


def test_the_gain_has_the_unit_of_time():
    np.testing.assert_allclose(gain_of(1000.0), 1000.0 * gain_of(), rtol=1e-9)


def test_more_rounds_per_step_gain_less_and_one_microbatch_nothing():
    assert (gain_of() > 0).all()
    assert (gain_of(layers=10) < gain_of()).all()
    assert (gain_of(microbatches=1) == 0).all()


def test_a_trip_that_is_as_long_as_the_work_leaves_no_detour():
    assert (gain_of(trip=np.full(5, 3.4)) == 0).all()


def test_far_from_the_ties_nothing_is_gained():
    assert (gain_of(floor=np.full(5, 9.0)) < 1e-12).all()


def test_motion_of_a_worker_adds_up_its_slots():
    slot = LoadMotion(
        renewal_rate=0.01, mean_jump=-100.0, mean_absolute_jump=100.0, mean_square_jump=2e4
    )
    motion = worker_motion(slot, 8, 0.5, 1.0)
    assert motion.mean_jumps == pytest.approx(8 * 0.01 * 100 * 0.5)
    assert motion.mean_growth == pytest.approx(8 * 0.5)  # a token per slot and step
    assert motion.mean_square == pytest.approx(8 * (0.01 * 2e4 - 1) * 0.25)
    twice = worker_motion(slot, 8, 0.5, 2.0)
    assert twice.mean_jumps == pytest.approx(2 * motion.mean_jumps)


def test_jumps_of_very_different_sizes_change_places_less_often():
    even, uneven = (
        worker_motion(
            LoadMotion(
                renewal_rate=0.01,
                mean_jump=-100.0,
                mean_absolute_jump=100.0,
                mean_square_jump=square,
            ),
            8,
            0.5,
            1.0,
        ).evenness
        for square in (2e4, 2e6)
    )
    assert even == pytest.approx(1.0)
    assert uneven < 0.01


def test_a_kind_whose_time_never_varies_costs_its_time_in_any_unit():
    """A window that every prompt fills: no step is negative, none depends on the unit."""
    law = IndependentLengths(prompt="uniform:1000..3000", decode="geometric:100")

    def step(unit):
        curve = LinearCurve(slope=1e-9 * unit, intercept=30e-6 * unit)
        plain = LatencyModel.linear(
            attention=(1e-9 * unit, 30e-6 * unit),
            ffn=(0.0, 80e-6 * unit),
            transfer=(0.0, 5e-6 * unit),
        )
        kinds = (
            AttentionLayers(curve=curve, layers=10),
            AttentionLayers(curve=curve, layers=10, context_window=256),
        )
        problem = RatioProblem(
            law=law, latency=replace(plain, attention=kinds), batch_size=16, microbatches=4
        )
        model = CycleModel(problem, problem.slot_loads())
        return float(model.evaluate(np.array([8.0])).mean[0])

    assert step(1.0) >= 20 * 4 * 80e-6
    assert step(1e6) == pytest.approx(1e6 * step(1.0), rel=1e-9)


def test_full_windows_are_alike_and_have_no_ties_to_follow():
    assert (gain_of(ceiling=4.2) < gain_of())[1:].all()  # one worker ties with the floor alone
    np.testing.assert_allclose(gain_of(ceiling=9.0), gain_of())


def test_one_worker_ties_with_the_floor_only():
    alone = gain_of(attention_workers=np.ones(5), floor=np.zeros(5))
    assert (alone == 0).all()
    assert (gain_of(attention_workers=np.full(5, 2.0), floor=np.zeros(5)) > 0).all()


def _gain_by_hand(ties, detour, jump, evenness, size, square, layers):
    """Return what ties at single places cost, in the words of the documentation."""
    density = sum(ties)
    moved = 1 / math.sqrt(1 / size**2 + math.pi / (2 * square))
    spread = math.sqrt(square)
    cost = 0.0
    for tie, s in zip(ties, detour, strict=True):
        z = max(s, 0.0) / layers * moved**3 / spread**4
        cost += tie * max(s, 0.0) * (1 + DIFFUSIVE * z**0.75) ** (-4 / 9)
    changed = 1 - (1 + density * jump / evenness) ** -evenness
    return cost * min(moved * changed / jump, 1.0) / density


@pytest.mark.parametrize("workers", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("floor", [0.0, 2.25, 3.5, 9.0])
def test_the_gain_of_moving_loads_by_hand(workers, floor):
    """Rounds of 1 to 4 s, with chances 0.2, 0.3, 0.5 in each second; two microbatches."""
    motion = WorkerMotion(jumps=4.0, mean_jumps=0.8, mean_growth=0.1, evenness=2.0, mean_square=0.3)
    times, cumulative = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.2, 0.5, 1.0])
    layers, trip, m = 10, 0.4, 2
    found = moving_load_gain(
        times, cumulative, motion, attention_workers=np.array([workers]), microbatches=m,
        layers=layers, floor=np.array([floor]), trip=np.array([trip]),
    )  # fmt: skip
    middles, density, below = np.array([1.5, 2.5, 3.5]), (0.2, 0.3, 0.5), (0.1, 0.35, 0.75)
    a = workers
    among, detour = [], []
    for t, g, cdf in zip(middles, density, below, strict=True):
        if t > floor:
            among.append(max(a * (a - 1) / 2, 0.0) * cdf ** max(a - 2, 0) * g**2)
            detour.append(t / 2 - trip)
    gain = 0.0
    if sum(among):
        gain += _gain_by_hand(among, detour, 0.2, 2.0, 2 * 0.8, 2 * 0.3, layers)
    if 1.5 <= floor <= 3.5:
        g, cdf = np.interp(floor, middles, density), np.interp(floor, middles, below)
        gain += _gain_by_hand(
            [a * g * cdf ** (a - 1)], [(floor / 2 - trip) / 2], 0.2, 2.0, 0.8 + 0.1, 0.3, layers
        )
    assert found == pytest.approx([gain / layers], rel=1e-9)


@pytest.mark.parametrize(("points", "gains"), [(2, False), (3, True)])
def test_a_law_of_two_cells_is_enough(points, gains):
    motion = WorkerMotion(jumps=4.0, mean_jumps=0.8, mean_growth=0.1, evenness=2.0, mean_square=0.3)
    asked = {
        "attention_workers": np.array([3.0]), "microbatches": 2, "layers": 10,
        "floor": np.array([1.0]), "trip": np.array([0.4]),
    }  # fmt: skip
    times, cumulative = np.linspace(2.0, 4.0, points), np.linspace(0.0, 1.0, points)
    found = moving_load_gain(times, cumulative, motion, **asked)
    assert bool(found[0] > 0) is gains
    still = replace(motion, mean_square=0.0)
    assert moving_load_gain(times, cumulative, still, **asked).tolist() == [0.0]
    alone = moving_load_gain(times, cumulative, motion, **(asked | {"microbatches": 1}))
    assert alone.tolist() == [0.0]
