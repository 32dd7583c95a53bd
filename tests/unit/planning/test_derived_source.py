"""Are the models of a derived source those of its placements?"""

from dataclasses import replace

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import times_of
from afdplan.calibration.placement import place
from afdplan.planning.derived_source import DerivedSource


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
