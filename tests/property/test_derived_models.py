import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.calibration.catalogue import shipped_hardware, shipped_models
from afdplan.calibration.derived import latency_of, times_of
from afdplan.calibration.derived_feed_forward import distinct_experts
from afdplan.calibration.derived_transfer import copies_per_token
from afdplan.calibration.placement import place
from afdplan.errors import InvalidInputError

MODELS, DEVICES = shipped_models(), shipped_hardware()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("device", DEVICES)
def test_every_model_on_every_device_gives_a_monotone_model_in_seconds(model, device):
    # Errors derive all times anew, part by part: every device has some models with theirs.
    with_errors = ([*MODELS].index(model) + [*DEVICES].index(device)) % 5 == 0
    derive = latency_of if with_errors else times_of
    try:
        latency = derive(place(MODELS[model], DEVICES[device]))
    except InvalidInputError as error:
        assert "fit" in str(error) or "memory" in str(error)  # noqa: PT017 - most fit
        return
    assert latency.layers == MODELS[model].layers
    assert (np.diff(latency.ffn.times) >= 0).all()
    # A layer takes microseconds to milliseconds, not seconds.
    assert 1e-6 < latency.attention[0].time(100_000, 32) < 20e-3
    assert 1e-6 < latency.ffn(256) < 20e-3


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 512), st.data())
def test_distinct_experts_are_bounded_and_rise(experts, data):
    chosen = data.draw(st.integers(1, experts))
    tokens = np.array([0, 1, 2, 10, 1000, 10**6])
    touched = distinct_experts(experts, chosen, tokens)
    assert touched[0] == 0
    assert touched[1] == pytest.approx(chosen)
    assert (np.diff(touched) >= -1e-9).all()
    assert (touched <= experts + 1e-9).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 512), st.data())
def test_copies_lie_between_one_and_the_experts_of_a_token(experts, data):
    chosen = data.draw(st.integers(1, min(16, experts)))
    groups = data.draw(st.integers(1, experts))
    copies = copies_per_token(experts, chosen, groups)
    assert 1 - 1e-9 <= copies <= min(chosen, groups) + 1e-9


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.3, 5.0])
def test_memory_bound_times_scale_with_bandwidth(factor):
    from dataclasses import replace

    device = DEVICES["h200"]
    faster = replace(
        device, memory_bandwidth=device.memory_bandwidth * factor, matrix_rates={"bf16": 1e30}
    )
    plain = replace(device, matrix_rates={"bf16": 1e30})
    model = MODELS["qwen3-235b-a22b"]
    a, b = latency_of(place(model, plain)), latency_of(place(model, faster))
    assert a.attention[0].curve.slope == pytest.approx(b.attention[0].curve.slope * factor)
