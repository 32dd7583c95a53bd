"""Which pairs and batch sizes are looked at: all that are legal, no other; and what is verified."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from afdplan.deploy.registry import find_target
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.limits import Limits
from afdplan.planning.service_verify import ServiceVerification, verify_service
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import PairLattice, SearchSpace, graph_batch_sizes
from afdplan.planning.verify import Verification
from tests.unit.planning.test_service_numbers import SEARCH, TRACE, design, ranks, service

LATENCY = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), time_unit="s")


def test_batch_sizes_are_as_dense_as_graphs():
    found = graph_batch_sizes(5000)
    assert found[:5] == (1, 2, 4, 8, 16)
    steps = {size: after - size for size, after in pairwise(found)}
    for low, high, step in ((8, 248, 8), (256, 496, 16), (512, 1984, 64), (2048, 4608, 256)):
        assert {steps[size] for size in range(low, high + 1, step)} == {step}
    assert found[-2:] == (4864, 5000)
    assert graph_batch_sizes(512)[-2:] == (496, 512)
    assert graph_batch_sizes(4) == (1, 2, 4)
    assert graph_batch_sizes(3) == (1, 2, 3)
    assert graph_batch_sizes(4096)[-2:] == (3840, 4096)


@pytest.mark.parametrize("target", ["any", "vllm-afd-plugin", "fastafd", "stepmesh"])
@pytest.mark.parametrize(("d_a", "d_f"), [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("node", [1, 4])
@pytest.mark.parametrize(
    "changes",
    [{}, {"max_attention_workers": 5}, {"ffn_workers": (2, 3)}, {"max_bundle_devices": 9}],
)
def test_a_lattice_holds_all_legal_pairs(target, d_a, d_f, node, changes):
    source = MeasuredSource(LATENCY, attention_devices=d_a, ffn_devices=d_f)
    space = SearchSpace(target=find_target(target), **changes)
    limits = Limits(devices=26, node_devices=node)
    found = PairLattice.build(source, space, limits, d_a, 20)
    expected = {}
    for f in space.ffn_workers or range(1, 20):
        for a in range(1, (space.max_attention_workers or 20) + 1):
            size = a * d_a + f * d_f
            if not space.target.allows(a, f, d_a, d_f) or size > (
                changes.get("max_bundle_devices") or 20
            ):
                continue
            if space.ffn_workers is None and math.gcd(a, f) > 1:  # several smaller ones beat it
                continue
            unit = next(k for k in range(1, 17) if k * a * d_a % node == k * f * d_f % node == 0)
            if size * unit <= 20:
                expected[a, f] = (size, unit, 26 // (size * unit) * unit)
    pairs = zip(found.attention.tolist(), found.ffn.tolist(), strict=True)
    rows = zip(
        found.bundle_devices.tolist(), found.unit.tolist(), found.most_bundles.tolist(), strict=True
    )
    assert dict(zip(pairs, rows, strict=True)) == expected
    assert found.ffn_numbers.tolist() == sorted({f for _, f in expected})
    if expected:
        quotients = [a / f for a, f in expected]
        assert found.ratios == (min(quotients), max(quotients))
    free = PairLattice.build(source, space, Limits(requests_per_second=1.0), d_a, 20)
    assert not free.most_bundles.any()


def test_the_next_batch_size_of_a_list_or_of_its_gaps():
    listed = SearchSpace(batch_sizes=(8, 16, 40))
    assert [listed.next_batch_size(b) for b in (1, 8, 9, 16, 40)] == [8, 16, 16, 40, None]
    filled = replace(listed, fills_gaps=True)
    assert [filled.next_batch_size(b) for b in (8, 39, 40)] == [9, 40, None]
    assert SearchSpace().fills_gaps
    assert not listed.fills_gaps


def verification(mean, p99):
    return Verification(
        name="x", design=None, predicted_mean=mean, predicted_p99=p99,
        simulated_mean=Estimate(value=1.0, low=0.996, high=1.004, confidence=0.95, method="x"),
        simulated_p99=Estimate(value=2.0, low=1.98, high=2.01, confidence=0.95, method="x"),
        tokens_per_second_per_device=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mean", "p99", "agrees"),
    [
        (1.0, 2.0, True), (1.0139, 2.0, True), (1.0141, 2.0, False), (0.9861, 2.0, True),
        (0.9859, 2.0, False), (1.0, 2.0499, True), (1.0, 2.0501, False), (1.0, 1.9401, True),
        (1.0, 1.9399, False),
    ],
)  # fmt: skip
def test_a_prediction_agrees_within_its_declared_error_and_the_noise(mean, p99, agrees):
    found = verification(mean, p99)
    assert found.agrees is agrees
    assert found.mean_error == pytest.approx(mean - 1)
    assert found.p99_error == pytest.approx(p99 / 2 - 1)


@pytest.mark.parametrize(
    ("limit", "tpot", "good"), [(5.0, 1.0, 1.0), (0.9, 1.0, 0.0), (5.0, 0.1, 0.0)]
)
def test_a_service_of_ranks_played_by_hand(limit, tpot, good):
    """Prompts of 1 s never wait at 0.5 requests/s; then ten tokens of a full group's step each."""
    decode = ranks()
    planned = service(decode, workers=1, limit=60.0)
    planned.pool.limit = replace(planned.pool.limit, time_to_first_token=limit)
    planned = replace(
        planned,
        rate=planned.pool.traffic.rate,
        first_token=SimpleNamespace(p99=1.5),
        plan=SimpleNamespace(
            recommended=decode, limits=Limits(devices=8, time_per_output_token=tpot)
        ),
    )
    found = verify_service(planned, None)
    each = decode.time_per_output_token
    assert 0.1 < each < 0.2
    assert (found.decode, found.requests) == ("steps of full groups", TRACE.requests)
    assert found.first_token_p50.value == pytest.approx(1.0)
    assert found.first_token_p99.value == pytest.approx(1.0)
    assert found.token_time_mean == pytest.approx(each)
    assert found.token_time_p99.value == pytest.approx(each)
    assert found.latency_p50.value == pytest.approx(1 + 10 * each)
    assert found.latency_p99.value == pytest.approx(1 + 10 * each)
    assert found.good_fraction == good
    assert found.goodput == pytest.approx(good * planned.rate)
    assert found.predicted_p99 == 1.5
    assert found.agrees


