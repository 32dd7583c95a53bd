"""Does a prefill worker take what its chunks and causal pairs take, one by one?"""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.errors import AfdplanError
from afdplan.model.curve import LinearCurve, RooflineCurve
from afdplan.model.prefill import PairCost, PrefillModel, causal_pairs

MODEL = PrefillModel(
    name="x",
    compute=RooflineCurve(floor=0.02, slope=2e-5),
    pairs=(PairCost(time=1e-9), PairCost(time=3e-9, window=300)),
    chunk_tokens=1000,
    transfer_per_token=1e-6,
    transfer_latency=1e-3,
)


@pytest.mark.parametrize("window", [None, 1, 7, 100])
@pytest.mark.parametrize(("cached", "tokens"), [(0, 1), (0, 50), (13, 20), (99, 2)])
def test_pairs_are_counted_one_by_one(cached, tokens, window):
    keys = [i if window is None else min(i, window) for i in range(cached + 1, cached + tokens + 1)]
    assert causal_pairs(cached, tokens, window) == sum(keys)


@pytest.mark.parametrize(("cached", "tokens"), [(0, 1), (0, 1000), (0, 2500), (700, 1001), (5, 0)])
def test_a_prompt_takes_its_chunks_and_pairs(cached, tokens):
    left, time, at = max(tokens, 1), 0.0, cached
    while left:
        chunk = min(left, 1000)
        time += max(0.02, 2e-5 * chunk)
        for i in range(at + 1, at + chunk + 1):
            time += 1e-9 * i + 3e-9 * min(i, 300)
        left, at = left - chunk, at + chunk
    assert MODEL.times(np.array([tokens]), np.array([cached]))[0] == pytest.approx(time, rel=1e-12)


def test_a_slower_worker_sends_as_fast():
    slow = MODEL.slowed(2.0)
    tokens = np.array([10, 5000])
    assert np.allclose(slow.times(tokens), 2 * MODEL.times(tokens))
    assert np.array_equal(slow.transfer_times(tokens), MODEL.transfer_times(tokens))
    assert MODEL.transfer_times(2000) == pytest.approx(3e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"chunk_tokens": 0}, {"devices": 0}, {"transfer_per_token": -1.0}, {"compute": 3.0}],
)
def test_what_breaks_a_rule_is_refused(wrong):
    with pytest.raises(AfdplanError):
        PrefillModel(**({"name": "x", "compute": LinearCurve(slope=1.0)} | wrong))
    with pytest.raises(AfdplanError):
        PairCost(time=1.0, window=0)
