"""What would we have planned where others published what they measured? Nothing is tuned."""

import json

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import make_plan
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from tests.shared import shared

CONTEXT_8K = IndependentLengths(prompt="fixed:8192", decode="fixed:1")


def published(name):
    document = json.loads(shared("measurements/published.json").read_text())
    return next(e for e in document["experiments"] if e["id"] == name)


def calibrated_on_three_ratios(points):
    """Attention from 3:1; the FFN line through 11:1 and 17:1. GPUs are attention workers."""
    layers, microbatches, batch = 94, 2, 48
    step = {p["A"]: p["step_ms"] * 1e-3 / layers / microbatches for p in points}
    tokens = {a: 4 * a * batch for a in step}
    slope = (step[17] - step[11]) / (tokens[17] - tokens[11])
    return LatencyModel.linear(
        attention=(0.0, step[3]),
        ffn=(slope, step[11] - slope * tokens[11]),
        layers=layers,
        time_unit="s",
    )


def test_fastafd_qwen3_235b_from_three_measured_ratios():
    """FastAFD blog, Fig. 10: best measured 7:1 nodes with 2518 tokens/s per GPU."""
    points = published("fastafd-qwen3-235b-8k")["points"]
    latency = calibrated_on_three_ratios(points)
    measured = {p["A"]: p["tok_s_per_gpu"] for p in points}
    space = SearchSpace(batch_sizes=(48,), microbatches=(2,), ffn_workers=(1,))
    source = MeasuredSource(latency, attention_devices=1, ffn_devices=4)
    search = DesignSearch(CONTEXT_8K, source, space, DeviceCost())
    limits = Limits(devices=72)
    predicted = {
        nodes: search.describe(
            Design(
                bundles=1,
                attention_workers=4 * nodes,
                ffn_workers=1,
                batch_size=48,
                microbatches=2,
                ffn_devices=4,
            ),
            limits,
        )
        for nodes in measured
    }
    best = max(predicted, key=lambda a: predicted[a].tokens_per_second_per_device)
    assert measured[best] >= 0.99 * max(measured.values())
    for nodes in (7, 15):  # the ratios that the calibration has not seen
        error = predicted[nodes].tokens_per_second_per_device / measured[nodes] - 1
        assert abs(error) < 0.03
    # Free to choose on the machine of the measurement's best point, the plan is that point.
    limits = Limits(devices=32, node_devices=4)
    design = make_plan(CONTEXT_8K, source, limits, space=space).split.design
    assert (design.bundles, design.attention_workers) == (1, 28)


def test_fastafd_qwen3_235b_derived_from_sizes_alone():
    """The same rack from names alone: 7:1 within 10 % of the measured step, wide baseline."""
    source = DerivedSource(
        place(find_model("qwen3-235b-a22b-fp8"), find_hardware("gb200"), serving_system="fastafd"),
        attention_devices=(1,),
    )
    space = SearchSpace(batch_sizes=(48,), microbatches=(2,), ffn_workers=(4,))
    limits = Limits(devices=32, time_per_output_token=0.05, node_devices=4)
    plan = make_plan(CONTEXT_8K, source, limits, space=space)
    assert plan.split.design.attention_workers == 28
    assert plan.split.step_time.mean == pytest.approx(0.0334, rel=0.10)
    baseline = plan.best_colocated
    assert baseline.ranks * baseline.devices_per_rank > 4
    assert plan.verdict.narrow_gain > plan.verdict.gain + 0.15  # what EP4 would have claimed


@pytest.mark.parametrize(("context", "devices", "batch"), [(4096, 32, 128), (8192, 48, 64)])
def test_step3_deployments_derived_from_sizes_alone(context, devices, batch):
    """Step-3 report, Table 8: 2A2F at 4K and 4A2F at 8K, both just under 50 ms."""
    points = published("step3-e2e")["points"]
    point = next(p for p in points if p["isl"] == context and p["n_gpus"] == devices)
    source = DerivedSource(
        place(
            find_model("step-3"),
            find_hardware("h800-sxm"),
            precision="fp8",
            cache_precision="fp8",
            serving_system="stepmesh",
        ),
        attention_devices=(1,),
    )
    space = SearchSpace(batch_sizes=(batch,), microbatches=(3,), ffn_workers=(16,))
    law = IndependentLengths(prompt=f"fixed:{context}", decode="fixed:1")
    limits = Limits(devices=devices, time_per_output_token=0.06, node_devices=8)
    best = make_plan(law, source, limits, space=space).split
    assert (best.design.attention_workers, best.design.ffn_workers) == (
        8 * point["A"],
        8 * point["F"],
    )
    assert best.step_time.mean == pytest.approx(point["step_ms"] * 1e-3, rel=0.15)


@pytest.mark.parametrize(
    ("model", "context", "devices", "measured"),
    [
        # github.com/linsj20/FastAFD, CODEX_PROJECT_REPRODUCE.md: over the best un-split width that
        # so many devices hold whole, 16, 16, 8 and 8 ranks.
        ("qwen3-235b-a22b-fp8", 8192, 32, 0.0819),
        ("qwen3-235b-a22b-fp8", 16_384, 48, 0.1592),
        ("minimax-m2.5", 8192, 72, 0.1319),
        ("minimax-m2.5", 16_384, 72, -0.0208),
    ],
)
def test_verdicts_of_plans_that_choose_freely(model, context, devices, measured):
    """They take other batch sizes than were measured; none has the wrong sign."""
    placement = place(find_model(model), find_hardware("gb200"), serving_system="fastafd")
    law = IndependentLengths(prompt=f"fixed:{context}", decode="fixed:1")
    limits = Limits(devices=devices, time_per_output_token=0.06, node_devices=4)
    plan = make_plan(law, DerivedSource(placement, attention_devices=(1,)), limits)
    verdict = plan.verdict
    assert verdict.split in (("yes", "even") if measured > 0 else ("no", "even"))
    assert verdict.interval.low - 0.015 < measured < verdict.interval.high
