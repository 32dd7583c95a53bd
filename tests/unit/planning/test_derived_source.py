"""Are the models of a derived source those of its placements?"""

import re
from dataclasses import replace

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import times_of
from afdplan.calibration.placement import place
from afdplan.errors import InfeasibleError, InvalidInputError
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
    assert source.ffn_workers(numbers[-1]) == numbers
    assert source.ffn_workers(numbers[-1] - 1) == numbers[:-1]
    assert source.colocated.widths(2, 100) == source.colocated.widths(2, 2 * ranks[-1]) == ranks
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


def source_of(model="qwen3-30b-a3b", device="h100", **changes):
    return DerivedSource(place(find_model(model), find_hardware(device)), **changes)


def test_waits_are_half_of_each_exchange():
    parts = source_of().colocated
    for ranks in (1, 4, 16):
        wait = exchange_wait(ranks) * parts._placement.efficiencies.factor("waiting") / 2
        plain = times_of(parts._place(1, ranks, 8))
        found = parts.latency(1, ranks, 8)
        for way in ("send", "receive"):
            later, first = getattr(found, way).curve, getattr(plain, way).curve
            assert later.intercept == pytest.approx(first.intercept + wait)
            assert later.slope == first.slope
    assert parts.ffn_tokens(2, 8) == 8.0


