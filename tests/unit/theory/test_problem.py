"""What a stated problem refuses, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.theory.problem import RatioProblem, unknown_placement

LATENCY = LatencyModel.linear(attention=(0.5, 10.0), ffn=(0.25, 5.0), layers=4)
VARYING = IndependentLengths(prompt="uniform:3..9", decode="uniform:1..5")
ALIKE = IndependentLengths(prompt="fixed:4", decode="fixed:3")


def stated(**options):
    return RatioProblem(**{"law": VARYING, "latency": LATENCY, "batch_size": 8} | options)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("overlap", "half"), ("method", "rough"), ("phase", "late"), ("ffn_weight", 0.0),
        ("horizon", 0), ("execution", "later"), ("placement", "anywhere"), ("least_calls", 0),
        ("batch_size", 0), ("ffn_workers", 0), ("microbatches", 9),
    ],
)  # fmt: skip
def test_every_field_is_held_to_its_domain(field, value):
    with pytest.raises(InvalidInputError, match=field.replace("_", "[_ -]")):
        stated(**{field: value})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"horizon": 5}, "needs method mean-field"),
        ({"phase": "aligned", "method": "gaussian"}, "needs method exact"),
        ({"phase": "aligned"}, "needs requests of one prompt"),
        ({"execution": "barrier-free", "phase": "aligned", "law": ALIKE}, "ages that differ"),
        ({"execution": "barrier-free", "horizon": 3, "method": "mean-field"}, "steady state"),
        ({"placement": "longest-request"}, "knows outputs"),
        ({"placement": "longest-prompt", "execution": "barrier-free"}, "without a barrier"),
        ({"placement": "longest-prompt-rank"}, "leaves their microbatches unequal"),
    ],
)
def test_options_that_exclude_each_other(options, words):
    with pytest.raises(UnsupportedError, match=words):
        stated(**options)


def test_options_that_go_together():
    assert stated(horizon=5, method="mean-field").horizon == 5
    assert stated(phase="aligned", law=ALIKE).phase == "aligned"
    assert stated(execution="barrier-free").boarding.least_calls == 1
    assert stated(placement="longest-prompt-rank", overlap="ideal").counted_microbatches == 1
    assert stated(placement="longest-prompt").counted_microbatches == 2
    for name in ("longest-prompt", "longest-prompt-rank"):
        assert unknown_placement(name, LATENCY, 1) is None
    assert "microbatches" in unknown_placement("longest-prompt-rank", LATENCY, 2)
    weighted = replace(LATENCY, attention_devices=2, ffn_devices=6)
    assert (stated().ffn_weight, stated(latency=weighted).ffn_weight) == (1.0, 3.0)
    assert stated(latency=weighted, ffn_weight=0.5).ffn_weight == 0.5


def windowed(*windows):
    kinds = tuple(
        AttentionLayers(curve=LATENCY.attention[0].curve, layers=2, context_window=window)
        for window in windows
    )
    return replace(LATENCY, attention=kinds)


def test_windows_cut_the_scaled_load():
    """Of min(2 y, 8) each is 2 min(y, 4); no window is below one token."""
    problem = stated(latency=windowed(None, 8))
    whole, cut = problem.slot_loads(2.0)
    assert whole.moments.mean == pytest.approx(2 * VARYING.slot_load(None).moments.mean)
    assert cut.moments.mean == pytest.approx(2 * VARYING.slot_load(4).moments.mean)
    assert cut.highest == pytest.approx(8.0)
    tiny = stated(latency=windowed(1)).slot_loads(4.0)[0]
    assert tiny.highest == pytest.approx(4.0)
    assert problem.mean_token_loads(problem.slot_loads()) == pytest.approx(
        [VARYING.slot_load(None).moments.mean, VARYING.slot_load(8).moments.mean]
    )
    far = stated(horizon=3, method="mean-field", microbatches=3)
    (load,) = far.mean_token_loads(far.slot_loads())
    from afdplan.theory.transient import horizon_mean_load

    assert load == pytest.approx(horizon_mean_load(VARYING, 3, 3 * 8))
    with pytest.raises(UnsupportedError, match="horizon is not defined"):
        stated(latency=windowed(None, 8), horizon=3, method="mean-field")


def test_loads_of_kinds_correlate_as_their_windows_cut_them():
    """Every load of a slot, and what a window of 6 leaves of it; one that is always full."""
    problem = stated(latency=windowed(None, 6, 3))
    slot = VARYING.slot_load()
    seen = [slot.support, np.minimum(slot.support, 6), np.minimum(slot.support, 3)]
    p = slot.probabilities
    means = [float(p @ x) for x in seen]
    deviations = [float(p @ (x - mean) ** 2) ** 0.5 for x, mean in zip(seen, means, strict=True)]
    assert deviations[2] == pytest.approx(0.0, abs=1e-9)
    both = float(p @ ((seen[0] - means[0]) * (seen[1] - means[1])))
    expected = both / deviations[0] / deviations[1]
    found = problem.load_correlations()
    assert found[0, 1] == found[1, 0] == pytest.approx(expected)
    assert 0.5 < expected < 0.95
    assert found[2].tolist() == found[:, 2].tolist() == [1.0, 1.0, 1.0]
    alone = stated(method="mean-field", latency=windowed(None, 6)).load_correlations()
    assert alone.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    aligned = stated(phase="aligned", law=ALIKE, latency=windowed(None, 6)).load_correlations()
    assert aligned.tolist() == [[1.0, 1.0], [1.0, 1.0]]
