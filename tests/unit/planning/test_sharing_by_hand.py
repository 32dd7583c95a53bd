"""Devices shared between prefill and decoding by hand: rates are those of round numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.planning import service_sharing as sharing
from afdplan.planning.colocated import Colocated
from afdplan.planning.design import Design, StepSummary
from afdplan.planning.first_token import PrefillPool
from afdplan.planning.limits import Limits
from afdplan.planning.service import Service
from afdplan.planning.service_limits import _within_time, one_more


class Pool:
    """Workers of some devices and a rate each; slots carry what their side finishes."""

    def __init__(self, rate=1.0, devices=2, bursts=0.0):
        self.rate_of_worker, self.bursts = rate, bursts
        self.model = SimpleNamespace(devices=devices)

    def most_rate(self, workers, side=None):
        able = workers * self.rate_of_worker
        return able if side is None else min(able, side.requests_per_second)

    def fewest_workers(self, rate, side):
        """As many as compute the rate, and more where few slots are free."""
        spare = side.requests_per_second / rate
        if spare < 1:
            return None
        return max(round(rate / self.rate_of_worker + 0.499999 + self.bursts / spare**8), 1)


def group(rate=3.0, ranks=2, devices=2, cost=4.0):
    return Colocated(
        replicas=1, ranks=ranks, devices_per_rank=devices, batch_size=8, two_batch_overlap=False,
        step_time=StepSummary(mean=0.1, p50=0.1, p95=0.1, p99=0.1), tokens_per_step=1.0,
        tokens_per_second=10 * rate, requests_per_second=rate, cost=cost, score=1.0,
        memory_overflow_probability=0.0, held_overflow_probability=0.0,
    )  # fmt: skip


class Decode:
    """Devices that decode so many requests a second each, from some number of them on."""

    def __init__(self, each=0.5, least=2):
        self.each, self.least, self.asked = each, least, []

    def __call__(self, devices):
        self.asked.append(devices)
        if devices < self.least:
            return None
        return SimpleNamespace(requests_per_second=self.each * devices, devices=devices)


EVEN = SimpleNamespace(least_reading=lambda base, sizes: (1.0, None))
"""Reading takes as long at every batch size."""


@pytest.mark.parametrize(
    ("devices", "each", "least", "workers", "rate", "asked"),
    [
        # Nine of 19 are tried first; both sides meet at P = (40 - 2 P) / 2, which is 10.
        (40, 0.5, 2, 10, 10.0, [22, 20]),
        # At P = (41 - 2 P) / 4: 6.8 of them, 7 of which leave 27 devices.
        (41, 0.25, 2, 7, 6.75, [23, 27]),
        # 30 devices decode at least: five workers are the most beside them.
        (40, 0.5, 30, 5, 5.0, None),
        (3, 0.5, 2, 0, 0.0, []),
        (4, 0.5, 2, 1, 1.0, [2]),
        (4, 0.5, 3, 0, 0.0, [2]),
        # What does not fit four devices fits no fewer: they are not asked for.
        (6, 0.5, 5, 0, 0.0, [4]),
    ],
)
def test_a_budget_is_split_where_both_sides_carry_as_much(
    devices, each, least, workers, rate, asked
):
    decode = Decode(each, least)
    found = sharing.most_split([Pool()], devices, decode)
    assert (found.workers, found.rate) == (workers, rate) if workers else found is None
    if found is not None:
        assert found.decode.devices == devices - 2 * workers
    if asked is not None:
        assert decode.asked == asked
    assert len(decode.asked) <= 8


def test_of_equal_rates_the_fewest_devices_are_taken():
    """Decoding does one request a second: two workers of one device are less than one of three."""
    decode = Decode(0.5, 2)
    found = sharing.most_split([Pool(1.0, 3), Pool(1.0, 1)], 6, lambda _: decode(2))
    assert (found.pool.model.devices, found.rate, found.devices) == (1, 1.0, 4)


@pytest.mark.parametrize(
    ("devices", "groups", "workers", "rate"),
    [(28, 3, 8, 8.0), (30, 3, 9, 9.0), (8, 1, 2, 2.0), (6, 1, 1, 1.0), (5, None, 0, 0.0)],
)
def test_ranks_take_the_groups_that_carry_most(devices, groups, workers, rate):
    """Groups of four devices and 3 requests/s, workers of two devices and 1 request/s."""
    found = sharing.most_ranks([Pool()], devices, [group()])
    assert (found is None) is (groups is None)
    if found is not None:
        assert (found.decode.replicas, found.workers, found.rate) == (groups, workers, rate)


def limits(rate=10.0, **changes):
    return Limits(**{"requests_per_second": rate} | changes)


class Sides:
    """Decode sides that finish what is asked at 2 of cost for each request a second."""

    def __init__(self, most=1e9, more=1.0):
        self.most, self.more, self.asked = most, more, []

    def __call__(self, limits):
        self.asked.append(limits.requests_per_second)
        rate = self.more * limits.requests_per_second
        if rate > self.most:
            return None
        return SimpleNamespace(requests_per_second=rate, cost=2 * rate, devices=int(2 * rate))


def test_the_cheapest_workers_in_front_of_ever_larger_decode_sides():
    """Ten workers compute ten a second; bursts take ten more, fewer the more slots are free.

    A decode side of x times the rate costs 20 x and takes 10 + 10 / x^8 workers of 2 devices at 3
    each: from 140 at x = 1 down to a least where 20 x rises faster, at about 1.4.
    """
    sides = Sides()
    found = sharing.cheapest_split([Pool(bursts=10.0)], limits(), sides, 3.0)
    steps = [1.05**k for k in range(len(sides.asked))]
    assert [rate / 10 for rate in sides.asked] == pytest.approx(steps, rel=1e-6)
    costs = {
        x: 20 * x + 6 * max(round(10.499999 + 10 / x**8), 1) for x in steps
    }  # fmt: skip
    best = min(costs, key=costs.get)
    assert found.decode_factor == pytest.approx(best)
    assert (found.rate, found.decode.cost) == (10.0, pytest.approx(20 * best))
    # No larger side is asked for once it costs, with ten workers, as much as the best.
    assert 20 * steps[-1] + 60 >= costs[best] > 20 * steps[-2] + 60


def test_decode_sides_end_at_three_times_the_rate_or_where_there_is_none():
    sides = Sides()
    dear = sharing.cheapest_split([Pool(bursts=1e6)], limits(), sides, 1.0)
    assert sides.asked[-1] <= 30.0 < sides.asked[-1] * 1.06
    assert dear.decode_factor == pytest.approx(sides.asked[-1] / 10)
    few = Sides(most=10.0)
    found = sharing.cheapest_split([Pool(bursts=5.0)], limits(), few, 1.0)
    assert (found.decode_factor, few.asked) == (1.0, [10.0, 10.5])
    assert sharing.cheapest_split([Pool()], limits(), Sides(most=9.0), 1.0) is None
    # A side that gives twice what is asked spares the steps that it would be found at again.
    twice = Sides(more=2.0)
    sharing.cheapest_split([Pool(bursts=100.0)], limits(), twice, 1.0)
    assert twice.asked[:2] == pytest.approx([10.0, 20.0])


def test_a_margin_is_computed_by_more_workers_and_devices_bound_them():
    one = sharing.cheapest_split([Pool()], limits(margin=0.1), Sides(more=1.1), 1.0)
    assert (one.workers, one.rate) == (11, 10.0)
    fit = sharing.cheapest_split([Pool()], limits(devices=40), Sides(), 1.0)
    assert fit.devices == 40
    assert sharing.cheapest_split([Pool()], limits(devices=39), Sides(), 1.0) is None
    # Of two kinds the cheaper; one whose least is no better is not asked.
    asked = []

    class Dear(Pool):
        def fewest_workers(self, rate, side):
            asked.append(rate)
            return 99

    both = sharing.cheapest_split([Pool(2.0), Dear(1.0)], limits(), Sides(), 1.0)
    assert (both.workers, both.pool.rate_of_worker) == (5, 2.0)
    assert asked == [10.0]
    kinds = [Pool(1.0, 2), Pool(2.0, 1), Pool(0.3, 1)]
    assert sharing.least_cost(kinds, 10.0, 2.0) == 10.0
    assert sharing.least_cost(kinds[2:], 0.9, 1.0) == 3.0


@pytest.mark.parametrize(("bursts", "groups", "factor"), [(0.0, 4, 1.0), (40.0, 5, 1.5)])
def test_the_fewest_groups_of_ranks_or_more_that_spare_workers(bursts, groups, factor):
    """Groups of 3 requests/s and a cost of 4: four of them carry ten a second."""
    found = sharing.cheapest_ranks([Pool(bursts=bursts)], limits(), [group()], 1.0)
    costs = {
        n: 4 * n + 2 * max(round(10.499999 + bursts / (0.3 * n) ** 8), 1) for n in range(4, 13)
    }  # fmt: skip
    assert found.decode.replicas == groups == min(costs, key=costs.get)
    assert found.decode_factor == pytest.approx(factor)
    # It is planned for no more than its groups carry: else one more would be taken.
    assert found.decode_factor * 10.0 <= found.decode.requests_per_second
    wide = group(rate=9.0, ranks=4, cost=5.0)
    assert sharing.cheapest_ranks([Pool()], limits(), [group(), wide], 1.0).decode.ranks == 4
    exact = sharing.cheapest_ranks([Pool()], limits(rate=9.0), [group()], 1.0)
    assert exact.decode.replicas == 3


@pytest.mark.parametrize(
    ("most", "found", "tried"),
    [(16, 16, [16]), (9, 9, [16, 8, 12, 10, 9]), (1, 1, [16, 8, 4, 2, 1]), (0, None, None),
     (15, 15, [16, 8, 12, 14, 15])],
)  # fmt: skip
def test_the_largest_batch_that_meets_the_time(most, found, tried):
    asked = []

    def describe(design, limits):
        asked.append(design.batch_size)
        time = 1.0 if design.batch_size <= most else 2.0
        return SimpleNamespace(design=design, token_time=lambda _: time)

    design = Design(
        bundles=1, attention_workers=3, ffn_workers=1, batch_size=16, microbatches=1
    )  # fmt: skip
    inside = Limits(devices=8, time_per_output_token=1.0)
    best = _within_time(SimpleNamespace(describe=describe, models=EVEN), design, inside)
    assert (best and best.design.batch_size) == found
    if tried:
        assert asked == tried


class Carries(PrefillPool):
    """Prefill of one prompt a second and worker that carries up to a share of that."""

    rate_of_worker = 1.0

    def __init__(self, share=1.0, prompts=40, slots=1e9, late=0):
        self.share, self.slots, self.late, self.asked = share, slots, late, []
        self.traffic = SimpleNamespace(prompts=np.zeros(prompts), decodes=np.full(4, 10.0))

    def carries(self, workers, rate, decode=None):
        self.asked.append((workers, rate))
        return rate <= min(self.share * (workers - self.late), self.slots)


@pytest.mark.parametrize(
    ("rate", "late", "fewest", "asked"),
    [
        (3.0, 0, 3, [42, 3]), (3.5, 0, 4, [43, 4]), (0.5, 0, 1, [40, 1]),
        (3.0, 1, 4, [42, 3, 4]), (3.0, 3, 6, [42, 3, 4, 6, 5]),
        (3.0, 9, 12, [42, 3, 4, 6, 10, 18, 14, 12, 11]), (3.0, 39, 42, None),
        (3.0, 40, None, [42]),
    ],
)  # fmt: skip
def test_workers_are_doubled_and_halved(rate, late, fewest, asked):
    """A number of workers stands idle: the others compute one prompt a second each."""
    pool = Carries(late=late)
    assert pool.fewest_workers(rate) == fewest
    if asked:
        assert [workers for workers, _ in pool.asked] == asked


def test_a_rate_is_halved_until_it_is_carried():
    assert Carries().most_rate(3) == 3.0
    pool = Carries(share=0.3)
    assert pool.most_rate(4) == pytest.approx(1.2, rel=1e-4)
    assert pool.most_rate(4) <= 1.2
    assert [rate for _, rate in pool.asked[:5]] == [4.0, 4.0, 2.0, 1.0, 2**0.5]
    assert Carries(share=1e-8).most_rate(1) == pytest.approx(1e-8, rel=1e-4)
    assert Carries(share=4e-10).most_rate(1) == 0.0
    assert Carries().most_rate(0) == 0.0
    side = SimpleNamespace(slots=8, time_per_output_token=0.4)
    assert Carries().most_rate(9, side) == 2.0
    assert Carries().most_rate(1, side) == 1.0


def test_one_step_more_takes_the_next_number_of_ffn_workers():
    """Of 1, 4 and 8 the next after one is four: three FFN workers of two devices in each bundle."""
    asked = []

    def numbers(most):
        asked.append(most)
        return (1, 4, 8)

    def describe(design, _):
        able = 1.5 * design.ffn_workers + 0.5 * design.attention_workers
        return SimpleNamespace(
            design=design, devices=design.devices, requests_per_second=able,
            token_time=lambda _: 1.0,
        )  # fmt: skip

    design = Design(
        bundles=2, attention_workers=3, ffn_workers=1, batch_size=8, microbatches=1, ffn_devices=2
    )
    search = SimpleNamespace(source=SimpleNamespace(ffn_workers=numbers), describe=describe)
    chosen = describe(design, None)
    plan = SimpleNamespace(recommended=chosen, planned_limits=Limits(devices=40))
    service = Service(
        plan=plan, pool=Pool(2.0), workers=2, rate=3.0, first_token=None, devices=40,
        limits=Limits(devices=40),
    )  # fmt: skip
    steps = {step.side: step for step in one_more(service, search)}
    assert asked == [66]
    assert steps["FFN"].change == "3 FFN workers in each of 2 bundles"
    assert (steps["FFN"].devices, steps["FFN"].rate) == (12, 4.0)
    assert steps["attention"].gain == pytest.approx(3.5 / 3 - 1)
    assert steps["prefill"].gain == 0.0
    search.source.ffn_workers = lambda _: (1,)
    assert {step.side for step in one_more(service, search)} == {"prefill", "attention"}


def test_after_eight_guesses_intervals_are_halved():
    """Only 190 of 200 devices decode: 49 workers and ever one fewer, then halves down to five."""
    decode = Decode(0.5, 190)
    found = sharing.most_split([Pool()], 200, decode)
    assert (found.workers, found.rate) == (5, 5.0)
    tried = [(200 - devices) // 2 for devices in decode.asked]
    assert tried == [*range(49, 41, -1), 21, 10, 5, 7, 6]


def test_many_groups_are_added_by_a_twentieth():
    """A hundred groups carry 300 requests/s; tried are 100, 105, 111, ... of them."""
    tried = [100]
    while tried[-1] <= 300:
        tried.append(-(-tried[-1] * 21 // 20))
    bursts = 1800.0
    costs = {
        n: 4 * n + 2 * max(round(300.499999 + bursts / (n / 100) ** 8), 1)
        for n in tried if n <= 300
    }  # fmt: skip
    asked = []

    class Asked(Pool):
        def fewest_workers(self, rate, side):
            asked.append(side.replicas)
            return super().fewest_workers(rate, side)

    found = sharing.cheapest_ranks([Asked(bursts=bursts)], limits(rate=300.0), [group()], 1.0)
    assert found.decode.replicas == min(costs, key=costs.get) > 111
    assert asked == tried[: len(asked)]
    assert len(asked) > 3


def test_ranks_are_climbed_to_from_where_both_sides_meet():
    """On 28 devices 2.8 groups of four meet workers of two: three, two and four are asked."""
    asked = []

    class Asked(Pool):
        def most_rate(self, workers, side=None):
            asked.append(workers)
            return super().most_rate(workers, side)

    sharing.most_ranks([Asked()], 28, [group()])
    assert asked == [8, 10, 6]

    class Never(Pool):
        def most_rate(self, workers, side=None):
            return 0.0

    assert sharing.most_ranks([Never()], 28, [group()]) is None


def test_one_group_more_of_ranks():
    """Three groups of 3 requests/s behind workers enough: a fourth carries a third more."""
    chosen = sharing.multiplied(group(), 3)
    plan = SimpleNamespace(recommended=chosen, planned_limits=Limits(devices=40))
    service = Service(
        plan=plan, pool=Pool(2.0), workers=50, rate=9.0, first_token=None, devices=40,
        limits=Limits(devices=40),
    )  # fmt: skip
    assert service.unique_fraction == 1.0
    (decode, _) = one_more(service, None)
    assert (decode.side, decode.devices, decode.rate) == ("decode", 4, 12.0)
    assert decode.gain == pytest.approx(1 / 3)


@pytest.mark.parametrize(("by_groups", "groups"), [(True, 6), (False, 1)])
def test_ranks_are_climbed_to_either_side(by_groups, groups):
    """From three groups to six, beside which two workers are left, or down to one."""

    class Slope(Pool):
        def most_rate(self, workers, side=None):
            return float(side.replicas if by_groups else workers)

    assert sharing.most_ranks([Slope()], 28, [group()]).decode.replicas == groups