def test_ranks_of_a_node_are_on_its_links():
    """Eight devices of a node: four ranks of two are inside, eight of them are not."""
    parts = source_of().colocated
    most = parts._placement.attention_hardware.scale_up_devices
    assert parts._place(2, most // 2, 8).link == "scale-up"
    assert parts._place(2, most // 2 + 1, 8).link == "scale-out"
    assert parts._place(1, most, 8).link == "scale-up"
    placed = parts._place(2, 4, 8)
    assert (placed.attention_devices, placed.ffn_devices, placed.ffn_workers) == (2, 2, 4)


def test_ranks_hold_both_kinds_of_weights():
    parts = source_of().colocated
    memory = parts._place(2, 4, None).memory()
    both = memory.attention_weight_bytes + memory.ffn_weight_bytes
    room = memory.attention_memory_bytes - memory.reserve_bytes - both
    assert parts.cache(2, 4).capacity == pytest.approx(room)
    assert parts.cache(2, 4).kinds == memory.cache
    # 128 experts are spread over 128 devices, not over 256 or 384.
    assert parts.widths(1, 1024) == (1, 2, 4, 8, 16, 32, 64, 128)
    assert parts.widths(2, 1024)[-1] == 64
    huge = DerivedSource(place(find_model("deepseek-v3"), find_hardware("h200"))).colocated
    assert huge.cache(1, 1) is None
    assert huge.widths(1, 4) == ()


def test_changed_sources_keep_what_was_changed():
    source = source_of(attention_devices=(2,))
    shared = source.sharing(0.5).sharing(0.5)
    first, last = source.cache(2).kinds[0], shared.cache(2).kinds[0]
    assert last.bytes_per_token == pytest.approx(first.bytes_per_token / 4)
    ranks = source.colocated.cache(2, 4).kinds[0].bytes_per_token
    assert shared.colocated.cache(2, 4).kinds[0].bytes_per_token == pytest.approx(ranks / 4)
    gathered = shared.gathering()
    assert gathered.latency(2, 4, 8).coupling.fan_in == "whole"
    assert source.latency(2, 4, 8).coupling.fan_in != "whole"
    slow = gathered.slower("waiting", 2.0)
    assert gathered.slower("waiting", 2.0) is slow
    assert gathered.slower("waiting", 3.0) is not slow
    assert slow.attention_devices == (2,)
    assert slow.latency(2, 4, 8).coupling.fan_in == "whole"
    kept = slow.cache(2).kinds[0].bytes_per_token
    assert kept == pytest.approx(last.bytes_per_token)
    factors = [one.placement.efficiencies.factor("waiting") for one in (slow, source)]
    assert factors[0] == 2.0 * factors[1]
    ways = [one.colocated.latency(2, 4, 8).send.curve.intercept for one in (slow, source)]
    assert ways[0] - ways[1] == pytest.approx(exchange_wait(4) * factors[1] / 2)
    assert shared.gathering().assumptions[-1].startswith("every FFN worker takes as long")
    assert len(gathered.assumptions) == len(shared.assumptions) + 1
    assert "as many attention as FFN devices" in " ".join(source.assumptions)
    at = [round(exchange_wait(n) * 1e6) for n in (16, 64)]
    assert f"{at[0]} µs at 16 ranks, {at[1]} µs at 64" in " ".join(source.assumptions)


def test_what_every_derived_source_says():
    source = source_of()
    assert (source.ffn_devices, source.least_device_ratio, source.time_unit) == (1, 1.0, "s")
    assert source.name == "Qwen/Qwen3-30B-A3B on H100-SXM (derived)"
    assert str(source).endswith("attention workers of 1 or 2 or 4 or 8 devices.")
    only = source_of(attention_devices=(4,))
    assert (only.name, only.assumptions) == (source.name, source.assumptions)
    assert source.shares_ffn_times is source.shares_ffn_latency is False
    assert source.attention(2, 8) == source.latency(2, 4, 8).attention
    assert source.attention(2, 8) != source.attention(2, 9)


def test_what_a_device_lacks_is_told():
    """Weights and reserve take so much: of half of that is half missing."""
    placement = place(find_model("qwen3-30b-a3b"), find_hardware("h100"))
    memory = replace(placement, attention_devices=1, ffn_devices=1, ffn_workers=1).memory()
    need = memory.attention_weight_bytes + 0.1 * memory.attention_weight_bytes
    small = replace(placement.attention_hardware, memory_size=0.5 * need)
    short = replace(placement, attention_hardware=small)
    tight = replace(short, attention_devices=1, ffn_devices=1, ffn_workers=1).memory()
    lacks = tight.attention_weight_bytes + tight.reserve_bytes - tight.attention_memory_bytes
    words = f"{lacks / 1e9:.1f} GB per attention device are missing"
    with pytest.raises(InfeasibleError, match=re.escape(words)):
        DerivedSource(short, (1,))


def test_widths_are_those_that_heads_allow():
    """Three devices do not share 32 heads: asked for they are refused, unasked left out."""
    with pytest.raises(InvalidInputError, match="heads"):
        source_of(attention_devices=(3,))
    assert source_of(attention_devices=(4, 2)).attention_devices == (4, 2)
    assert source_of().attention_devices == (1, 2, 4, 8)


def test_ranks_have_the_room_that_both_kinds_of_weights_leave():
    """A cached token takes what it takes, and half of that where half of a request is shared."""
    source = source_of()
    whole, half = source.colocated.cache(1, 4), source.sharing(0.5).colocated.cache(1, 4)
    memory = replace(source.placement, ffn_devices=1, ffn_workers=4).memory()
    weights = memory.attention_weight_bytes + memory.ffn_weight_bytes
    room = memory.attention_memory_bytes - weights - memory.reserve_bytes
    assert whole.capacity == half.capacity == pytest.approx(room)
    assert whole.kinds == memory.cache
    assert [k.bytes_per_token for k in half.kinds] == [k.bytes_per_token / 2 for k in memory.cache]


def test_a_dense_model_has_any_number_of_ffn_workers_up_to_64():
    """The first three layers of DeepSeek-V3 have no routed experts."""
    model = find_model("deepseek-v3")
    dense = replace(model, blocks=model.blocks[:3])
    source = DerivedSource(place(dense, find_hardware("h200")))
    assert source.ffn_workers(100) == tuple(range(1, 65))
    assert source.shares_ffn_times
    assert source.shares_ffn_latency
    assert "equally many routed experts" not in " ".join(source.assumptions)


def test_what_the_search_decides_is_not_assumed():
    placement = place(find_model("qwen3-30b-a3b"), find_hardware("h100"))
    keys = [one.key for one in placement.assumptions]
    assert "ffn-devices" in keys
    kept = [one.key for one in DerivedSource(placement).placement.assumptions]
    assert kept == [key for key in keys if key != "ffn-devices"]
