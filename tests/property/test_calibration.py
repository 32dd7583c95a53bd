"""What a calibration must not depend on: the unit of time, the order of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.calibration.stage import fit_stage
from afdplan.calibration.sweep import fit_sweep
from afdplan.model.measurement import StageSamples
from afdplan.model.sweep import RatioSweep


def stage(seed, factor=1.0, order=None):
    generator = np.random.default_rng(seed)
    loads = np.geomspace(8, 4000, 24)
    times = np.maximum(generator.uniform(5e-5, 2e-4), generator.uniform(1e-8, 1e-6) * loads)
    times = times * (1 + 0.03 * generator.standard_normal(24)) * factor
    order = np.arange(24) if order is None else order
    return StageSamples(stage="ffn", loads=loads[order], times=times[order])


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["linear", "roofline", "table"]),
    st.floats(1e-3, 1e6),
    st.permutations(range(24)),
)
def test_unit_and_order_do_not_matter(seed, form, factor, order):
    plain = fit_stage(stage(seed), form)
    other = fit_stage(stage(seed, factor, np.array(order)), form)
    loads = np.geomspace(1, 10_000, 30)
    assert other.curve(loads) == pytest.approx(factor * plain.curve(loads), rel=1e-5)
    assert other.noise == pytest.approx(plain.noise, rel=1e-3, abs=1e-9)


@settings(max_examples=3, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_a_sweep_scales_with_its_times(factor):
    def fit(scale):
        return fit_sweep(
            RatioSweep(
                attention_workers=[2, 5, 9, 14],
                ffn_workers=1,
                batch_size=32,
                microbatches=2,
                mean_tokens=1000,
                step_times=scale * np.array([0.02, 0.02, 0.026, 0.037]),
            ),
            layers=40,
        )

    plain, scaled = fit(1.0), fit(factor)
    assert scaled.ffn_slope.value == pytest.approx(factor * plain.ffn_slope.value, rel=0.01)
    assert scaled.attention_time.value == pytest.approx(
        factor * plain.attention_time.value, rel=0.01
    )
