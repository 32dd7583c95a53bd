"""Is the overflow probability that of the exact sum?"""

from itertools import pairwise, product

import numpy as np
import pytest

from afdplan.calibration.memory import CacheKind
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums


def memory_of(law, space):
    return CacheMemory(CacheSums(law, space.kinds), space)


def test_overflow_equals_enumeration():
    law = EmpiricalLengths(Trace(prompt_tokens=[2, 9, 30], decode_tokens=[3, 1, 2]))
    loads = [2, 3, 4, 9, 30, 31]  # one per decode step, all equally likely
    for capacity in (8, 20, 47.5, 61, 92):
        over = [sum(c) > capacity for c in product(loads, repeat=3)]
        found = memory_of(law, CacheSpace.tokens(capacity)).overflow_probability(3)
        assert found == pytest.approx(np.mean(over), abs=1e-12)


def test_windowed_layers_take_less():
    law = EmpiricalLengths(Trace(prompt_tokens=[2, 9, 30], decode_tokens=[3, 1, 2]))
    kinds = (CacheKind(10.0, None), CacheKind(30.0, 4))
    loads = [2, 3, 4, 9, 30, 31]
    sizes = [10 * y + 30 * min(y, 4) for y in loads]
    for capacity in (300.0, 505.0, 777.0):
        over = [sum(c) > capacity for c in product(sizes, repeat=2)]
        space = CacheSpace(capacity=capacity, kinds=kinds)
        assert memory_of(law, space).overflow_probability(2) == pytest.approx(
            np.mean(over), abs=1e-9
        )


def test_more_slots_overflow_more():
    law = IndependentLengths(prompt="geometric:300", decode="uniform:1..600")
    memory = memory_of(law, CacheSpace.tokens(50_000.0))
    chances = [memory.overflow_probability(s) for s in range(20, 160, 20)]
    assert all(b >= a - 1e-13 for a, b in pairwise(chances))
    most = memory.most_requests(1e-3)
    assert memory.overflow_probability(most) <= 1e-3 < memory.overflow_probability(most + 1)
    assert memory.most_requests(1e-3, most=most - 1) == most - 1
    assert memory.most_requests(1e-3, most=10 * most) == most


def test_two_loads_of_a_slot_are_two_under_a_window_too():
    """Loads 100 and 101 take 75 and 75.5 where half of the layers see 50: of two slots, 3 of 4."""
    law = IndependentLengths(prompt="fixed:100", decode="fixed:2")
    sums = CacheSums(law, (CacheKind(1.0, None), CacheKind(1.0, 50)))
    assert sums.exceedance(2, 149.9) == 1.0
    assert sums.exceedance(2, 150.25) == pytest.approx(0.75)
    assert sums.exceedance(2, 150.75) == pytest.approx(0.25)
    assert sums.exceedance(2, 151.0) == 0.0


@pytest.mark.parametrize("probability", [1e-6, 1e-3, 0.1, 0.5])
@pytest.mark.parametrize("prompt", ["geometric:300", "uniform:100..900"])
def test_few_sums_are_needed_to_find_the_most_requests(prompt, probability):
    """The expansion to the skewness begins next to the end: a worse one would take more sums."""
    law = IndependentLengths(prompt=prompt, decode="fixed:1")
    memory = memory_of(law, CacheSpace.tokens(60_000.0))
    most = memory.most_requests(probability)
    assert memory.overflow_probability(most) <= probability
    assert memory.overflow_probability(most + 1) > probability
    assert len(memory._sums._sums) <= 3
    assert memory.most_requests(probability, 0.5) < 0.55 * most


def test_what_shares_and_scales_of_a_space_hold():
    law = IndependentLengths(prompt="fixed:100", decode="fixed:1")
    space = CacheSpace(capacity=1000.0, kinds=(CacheKind(2.0, None), CacheKind(3.0, 50)))
    assert memory_of(law, space).mean_fraction(2) == pytest.approx(2 * (2 * 100 + 3 * 50) / 1000)
    assert memory_of(law, space).most_requests(0.0) == 2
    assert memory_of(law, space.scaled(2.0)).most_requests(0.0) == 5
    assert memory_of(law, space.sharing(0.5)).most_requests(0.0) == 5
    assert memory_of(law, space.sharing(0.5)).mean_fraction(2) == pytest.approx(0.35)
    assert memory_of(law, space).overflow_probability(2, 0.70) == 0.0
    assert memory_of(law, space).overflow_probability(2, 0.69) == 1.0
    assert memory_of(law, CacheSpace.tokens(99.0)).most_requests(0.0) == 0
    assert memory_of(law, CacheSpace.tokens(1e12)).most_requests(0.0) == 131_072


def test_windows_below_every_load_hold_the_same_of_all_requests():
    """At least ten tokens of each: five and twice three are kept of every one."""
    law = IndependentLengths(prompt="uniform:10..20", decode="fixed:2")
    kinds = (CacheKind(1.0, 5), CacheKind(2.0, 3))
    memory = memory_of(law, CacheSpace(capacity=22.0, kinds=kinds))
    assert memory.mean_fraction(2) == pytest.approx(1.0)
    assert (memory.overflow_probability(2), memory.overflow_probability(3)) == (0.0, 1.0)
    assert memory_of(law, CacheSpace(capacity=21.9, kinds=kinds)).overflow_probability(2) == 1.0
    slot = CacheSums(law, kinds).slot
    assert (slot.probabilities.tolist(), slot.lowest) == ([1.0], pytest.approx(11 / 3))
