"""Does the plan say what binds, what conflicts, and whether to split?"""

import re
from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.deploy.registry import find_target
from afdplan.errors import InfeasibleError, InvalidInputError, TimeUnitError
from afdplan.files.latency_file import load_latency
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import make_plan
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace, graph_batch_sizes
from afdplan.report.plan import plan_told, what_binds

LATENCY = LatencyModel.linear(
    attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), transfer=(1e-8, 1e-5), layers=60, time_unit="s"
)
LAW = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
SPACE = SearchSpace(batch_sizes=(1, 16, 64, 128))


def plan(limits, **options):
    source = MeasuredSource(LATENCY, kv_tokens=options.pop("kv_tokens", 4e5))
    return make_plan(LAW, source, limits, space=options.pop("space", SPACE), **options)


def test_binding_limit_and_its_price():
    tight = plan(Limits(devices=16, time_per_output_token=0.02))
    binding = {price.limit: price for price in tight.binding}
    assert binding["time per output token"].binds
    relaxed = plan(Limits(devices=16, time_per_output_token=0.03))
    gain = relaxed.split.score / tight.split.score - 1
    assert binding["time per output token"].gain == pytest.approx(gain)


def test_front_rises_and_holds_the_recommendation():
    answer = plan(Limits(devices=16, time_per_output_token=0.03))
    times = [p.step_time.mean for p in answer.front]
    scores = [p.score for p in answer.front]
    assert times == sorted(times)
    assert scores == sorted(scores)
    assert answer.split.design in [p.design for p in answer.front]


def test_alternatives_are_never_better_within_the_limits():
    answer = plan(Limits(devices=16, time_per_output_token=0.03))
    assert answer.alternatives
    assert all(a.regret >= -1e-9 or a.breaks for a in answer.alternatives)


@pytest.mark.parametrize("devices", [12, 18, 33])
def test_alternatives_that_break_nothing_stay_inside_the_budget(devices):
    """Twice the FFN workers in as many bundles took 126 of 64 devices, and seemed better."""
    answer = plan(Limits(devices=devices, time_per_output_token=0.03))
    kept = [one for one in answer.alternatives if not one.breaks]
    assert any(one.kind == "ffn_workers" for one in kept)
    assert all(one.plan.design.devices <= devices and one.regret >= 0 for one in kept)


@pytest.mark.parametrize(
    ("sizes", "time", "warned"),
    [((8, 16), None, True), ((8, 16), 0.012, False), ((16,), None, False)],
)
def test_the_largest_of_several_batch_sizes_is_warned_of(sizes, time, warned):
    limits = Limits(devices=8, time_per_output_token=time)
    found = plan(limits, space=SearchSpace(batch_sizes=sizes, microbatches=(2,)))
    assert (found.split.design.batch_size == max(sizes)) is (warned or len(sizes) == 1)
    words = "the largest batch size considered, 16, is best"
    assert any(words in line for line in found.warnings) is warned


def test_rate_needs_the_fewest_devices():
    small = SearchSpace(batch_sizes=(8, 64), microbatches=(2,))
    free = plan(Limits(devices=20), space=small)
    goal = free.split.requests_per_second * 0.4
    answer = plan(Limits(requests_per_second=goal), space=small)
    assert answer.split.requests_per_second >= goal * (1 - 1e-9)
    devices = answer.split.design.devices
    with pytest.raises(InfeasibleError, match=f"{devices} devices would be needed"):
        plan(Limits(requests_per_second=goal, devices=devices - 1), space=small)


def test_mixed_prices_move_the_ratio():
    dear_ffn = plan(Limits(devices=24), cost=DeviceCost(per="currency", ffn=8.0, unit="USD/h"))
    dear_attention = plan(
        Limits(devices=24), cost=DeviceCost(per="currency", attention=8.0, unit="USD/h")
    )
    ratios = [p.split.design.bundle.attention_to_ffn_ratio for p in (dear_ffn, dear_attention)]
    assert ratios[0] > ratios[1]


def test_impossible_tpot_names_the_least():
    with pytest.raises(InfeasibleError, match=r"would have to be .* ms, \d+ times.*Near") as caught:
        plan(Limits(devices=16, time_per_output_token=1e-4))
    assert str(caught.value.nearest.design) in str(caught.value)


def test_progress_rises_to_nearly_the_end():
    seen = []
    plan(Limits(devices=8), progress=seen.append)
    assert len(seen) >= 4
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] < 1


def test_one_device_is_too_few():
    found = plan(Limits(devices=1))
    assert found.kind == "un-split"
    assert found.split_breaks.endswith("2 devices would be needed, 1 may be used")


def test_no_memory_for_one_request():
    with pytest.raises(InfeasibleError, match="KV memory"):
        plan(Limits(devices=16), kv_tokens=300.0)


def test_weights_leave_no_memory():
    placement = place(find_model("qwen3-30b-a3b"), find_hardware("h100"))
    tiny = replace(placement.attention_hardware, memory_size=0.4e9)
    with pytest.raises(InfeasibleError, match="no memory is left for the KV cache"):
        DerivedSource(replace(placement, attention_hardware=tiny))


