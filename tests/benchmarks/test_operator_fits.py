"""Calls by hand: what is left out of the fits, and what they add up to."""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware
from afdplan.calibration.operator import Operator
from benchmarks.operator_fits import CACHE, attention, fitted, latent, predicted

H200 = find_hardware("h200")  # 4.8 TB/s, 50 MB of L2, 989 Tflop/s in bf16


def grouped(batch, context, latency):
    """8 query heads on 4 KV heads of 128 numbers in bf16: 2,048 bytes per token."""
    names = ("batch_size", "num_heads", "num_key_value_heads", "step", "head_dim", "latency")
    columns = (batch, 8, 4, np.asarray(context) - 1, 128, latency)
    return dict(zip(names, np.broadcast_arrays(*np.array(columns, dtype=object)), strict=True))


def calls(batch, context, latency):
    rows = grouped(batch, context, latency)
    return attention(H200, {key: value.astype(float) for key, value in rows.items()}, "bf16")


def test_attention_that_reads_from_l2_is_left_out():
    # 33.6 MB fit into L2 and are 7 us of 20; twice that does not fit; 8.4 MB hardly weigh.
    found = calls([1, 1, 1], [16_384, 32_768, 4_096], [20e-3, 30e-3, 20e-3])
    assert found.times == pytest.approx([30e-6, 20e-6])
    rows = {"batch_size": np.array([1.0, 2.0]), "num_heads": np.array([16.0, 16.0])}
    rows |= {"step": np.array([32_767.0, 32_767.0]), "latency": np.array([25e-3, 40e-3])}
    assert latent(H200, rows, "bf16").times == pytest.approx([40e-6])  # 38 MB, 76 MB


def test_every_kv_head_of_a_request_takes_its_time():
    found = calls([16], [4_096], [60e-3])
    assert found.pieces == pytest.approx([64])
    operator = Operator(
        memory_share=0.5, matrix_share=1, fixed_time=1e-5, sharpness=64, depth_time=1e-8
    )
    reading = 16 * 4_096 * 2_048 / 4.8e12 / 0.5
    assert predicted(operator, found) == pytest.approx([1e-5 + reading + 64e-8])


def test_a_fit_finds_what_was_put_in():
    batch, context = (axis.ravel() for axis in np.meshgrid(2.0 ** np.arange(9), [8192, 32_768]))
    truth = Operator(
        memory_share=0.9, matrix_share=0.9, fixed_time=1e-5, sharpness=8, depth_time=2e-8
    )
    blank = calls(batch, context, 1.0)
    made = calls(batch, context, predicted(truth, blank) * 1e3)
    assert made.times.size > 10
    made = replace(made, held=np.zeros(made.times.size, dtype=bool))
    found = fitted(made, most_matrix=0.75)
    assert found.depth_time == pytest.approx(2e-8, rel=0.05)
    assert found.fixed_time == pytest.approx(1e-5, rel=0.05)
    # Reading hides the products: any share fits as well, and none beyond what is allowed is told.
    assert fitted(made).matrix_share > 0.6
    assert fitted(made, most_matrix=0.51).matrix_share <= 0.51


def test_formats_of_the_cache_are_those_of_the_tables():
    assert set(CACHE) == {"bf16", "fp8"}
