"""Are the models of a derived source those of its placements?"""

from dataclasses import replace

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import times_of
from afdplan.calibration.placement import place
from afdplan.planning.derived_source import DerivedSource, exchange_wait


@pytest.mark.parametrize("model", ["deepseek-v3", "qwen3-235b-a22b-fp8"])
def test_every_batch_size_has_the_model_of_its_placement(model):
    source = DerivedSource(place(find_model(model), find_hardware("h200")))
    for ffn_workers in (16, 64):
        for batch_size in (1, 48, 300):
            for devices in source.attention_devices:
                placement = replace(
                    source.placement,
                    attention_devices=devices,
                    ffn_workers=ffn_workers,
                    batch_size=batch_size,
                )
                assert source.latency(devices, ffn_workers, batch_size) == times_of(placement)


def test_colocated_ranks_have_models_of_their_own():
    parts = DerivedSource(place(find_model("deepseek-v3"), find_hardware("h200"))).colocated
    narrow, wide = parts.latency(1, 8, 16), parts.latency(1, 64, 16)
    assert wide.ffn(64.0) < narrow.ffn(64.0)
    assert parts.latency(1, 64, 512).attention != wide.attention
    assert parts.latency(1, 8, 16) == narrow


@pytest.mark.parametrize(
    ("model", "device", "widths", "numbers", "ranks"),
    [
        ("qwen3-30b-a3b", "h100", (1, 2, 4, 8), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)),
        ("deepseek-v3", "h200", (1, 2, 4, 8), (8, 16), (4, 8, 16, 32)),
        ("deepseek-v3", "gb200", (1, 2, 4), (4, 8, 16), (4, 8, 16, 32)),
    ],
)
def test_what_a_model_on_a_device_leaves_to_choose(model, device, widths, numbers, ranks):
    """Workers of a node's devices; F and ranks that share experts evenly and hold the weights."""
    source = DerivedSource(place(find_model(model), find_hardware(device)))
    assert source.attention_devices == widths
    assert source.ffn_workers(17) == numbers
    assert source.ffn_workers(numbers[-1] - 1) == numbers[:-1]
    assert source.colocated.widths(2, 100) == ranks
    assert source.colocated.widths(2, 2 * ranks[-1] - 1) == ranks[:-1]
    for devices in widths:
        memory = replace(source.placement, attention_devices=devices).memory()
        room = memory.attention_memory_bytes - memory.attention_weight_bytes
        assert source.cache(devices).capacity == pytest.approx(room - memory.reserve_bytes)


def test_the_wait_for_the_slowest_of_ranks():
    """x sqrt(pi) W! / Gamma(W + 1/2) less 2 x: of one rank nothing, of four 1.657 times x."""
    assert exchange_wait(1) == 0.0
    largest = 1.0
    for ranks in range(1, 70):
        largest *= ranks / (ranks - 0.5)
        assert exchange_wait(ranks) == pytest.approx(7.0e-6 * (largest - 2.0), rel=1e-9, abs=1e-16)