def test_abstract_time_and_seconds_do_not_mix():
    source = MeasuredSource(load_latency("deepseek-v3-ascend-910c"))
    with pytest.raises(TimeUnitError, match="unit"):
        make_plan(LAW, source, Limits(devices=8, time_per_output_token=0.05), space=SPACE)
    assert make_plan(LAW, source, Limits(devices=8), space=SPACE).warnings


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"devices": 0},
        {"devices": 4, "time_per_output_token": 0.0},
        {"devices": 4, "overflow_probability": 1.5},
        {"devices": 4, "statistic": "p98"},
        {"requests_per_second": float("nan")},
    ],
)
def test_limits_are_checked(bad):
    with pytest.raises(InvalidInputError):
        Limits(**bad)


def test_whole_nodes_and_legal_pairs_are_kept():
    space = SearchSpace(
        batch_sizes=(8, 32, 64),
        microbatches=(1, 2),
        target=find_target("vllm-afd-plugin", "2e4378f"),
    )
    design = plan(Limits(devices=48, node_devices=8), space=space).split.design
    assert design.attention_workers % design.ffn_workers == 0
    assert design.bundles * design.attention_workers % 8 == 0
    assert design.bundles * design.ffn_workers % 8 == 0


def test_derived_plan_compares_with_wide_baselines():
    source = DerivedSource(
        place(find_model("qwen3-30b-a3b"), find_hardware("h100")), attention_devices=(1,)
    )
    answer = make_plan(LAW, source, Limits(devices=16, time_per_output_token=0.05), space=SPACE)
    widths = [c.ranks for c in answer.colocated]
    assert len(widths) > 1
    assert answer.verdict.gain == pytest.approx(
        answer.split.score / max(c.score for c in answer.colocated) - 1
    )
    assert any("short contexts" in r or "split" in r for r in answer.verdict.reasons)
    told = plan_told(answer, "subject")
    (without,) = [t for t in told.tables if t.title.startswith("Without a split")]
    assert len(without.rows) == len(answer.colocated)


def test_spare_capacity_and_drift_need_a_trace():
    rng = np.random.default_rng(1)
    trace = Trace(
        prompt_tokens=rng.integers(100, 2000, 1200),
        decode_tokens=rng.integers(1, 600, 1200),
        arrival_times=np.sort(rng.uniform(0, 600, 1200)),
    )
    source = MeasuredSource(LATENCY, kv_tokens=4e5)
    answer = make_plan(
        EmpiricalLengths(trace), source, Limits(devices=16), space=SPACE, trace=trace
    )
    assert answer.spare.arrival_rate == pytest.approx(2.0, rel=0.05)
    assert answer.spare.waiting_p99 is not None
    assert answer.drift == ()  # one uniform stream: nothing can be told apart
    assert {s.input for s in answer.sensitivity} >= {"mean token load", "ffn.slope"}


def test_next_batch_names_the_limit_that_forbids_it():
    answer = plan(Limits(devices=16), space=SearchSpace(max_attention_workers=4), kv_tokens=3.05e4)
    assert answer.split.design.batch_size not in graph_batch_sizes(1024)
    following = answer.next_batch
    assert following.batch_size == answer.split.design.batch_size + 1
    assert following.forbidden_by == ("KV memory",)
    assert following.gain > 0
    more = re.search(r"([\d.]+) % more memory", str(following))
    wanted = plan(
        Limits(devices=16),
        space=SearchSpace(max_attention_workers=4),
        kv_tokens=3.05e4 * (1 + float(more[1]) / 100 + 1e-4),
    )
    best, was = wanted.split.design, answer.split.design
    assert best.requests_per_attention_worker > was.requests_per_attention_worker


def test_nothing_is_said_to_bind_only_with_its_reason():
    listed = SearchSpace(batch_sizes=(8, 9), max_attention_workers=4, microbatches=(2,))
    loose = plan(Limits(devices=16), space=listed)
    assert loose.split.design.batch_size == 9
    assert "no larger batch" in what_binds(loose)[0]
    coarse = replace(listed, batch_sizes=(8, 64))
    tight = plan(Limits(devices=16), space=coarse, kv_tokens=4e4)
    assert not any(price.binds for price in tight.binding)
    assert "batch 64 would overflow the KV memory" in what_binds(tight)[0]
    assert tight.next_batch.forbidden_by == ("KV memory",)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(devices=24, time_per_output_token=0.03),
        Limits(requests_per_second=40.0, time_per_output_token=0.03),
    ],
)
def test_the_nearest_alternatives_are_the_nearest_of_all(limits):
    def nearest(found, count):
        held = sorted((a for a in found if not a.breaks), key=lambda a: a.regret)
        return [a.regret for a in held[:count]]

    everything = plan(limits).alternatives
    for count in (1, 2, 3):
        few = plan(limits).surroundings.nearest(count)
        assert nearest(few, count) == pytest.approx(nearest(everything, count), abs=1e-8)


def test_inputs_that_break_the_limit_are_those_of_the_sensitivities():
    step = plan(Limits(devices=16)).split.token_time("mean")
    answer = plan(Limits(devices=16, time_per_output_token=1.01 * step))
    broken = [one for one in answer.sensitivity if not one.meets_limit]
    broken.sort(key=lambda one: -one.time_per_output_token)
    assert broken
    assert [(one.input, one.change) for one in answer.surroundings.broken] == [
        (one.input, one.change) for one in broken
    ]
    assert [one.time_per_output_token for one in answer.surroundings.broken] == pytest.approx(
        [one.time_per_output_token for one in broken], rel=1e-5
    )
