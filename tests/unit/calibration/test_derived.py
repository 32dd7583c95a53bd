import dataclasses
import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.batch_line import batch_line
from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_latency, derived_model
from afdplan.calibration.derived_attention import (
    AttentionTimes,
    attention_layers,
    product_time,
    token_time,
)
from afdplan.calibration.derived_error import part_errors
from afdplan.calibration.derived_feed_forward import (
    distinct_experts,
    feed_forward_curve,
    network_time,
    padded_rows,
    tile_rows,
)
from afdplan.calibration.derived_transfer import copies_per_token
from afdplan.calibration.efficiency import EFFICIENCY_SOURCES, Efficiencies
from afdplan.calibration.heads import Product
from afdplan.calibration.operator import Operator, find_operator
from afdplan.calibration.placement import place
from afdplan.calibration.precision import Precision
from afdplan.calibration.serving_system import SYSTEMS
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.theory.recommend import recommend_ratio

# The longest part alone counts, and nothing is paid before work begins.
PERFECT = Efficiencies(
    operator=Operator(memory_share=1, matrix_share=1, fixed_time=0, sharpness=512),
    link=1,
    transfer_latency=0,
    scheduling_time=0,
    expert_imbalance=1,
)


@pytest.mark.parametrize(("experts", "chosen", "tokens"), [(4, 2, 3), (5, 1, 4), (4, 3, 2)])
def test_distinct_experts_equals_full_enumeration(experts, chosen, tokens):
    draws = list(itertools.combinations(range(experts), chosen))
    mean = np.mean([len(set().union(*t)) for t in itertools.product(draws, repeat=tokens)])
    assert distinct_experts(experts, chosen, tokens) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(
    ("experts", "chosen", "groups"), [(6, 2, 3), (8, 3, 4), (8, 2, 2), (6, 6, 3)]
)
def test_copies_per_token_equals_full_enumeration(experts, chosen, groups):
    size = experts // groups
    visits = [len({e // size for e in c}) for c in itertools.combinations(range(experts), chosen)]
    assert copies_per_token(experts, chosen, groups) == pytest.approx(np.mean(visits), rel=1e-12)


@pytest.mark.parametrize("floor", [1.0, 7.0])
@pytest.mark.parametrize("slope", [0.001, 0.02, 0.5])
def test_the_line_of_the_products_is_the_best_for_its_range(floor, slope):
    x = np.arange(513)
    times = np.maximum(floor, slope * x)
    line = batch_line(times, None)
    worst = np.max(np.abs(line.intercept + line.slope * x - times))
    assert worst == pytest.approx(line.error, rel=1e-2, abs=1e-12)
    for shift in (-0.01, 0.01):
        assert np.max(np.abs(line.intercept + shift + line.slope * x - times)) >= worst - 1e-9


@pytest.mark.parametrize("batch", [1, 50, 51, 400])
def test_the_line_of_the_products_is_exact_at_a_given_batch(batch):
    line = batch_line(np.maximum(5.0, 0.1 * np.arange(513)), batch)
    assert line.intercept + line.slope * batch == pytest.approx(max(5.0, 0.1 * batch))


@pytest.mark.parametrize("batch", [100, 512, 600, 2000])
def test_a_layer_takes_its_kernels_one_after_the_other(batch):
    # Beyond 512 requests no table is read: both ways are on the same curve.
    model, device = find_model("qwen3-235b-a22b-fp8"), find_hardware("gb200")
    kind = derived_latency("qwen3-235b-a22b-fp8", "gb200", ffn_devices=4, batch_size=batch)
    kind = kind.attention[0]
    placement = place(model, device, ffn_devices=4)
    of = functools.partial(placement.efficiencies.of, device)
    bandwidth, fp8 = device.memory_bandwidth, device.matrix_rate("fp8")
    seconds = of("attention", "bf16").fixed_time
    # Queries, keys and values; output: fp8. Router: bf16.
    for depth, width, number, rate in (
        (4096, 64 * 128 + 2 * 4 * 128, "fp8", fp8),
        (64 * 128, 4096, "fp8", fp8),
        (4096, 128, "bf16", device.matrix_rate("bf16")),
    ):
        size = 1 if number == "fp8" else 2
        moved = depth * (width + batch) * size + 2 * batch * width
        work = 2 * depth * width * batch / rate
        seconds += of("gemm", number).time(moved / bandwidth, work, depth)
    # Two norms, norms of queries and keys, rotary, cache write, two quantisations, choice.
    seconds += 9 * of("elementwise", "bf16").time(4 * 4096 * batch / bandwidth)
    # Four KV heads of each request.
    seconds += 4 * batch * of("attention", "bf16").depth_time
    assert kind.time(0.0, batch) == pytest.approx(seconds, rel=1e-9)


def test_attention_by_hand_with_perfect_hardware():
    # Qwen3-235B on H200, bf16: 2048 bytes per token and layer over 4.8 TB/s.
    kind = derived_latency(
        "qwen3-235b-a22b", "h200", efficiencies=PERFECT, ffn_devices=8, batch_size=1
    ).attention[0]
    assert kind.curve.slope == pytest.approx(2048 / 4.8e12)
    weights = (71_303_168 + 128 * 4096) * 2  # projections and router
    assert kind.curve.intercept == pytest.approx(weights / 4.8e12)
    # DeepSeek-V3 on H20: 278,528 operations per token over 148 TFLOPS.
    kind = derived_latency(
        "deepseek-v3", "h20", efficiencies=PERFECT, ffn_devices=16, batch_size=1
    ).attention[0]
    assert kind.curve.slope == pytest.approx(278_528 / 148e12)


def test_query_rows_are_padded_to_the_tile():
    # 16 query heads share a KV head; a tile has 64 rows: four times the operations, on H20.
    placement = place(find_model("qwen3-235b-a22b"), find_hardware("h20"), efficiencies=PERFECT)
    heads = placement.architecture.attention
    assert token_time(placement, heads) == pytest.approx(4 * 32_768 / 148e12)
    assert token_time(placement, heads, queries=4) == pytest.approx(4 * 32_768 / 148e12)


def test_experts_by_hand_with_perfect_hardware():
    model, device = find_model("qwen3-235b-a22b-fp8"), find_hardware("h200")
    placement = place(model, device, ffn_devices=8, efficiencies=PERFECT)
    one = 3 * 4096 * 1536
    row = 4096 * (1 + 2) + 1536 * (4 * 2 + 2 * 1)
    # One token touches 8 of 128 experts, one per device on average.
    assert network_time(placement, placement.architecture.network, 1.0) == pytest.approx(
        (one + row) / 4.8e12
    )
    # Tiles of 64 rows, one of them half empty for each of the 16 experts.
    many = 65_536.0
    computed = 2 * one * (many + 64 * 16) / 1979e12
    assert network_time(placement, placement.architecture.network, many) == pytest.approx(computed)
    # FastAFD's kernel has tiles of 192 rows for so many: half of one more for each expert.
    fused = place(model, device, ffn_devices=8, efficiencies=PERFECT, serving_system="fastafd")
    found = network_time(fused, fused.architecture.network, many)
    assert found == pytest.approx(2 * one * (many + 96 * 16) / 1979e12)


def test_rows_of_an_expert_fill_whole_tiles():
    """Lognormal with variance n + (0.29 n)^2: 8 rows in tiles of 16, 100 in tiles of 192."""
    tiles = SYSTEMS["fastafd"].expert_tiles
    # Of 8: sigma 0.4357, one tile unless there is no row, more with chances 0.03525 and 0.00034.
    # Of 100: sigma 0.2999, a second one with chance Phi(-2.325) = 0.01004.
    found = padded_rows(np.array([8.0, 100.0, 9600.0]), tiles)
    assert found == pytest.approx(
        [16 * (0.99966 + 0.03525 + 0.00034), 192 * 1.01004, 9600 + 96], rel=1e-4
    )


def test_an_exchange_holds_processors_of_attention_devices_alone():
    """FastAFD: 24 of 148 spin beside the other microbatch; experts have the whole device."""
    place_ = functools.partial(
        place, find_model("qwen3-235b-a22b-fp8"), find_hardware("gb200"), efficiencies=PERFECT
    )
    fused = place_(ffn_devices=4, serving_system="fastafd")
    product, tokens = Product(4096, 4096), np.array(65_536.0)
    computed = 2 * 4096 * 4096 * 65_536 / 5e15
    assert product_time(fused, product, tokens, "fp8", "ffn") == pytest.approx(computed)
    held = product_time(fused, product, tokens, "fp8", "attention")
    assert held == pytest.approx(computed / (1 - 24 / 152))


def test_latent_attention_reads_queries_and_writes_outputs():
    """DeepSeek-V3 on one H200: 128 heads of 576 and 512 numbers in bf16, beside the cache."""
    place_ = functools.partial(place, find_model("deepseek-v3"), find_hardware("h200"))
    kind = attention_layers(place_(efficiencies=PERFECT, batch_size=64))[0]
    products = AttentionTimes(place_(efficiencies=PERFECT)).line
    mixers = place_().architecture.blocks[-1].mixers
    beside = kind.time_per_request - products(mixers, 64).slope
    assert beside == pytest.approx(128 * (576 + 512) * 2 / 4.8e12)


def test_widened_weights_are_computed_in_narrow_tiles():
    h200, b200 = find_hardware("h200"), find_hardware("b200")
    a100 = find_hardware("a100-80g")
    for device, number in ((h200, "int4"), (h200, "mxfp4"), (b200, "int4"), (a100, "fp8")):
        assert tile_rows(device, number) == 16
    for device, number in ((h200, "fp8"), (h200, "bf16"), (b200, "mxfp4"), (b200, "nvfp4")):
        assert tile_rows(device, number) == 64


def test_wide_experts_have_a_row_of_their_own():
    shares = []
    for model in ("mixtral-8x22b", "qwen3-235b-a22b"):
        placement = place(find_model(model), find_hardware("b200"), ffn_devices=8)
        shares.append("wide" in part_errors(placement))
    assert shares == [True, False]


def test_prefill_does_not_run_on_the_kernels_of_dispatched_rows():
    placement = place(find_model("deepseek-v3"), find_hardware("h100"), ffn_devices=32)
    elsewhere = replace(placement, system=replace(placement.system, dispatches=False))
    network, tokens = placement.architecture.network, 4096.0
    # SGLang's table (aiconfigurator-core 0.12.0): 8 experts with 128 rows each, 162 us; the
    # busiest device and the shared expert come on top.
    even = replace(placement, efficiencies=Efficiencies(expert_imbalance=1.0))
    routed = replace(network, dense_size=0)
    assert float(network_time(even, routed, tokens)) == pytest.approx(162e-6, rel=0.06)
    ratio = network_time(elsewhere, network, tokens) / network_time(placement, network, tokens)
    assert ratio > 1.2


def test_spreading_experts_over_workers_conserves_work():
    model, device = find_model("deepseek-v3"), find_hardware("h200")
    # Two workers of 8 with n tokens each hold what one worker of 16 with 2 n tokens holds.
    two = place(model, device, ffn_devices=8, ffn_workers=2)
    one = place(model, device, ffn_devices=16)
    for tokens in (1.0, 10.0, 1000.0):
        assert network_time(two, two.architecture.network, tokens) == pytest.approx(
            network_time(one, one.architecture.network, 2 * tokens)
        )
    assert two.memory().ffn_weight_bytes == one.memory().ffn_weight_bytes


@pytest.mark.parametrize("model", ["qwen3-30b-a3b", "gpt-oss-120b", "mixtral-8x22b"])
def test_the_ffn_table_repeats_the_formula_between_its_points(model):
    placement = place(find_model(model), find_hardware("h100"))
    loads = np.geomspace(1, 60_000, 2000)
    table = feed_forward_curve(placement)(loads)
    assert (
        np.max(np.abs(table / network_time(placement, placement.architecture.network, loads) - 1))
        < 0.03
    )


def test_dense_layers_are_averaged_in():
    model, device = find_model("deepseek-v3"), find_hardware("h200")
    placement = place(model, device, ffn_devices=8, efficiencies=PERFECT)
    dense = 3 * 7168 * 18432 / 4.8e12
    mean = (3 * dense + 58 * network_time(placement, placement.architecture.network, 64.0)) / 61
    assert feed_forward_curve(placement)(64.0) == pytest.approx(mean, rel=2e-3)


def test_windows_sparse_layers_and_drafts():
    gpt = derived_latency("gpt-oss-120b", "h200")
    assert {(kind.layers, kind.context_window) for kind in gpt.attention} == {(18, None), (18, 128)}
    dense, sparse = derived_latency("deepseek-v3", "h200"), derived_latency("deepseek-v3.2", "h200")
    assert sparse.attention[0].curve.slope < dense.attention[0].curve.slope / 5
    saturated = dense.attention[0].curve.slope * 2048
    assert sparse.attention[0].time_per_request > saturated
    drafting = derived_latency("deepseek-v3", "h200", speculative_tokens=1, acceptance=0.9)
    assert drafting.layers == 62
    assert drafting.tokens_per_step == pytest.approx(1.9)
    assert drafting.ffn(1000) > dense.ffn(1000)
    with pytest.raises(UnsupportedError, match="no multi-token prediction"):
        derived_latency("kimi-k2", "h200", speculative_tokens=1)


def test_tensor_parallel_attention():
    one = derived_latency("qwen3-235b-a22b", "h200", batch_size=64)
    four = derived_latency("qwen3-235b-a22b", "h200", batch_size=64, attention_devices=4)
    assert four.attention[0].curve.slope == pytest.approx(one.attention[0].curve.slope / 4)
    # MLA replicates its latent: bytes stay, only arithmetic is split.
    latent = derived_latency("deepseek-v3", "h200", attention_devices=8)
    # 16 of 128 heads, padded to a tile of 64.
    operator = find_operator(find_hardware("h200"), "latent", "bf16")
    seconds = operator.work(1152 / 4.8e12, 4 * 2 * 16 * 1088 / 989e12)
    assert latent.attention[0].curve.slope == pytest.approx(float(seconds))


def test_different_devices_on_both_sides():
    mixed = derived_latency("deepseek-v3", "h20", "h200", ffn_devices=8)
    same = derived_latency("deepseek-v3", "h200", ffn_devices=8)
    assert mixed.ffn == same.ffn
    assert mixed.attention != same.attention
    assert "H20 and H200" in mixed.name


def test_scale_out_sends_one_copy_per_node():
    options = {"ffn_devices": 8, "efficiencies": PERFECT}
    out = derived_latency("deepseek-v3", "h200", link="scale-out", **options)
    assert out.send.curve.slope == pytest.approx(7168 / (8 * 50e9))
    up = derived_latency("deepseek-v3", "h200", link="scale-up", **options)
    copies = copies_per_token(256, 8, 8)
    assert up.send.curve.slope == pytest.approx(copies * 7168 / (8 * 450e9))
    assert up.receive.curve.slope == pytest.approx(2 * up.send.curve.slope)


def test_cost_weights():
    derived = derived_model("deepseek-v3", "h20", "h200", ffn_devices=8, attention_devices=2)
    assert derived.ffn_weight() == 4.0
    assert derived.ffn_weight("watts") == pytest.approx(4 * 700 / 400)
    price = [find_hardware(name).price_per_hour for name in ("h200", "h20")]
    assert derived.ffn_weight("price") == pytest.approx(4 * price[0] / price[1])
    assert derived.latency == derived_latency(
        "deepseek-v3", "h20", "h200", ffn_devices=8, attention_devices=2
    )
    with pytest.raises(InvalidInputError, match="cost"):
        derived.ffn_weight("tears")


def test_memory_of_both_sides():
    memory = derived_model("deepseek-v3", "h200").memory
    # 58 layers x 32 experts x 44 MB, shared and dense ones: of 671 GB, an eighth and a bit.
    assert memory.ffn_devices == 8
    assert 671e9 / 8 * 0.97 < memory.ffn_weight_bytes < 671e9 / 8 * 1.05
    assert memory.cache_bytes_per_token == 61 * 576 * 2
    assert memory.request_cache_bytes(1000) == 61 * 576 * 2 * 1000
    gpt = derived_model("gpt-oss-120b", "h200").memory
    assert gpt.request_cache_bytes(10_000) == 18 * 2048 * (10_000 + 128)
    fp8 = derived_model("deepseek-v3", "h200", cache_precision="fp8").memory
    assert fp8.cache_bytes_per_token == memory.cache_bytes_per_token / 2
    total = memory.attention_weight_bytes + 8 * memory.ffn_weight_bytes
    assert total == pytest.approx(671e9, rel=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp7"}, "precision must be one of"),
        ({"cache_precision": "fp7"}, "precision cache"),
        ({"attention_devices": 0}, "attention_devices"),
        ({"attention_devices": 16}, "attention_devices"),
        ({"ffn_devices": 0}, "ffn_devices"),
        ({"ffn_devices": 1}, "too few"),
        ({"ffn_workers": 0}, "ffn_workers"),
        ({"link": "carrier"}, "link"),
        ({"speculative_tokens": -1}, "speculative_tokens"),
        ({"acceptance": 1.5}, "acceptance"),
        ({"acceptance": math.nan}, "acceptance"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidInputError, match=message):
        derived_latency("deepseek-v3", "h200", **options)


@pytest.mark.parametrize("value", [0.0, -1.0, 1.01, math.nan])
def test_efficiencies_are_shares(value):
    with pytest.raises(InvalidInputError, match="link"):
        Efficiencies(link=value)


@pytest.mark.parametrize("transfers", ["in-stage", "fused"])
def test_transfers_inside_the_stage_lengthen_it_and_leave_the_link(transfers):
    options = {"ffn_devices": 4, "batch_size": 48}
    beside, inside = (
        derived_latency("qwen3-235b-a22b-fp8", "gb200", transfers=place_of, **options)
        for place_of in ("overlapped", transfers)
    )
    ways = [beside.send, beside.receive]
    fixed = sum(way.curve.intercept for way in ways)
    moving = sum(way.curve.slope for way in ways)
    for tokens in (10.0, 576.0, 65_536.0):
        alone = beside.ffn(tokens)
        paid = alone + moving * tokens if transfers == "in-stage" else max(alone, moving * tokens)
        assert inside.ffn(tokens) == pytest.approx(paid + fixed, rel=2e-3)
        assert inside.send.time(48, tokens) == inside.receive.time(48, tokens) == 0


def test_the_router_runs_where_the_system_says():
    options = {"ffn_devices": 8, "batch_size": 64}
    here, there = (
        derived_latency("deepseek-v3", "h200", serving_system=name, **options)
        for name in ("any", "stepmesh")
    )
    assert here.attention[0].time(0.0, 64) > there.attention[0].time(0.0, 64)
    assert here.ffn(640.0) < there.ffn(640.0)


def test_scheduling_beside_the_step_adds_nothing_to_it():
    names, systems = ("qwen3-235b-a22b-fp8", "gb200"), ("any", "fastafd")
    models = [derived_latency(*names, serving_system=name) for name in systems]
    added = models[0].step_overhead - models[1].step_overhead
    assert added == pytest.approx(Efficiencies().scheduling_time)
    placed = [
        place(find_model(names[0]), find_hardware(names[1]), serving_system=name)
        for name in systems
    ]
    assert ["scheduling" in part_errors(one) for one in placed] == [True, False]
    told = [" ".join(model.assumptions) for model in models]
    assert "2 ms of scheduling per step" in told[0]
    assert "scheduling runs beside the step" in told[1]


def test_every_efficiency_has_a_source_and_every_model_says_what_it_assumed():
    assert set(EFFICIENCY_SOURCES) == {field.name for field in dataclasses.fields(Efficiencies)}
    model = derived_latency("deepseek-ai/DeepSeek-V3", "h200")
    text = " ".join(model.assumptions)
    for word in ("fp8", "KV cache", "8 devices", "link latencies", "popularity", "dense layers"):
        assert word in text
    assert model.source.startswith("derived")
    explicit = derived_latency(
        "deepseek-v3", "h200", precision=Precision.named("fp8"), batch_size=8
    )
    assert "KV cache" not in " ".join(explicit.assumptions)
    a100 = derived_latency("qwen3-235b-a22b-fp8", "a100")
    assert "no fp8 matrix rate" in " ".join(a100.assumptions)


def test_slices_of_a_node_share_what_all_tokens_pass():
    model, device = find_model("step-3"), find_hardware("h800-sxm")
    options = {"precision": "fp8", "efficiencies": PERFECT}
    whole, sliced = (
        place(model, device, ffn_devices=8, serving_system=name, **options)
        for name in ("any", "stepmesh")
    )
    # Few tokens: the shared expert's weights bind, an eighth of them on each device.
    shared = 3 * 7168 * 5120 / device.memory_bandwidth
    times = [network_time(one, one.architecture.network, 8.0) for one in (whole, sliced)]
    router = 7168 * 48 * 2 / device.memory_bandwidth
    assert times[0] - times[1] == pytest.approx(shared * 7 / 8 - router, rel=0.02)
    # One device of the same node as a worker of its own has the same work.
    options |= {"ffn_workers": 8, "serving_system": "stepmesh"}
    single = place(model, device, ffn_devices=1, **options)
    assert network_time(single, single.architecture.network, 1.0) == pytest.approx(times[1])


def test_a_derived_model_says_what_it_is_and_is_no_latency_model():
    """It printed 30,000 characters, and an answer asked for its `attention`."""
    model = derived_model("deepseek-v3", "h200")
    assert "attention workers of 1 device, FFN workers of 8 devices" in str(model)
    assert len(str(model)) < 200
    lengths = IndependentLengths(prompt="100", decode="geometric:50")
    with pytest.raises(InvalidInputError, match=r"got DerivedModel: .*\.latency is one"):
        recommend_ratio(lengths, model, batch_size=8)


def test_one_device_is_not_some_devices():
    """An FFN worker "has 1 devices" stood among the assumptions."""
    told = " ".join(derived_model("qwen3-30b-a3b", "h100").latency.assumptions)
    assert "an FFN worker has 1 device, " in told
    assert "over 1 FFN device" in told
    assert "1 devices" not in told