def test_a_prediction_that_is_shorter_than_what_is_played_does_not_agree():
    one = Estimate(value=2.0, low=1.9, high=2.1, confidence=0.95, method="x")
    for predicted, agrees in ((1.71, True), (1.69, False), (9.0, True)):
        found = ServiceVerification(
            decode="x", requests=1, first_token_p50=one, first_token_p99=one,
            predicted_p99=predicted, token_time_mean=1.0, token_time_p99=one, latency_p50=one,
            latency_p99=one, good_fraction=1.0, goodput=1.0,
        )  # fmt: skip
        assert found.agrees is agrees


@pytest.mark.parametrize("bundles", [1, 2])
def test_every_request_of_a_played_bundle_is_found_again(bundles):
    """Alike requests, too: none is lost between the pool and the log of its simulator."""
    decode = design(bundles=bundles)
    planned = service(decode, workers=1, limit=60.0)
    planned = replace(
        planned,
        rate=planned.pool.traffic.rate,
        first_token=SimpleNamespace(p99=1.5),
        plan=SimpleNamespace(
            recommended=decode, split=decode, limits=Limits(devices=20, time_per_output_token=1.0)
        ),
    )
    source = SEARCH.source
    shown = []
    found = verify_service(planned, source, progress=shown.append)
    assert (found.decode, found.requests) == ("simulated", TRACE.requests)
    assert shown == [(k + 1) / bundles for k in range(bundles)]
    assert found.first_token_p50.value >= 1.0
    assert 0 < found.token_time_mean <= decode.time_per_output_token * 1.05
    assert found.latency_p50.value == pytest.approx(
        found.first_token_p50.value + 10 * found.token_time_mean, rel=0.1
    )
    assert found.good_fraction == 1.0
