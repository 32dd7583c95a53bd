"""The score and the number of bundles, worked by hand."""

from dataclasses import dataclass

import numpy as np
import pytest

from afdplan.planning.limits import TIE, Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.score import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class WithFee(DeviceCost):
    def of(self, attention_devices, ffn_devices):
        return 12.0 + DeviceCost.of(self, attention_devices, ffn_devices)


SCORE = Score(cost=WithFee(attention=1.0, ffn=2.0), tokens_per_request=100.0)


def bundles(unit, most, **limits):
    """Return the number of bundles of 3 attention and 1 FFN device (5.0) with 70 tokens/s."""
    return SCORE.bundles(70.0, 3, 1, unit, np.array(most), Limits(**limits)).tolist()


def test_what_a_most_cost_pays_for_in_groups_of_two():
    """A fee of 12 and 10 a group: 45 pays for 3 groups, 42 for just 3, 41.9 for 2, 11 for none."""
    assert [bundles(2, 9, most_cost=cost) for cost in (45, 42, 41.9, 11)] == [6, 6, 4, 0]
    assert bundles(2, 4, most_cost=45, devices=16) == 4  # the budget of devices allows no more


def test_as_few_groups_as_reach_a_rate():
    """2 requests/s are 200 tokens/s: 3 bundles of 70, or 2 groups of 2; at least one group."""
    assert [bundles(unit, 9, requests_per_second=2.0) for unit in (1, 2)] == [3, 4]
    assert bundles(2, 9, requests_per_second=0.01) == 2
    assert bundles(1, 9, devices=40) == 9
    # What only rounding keeps from being reached is reached; what is truly more is not.
    assert bundles(1, 9, requests_per_second=2.1 * (1 + TIE / 2)) == 3
    assert bundles(1, 9, requests_per_second=2.1 * (1 + TIE * 3)) == 4


def test_the_ceiling_is_one_group_that_reaches_the_rate():
    """One group of 2: 12 + 6 * 1 + 2 * 2 = 22 for the 200 tokens/s that are asked for."""
    rate = Limits(requests_per_second=2.0)
    assert SCORE.ceiling(3, 1, np.array([2, 1]), rate) == pytest.approx([200 / 22, 200 / 17])
    assert np.isposinf(SCORE.ceiling(3, 1, np.array([2, 1]), Limits(devices=8))).all()


def test_idle_devices_of_a_budget_are_paid_for_at_the_cheaper_side():
    """13 devices, 2 bundles of 4: 12 + 6 + 4 and 5 idle ones at 1.0."""
    assert SCORE.value(140.0, 6, 2, Limits(devices=13)) == pytest.approx(140 / (22 + 5))
    assert SCORE.bound(70.0, 3, 2) == 10.0  # no fee: nothing can be better
