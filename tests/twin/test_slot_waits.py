"""Do the waits of a plan equal those of the compiled queue, which shares no code with them?"""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.planning.waiting import slot_waits
from afdplan.simulation.service_queue import slot_starts


@pytest.mark.parametrize("slots", [1, 7, 500, 5000])
def test_waits_equal_those_of_the_compiled_queue(slots: int) -> None:
    rng = np.random.default_rng(slots)
    arrivals = np.sort(rng.uniform(0, 100, 2000))
    arrivals[10:20] = arrivals[10]
    holds = rng.exponential(0.06 * slots, 2000)
    starts = slot_starts(arrivals, holds, slots)
    assert np.array_equal(slot_waits(arrivals, holds, slots), starts - arrivals)
    assert (starts > arrivals).any() == (slots < 2000)
