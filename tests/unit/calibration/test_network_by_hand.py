"""Bytes and operations of every kernel and message of a feed-forward network, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from afdplan.calibration.architecture import FeedForward, Mixer
from afdplan.calibration.derived import latency_of
from afdplan.calibration.derived_error import part_errors
from afdplan.calibration.derived_feed_forward import (
    busiest_share,
    distinct_experts,
    experts_family,
    feed_forward_curve,
    network_time,
    tile_rows,
)
from afdplan.calibration.derived_transfer import receive_transfer, send_transfer
from tests.unit.calibration.invented import (
    DENSE,
    DEVICE,
    FORMATS,
    GROUPED,
    HIDDEN,
    ROUTED,
    SHARES,
    VOCABULARY,
    call,
    model,
    placed,
    product,
    sweep_of_states,
    work,
)


@pytest.mark.parametrize(("tokens", "drafts"), [(1, 0), (40, 1)])
def test_a_routed_network_of_six_devices(tokens, drafts):
    """Weights of 4 bits and a scale of 2 bytes per 128: widened, so that tiles have 16 rows."""
    placement = placed(model(Mixer(heads=GROUPED)), speculative_tokens=drafts)
    sent = tokens * (1 + drafts)
    each = sent / 6
    seconds = product(HIDDEN, 2 * 194, each) + product(194, HIDDEN, each)
    seconds += 2 * sweep_of_states(each)  # activation and quantisation
    expert, touched = 3 * HIDDEN * 96, 16 * (1 - (14 / 16) ** sent) / 6
    rows = sent * 2 / 6 * (1 + 0.5 * 0.5)  # the busiest has half more, of which half counts
    row = HIDDEN * (1 + 2) + 96 * (2 * 2 * 2 + 2 * 1)
    moved = touched * expert * (0.5 + 2 / 128) + rows * row
    seconds += call("experts", moved, 2 * expert * (rows + 16 * touched), rows * HIDDEN)
    found = network_time(placement, ROUTED, tokens)
    assert found == pytest.approx(seconds, rel=1e-12)
    both = network_time(replace(placement, ffn_workers=2), ROUTED, tokens)
    # Two workers hold half of the experts each, and twice the tokens touch them.
    fewer = 16 * (1 - (14 / 16) ** (2 * sent)) / 12 - touched
    change = work("experts", fewer * expert * (0.5 + 2 / 128), 2 * expert * 16 * fewer)
    assert both - found == pytest.approx(change, rel=1e-9)
    router = network_time(placed(model(Mixer(heads=GROUPED)), router_side="ffn"), ROUTED, sent)
    assert router - found == pytest.approx(
        product(HIDDEN, 16, each, "bf16") + sweep_of_states(each), rel=1e-9
    )


def test_experts_of_other_formats_and_widths():
    fp8 = replace(FORMATS, feed_forward_weights="fp8")
    network = FeedForward(
        experts=4, experts_per_token=2, expert_size=9000, expert_hidden_size=128, matrices=2
    )
    placement = placed(model(Mixer(heads=GROUPED), networks=(network,)), precision=fp8)
    # More devices than experts: each of six holds one, a third of a choice each.
    touched, rows = 6 * (1 - (4 / 6) ** 12) / 6, 12 * 2 / 6 * 1.25
    expert = 2 * 128 * 9000
    moved = touched * expert + rows * (128 * 3 + 9000 * (2 * 2 + 2))
    seconds = call("wide", moved, 2 * expert * (rows + 64 * touched), rows * 128, rate="fp8")
    seconds += product(HIDDEN, 128, 2) + product(128, HIDDEN, 2)
    assert network_time(placement, network, 12) == pytest.approx(seconds, rel=1e-12)
    assert [experts_family(replace(network, expert_size=n)) for n in (8192, 8193)] == [
        "experts", "wide"
    ]  # fmt: skip
    rows_of = {number: tile_rows(DEVICE, number) for number in ("int4", "bf16", "fp8", "int8")}
    assert rows_of == {"int4": 16, "bf16": 64, "fp8": 64, "int8": 16}  # no int8: widened


def test_slices_of_a_dense_network():
    """Six devices of nodes of four: two hold a slice of 97 each, of a third of the tokens."""
    placement = placed(model(Mixer(heads=GROUPED)), serving_system="stepmesh")
    dense = replace(DENSE, dense_size=193)
    seconds = product(HIDDEN, 2 * 97, 30 / 3) + product(97, HIDDEN, 30 / 3)
    seconds += 2 * sweep_of_states(30 / 3)
    assert network_time(placement, dense, 30) == pytest.approx(seconds, rel=1e-12)
    unquantized = replace(placement, precision=replace(FORMATS, dense_weights="bf16"))
    seconds = product(HIDDEN, 2 * 97, 10, "bf16") + product(97, HIDDEN, 10, "bf16")
    assert network_time(unquantized, dense, 30) == pytest.approx(
        seconds + sweep_of_states(10), rel=1e-12
    )


@pytest.mark.parametrize(("devices", "experts"), [(6, 16), (32, 16), (16, 16)])
def test_the_busiest_device_by_chance_and_popularity(devices, experts):
    share = float(busiest_share(experts, devices, 400.0, 0.3))
    sigma = math.sqrt(math.log(1 + 0.09 * devices / experts + devices / 400))
    largest = NormalDist().inv_cdf((devices - 0.375) / (devices + 0.25))
    assert share == pytest.approx(math.exp(sigma * largest - sigma**2 / 2))
    assert float(busiest_share(experts, 1, 5.0, 0.3)) == 1.0
    network = replace(ROUTED, dense_size=0)
    chance = replace(SHARES, expert_imbalance=None)
    options = {"ffn_devices": devices // 2, "ffn_workers": 2}
    found, even = (
        network_time(placed(model(Mixer(heads=GROUPED)), efficiencies=one, **options), network, 100)
        for one in (chance, replace(SHARES, expert_imbalance=1.0))
    )
    spread = 0.29 if devices <= experts else 0.0  # who has more replicates by popularity
    busiest = float(busiest_share(max(devices, experts), devices, 400.0, spread)) - 1
    row = HIDDEN * 3 + 96 * 10
    each = work("experts", row, 2 * 3 * HIDDEN * 96, HIDDEN)
    assert found - even == pytest.approx(400 / devices * 0.5 * busiest * each, rel=1e-9)


def test_the_ffn_curve_is_the_mean_of_its_layers():
    """Two drafts are layers like the last one."""
    placement = placed(
        model(*[Mixer(heads=GROUPED)] * 3, networks=(DENSE, ROUTED)), speculative_tokens=2
    )
    curve = feed_forward_curve(placement)
    assert curve.loads[[0, -1]].tolist() == [1.0, 65536.0]
    steps = np.diff(np.log(curve.loads))
    assert steps.max() < np.log(2) + 1e-9
    assert steps[-1] == pytest.approx(np.log(65536) / 96, rel=1e-3)
    for load in (1.0, 65536.0):
        dense, routed = (float(network_time(placement, one, load)) for one in (DENSE, ROUTED))
        assert curve(load) == pytest.approx((dense + 4 * routed) / 5, rel=1e-12)


def test_messages_between_the_sides():
    """Six devices on nodes of four: two nodes, each with half of the experts."""
    placement = placed(
        model(Mixer(heads=GROUPED)), speculative_tokens=1, router_side="attention",
        link="scale-out",
    )  # fmt: skip
    copies = 2 * (1 - (8 * 7) / (16 * 15))
    send, receive = send_transfer(placement), receive_transfer(placement)
    # Hidden states in a byte, with a number and a weight per choice; sums back in bf16.
    for transfer, factor, each in ((send, 13, HIDDEN + 2 * 12), (receive, 17, 2 * HIDDEN)):
        slope = factor * copies * 2 * each / (6 * 0.8 * 5e10)
        assert transfer.curve.slope == pytest.approx(slope, rel=1e-12)
        assert transfer.curve.intercept == pytest.approx(factor * (4e-6 + 5e-6), rel=1e-12)
    inside = send_transfer(placed(model(Mixer(heads=GROUPED)), link="scale-up"))
    copies = 6 * (1 - math.prod((16 - 16 / 6 - i) / (16 - i) for i in range(2)))
    assert inside.curve.slope == pytest.approx(13 * copies * HIDDEN / (6 * 0.8 * 4e11), rel=1e-12)
    assert inside.curve.intercept == pytest.approx(13 * 6e-6, rel=1e-12)


def test_what_a_step_takes_beside_its_layers_and_the_errors_of_all_parts():
    placement = placed(
        model(Mixer(heads=GROUPED)), speculative_tokens=1, acceptance=0.5, attention_devices=2
    )
    latency = latency_of(placement)
    head = work("gemm", VOCABULARY * HIDDEN * 2 / 2)
    assert latency.step_overhead == pytest.approx(19e-3 + 2 * head, rel=1e-12)
    assert latency.tokens_per_step == 1.5
    error = 1.4826 * 0.1
    wanted = dict.fromkeys(("attention", "gemm", "experts"), error)
    wanted |= {"elementwise": math.hypot(error, 0.3), "scheduling": 0.5}
    wanted |= dict.fromkeys(("dispatch", "combine"), 1.4826 * 0.3)
    assert part_errors(placement) == pytest.approx(wanted)
    chance = replace(placement, efficiencies=replace(SHARES, expert_imbalance=None))
    assert part_errors(chance) == pytest.approx(wanted | {"imbalance": 1.0})
    errors = latency.uncertainty.standard_errors
    assert errors["step_overhead"] == pytest.approx(
        math.hypot(0.5 * 19e-3, error * 2 * head), rel=1e-6
    )
    assert errors["send.intercept"] == pytest.approx(1.4826 * 0.3 * 13 * 6e-6, rel=1e-6)


def test_tokens_that_choose_every_expert_touch_all():
    assert distinct_experts(4, 4, np.array([0, 1, 9])).tolist() == [0.0, 4.0, 4.0]
    assert distinct_experts(4, 5, 2) == 4.0
    assert distinct_experts(4, 3, 1) == pytest.approx(3.0)
