"""Do commands take barrier-free execution, and say which way to run pays?"""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from afdplan.deploy.registry import find_target
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.limits import Limits
from afdplan.planning.plan_modes import has_both_modes, meets_limit
from afdplan.report.plan_modes import mode_facts
from afdplan.report.ratio import mode_words
from afdplan.theory.recommend import recommend_ratio
from tests.cli.invoke import invoke
from tests.property import fuzzing

ASKED = (
    *("--prompt", "lognormal:mean=400,cv=1.5", "--decode", "geometric:200"),
    *("--latency", "deepseek-v3-ascend-910c", "--batch-size", 16),
)


def test_ratio_says_which_way_pays_and_why():
    asked = ("ratio", *ASKED, "--microbatches", 1, "--execution", "barrier-free")
    found = invoke(*asked, "--max-attention-workers", 12, "--json").document
    modes = found["modes"]
    assert found["inputs"]["execution"] == "barrier-free"
    gain = modes["objective"] / modes["synchronous_objective"] - 1
    assert modes["gain"] == pytest.approx(gain)
    assert modes["execution"] == ("barrier-free" if gain > 0 else "synchronous")
    plain = invoke("ratio", *ASKED, "--microbatches", 1, "--max-attention-workers", 12, "--json")
    assert plain.document["modes"] is None
    assert modes["synchronous_attention_workers"] == plain.document["optimal_attention_workers"]
    assert modes["step_time_error"] == pytest.approx(0.03)
    for tail in (
        [modes[f"step_time_{name}"] for name in ("p99_low", "p99", "p99_high")],
        [found["step_time"][name] for name in ("p99_low", "p99", "p99_high")],
    ):
        assert tail == sorted(tail)
    told = invoke(*asked, "--max-attention-workers", 12, "--full").out
    assert "Without the barrier" in told
    assert " ".join(told.split()).count("between ") >= 2
    assert "Boarding rule" in told


def test_simulate_names_the_departures():
    found = invoke(
        *("simulate", *ASKED, "--attention-workers", 3, "--requests", 40, "--replications", 2),
        *("--execution", "barrier-free", "--least-calls", 2, "--json"),
    ).document
    assert found["inputs"]["least_calls"] == 2
    assert found["pool"]["calls_per_departure"] >= 2
    assert "departure" in found["ffn_idle_causes"]


def test_a_boarding_rule_needs_the_mode():
    done = invoke("ratio", *ASKED, "--least-calls", 2)
    assert done.code == 1
    assert "is for barrier-free execution" in done.err


PLANNED = (
    *("plan", "--prompt", "lognormal:mean=400,cv=1.5", "--decode", "geometric:200"),
    *("--kv-tokens", "1e5", "--devices", 6, "--max-batch-size", 16),
)
LATENCY = """schema_version = 1
name = "made up"
time_unit = "s"
layers = 4
[attention]
kind = "linear"
slope = 1e-8
intercept = 2e-4
[ffn]
kind = "linear"
slope = 2e-6
intercept = 1e-4
"""


def test_a_plan_holds_its_limit_against_the_way_without_the_barrier(tmp_path):
    latency = tmp_path / "latency.toml"
    latency.write_text(LATENCY)
    asked = (*PLANNED, "--latency", latency, "--tpot")
    plain = invoke(*asked, "50ms")
    assert plain.code == 0, plain.err
    assert "Not compared: --execution barrier-free does." in plain.out
    found = invoke(*asked, "50ms", "--execution", "barrier-free", "--json").document
    modes = found["modes"]
    assert modes["meets_limit"] is True
    assert modes["step_time_p50"] <= modes["step_time_p95"] <= modes["step_time_p99"]
    assert modes["step_time_p50"] < 1.1 * modes["step_time"] < 1.1 * modes["step_time_p99"]
    told = " ".join(invoke(*asked, "50ms", "--execution", "barrier-free", "--full").out.split())
    assert "Keeps the limit of 50 ms (mean over all" in told


def test_the_limit_is_held_against_the_statistic_that_was_asked_for():
    ratio = recommend_ratio(
        IndependentLengths(prompt="lognormal:mean=400,cv=1.5", decode="geometric:200"),
        LatencyModel.linear(attention=(1e-4, 2.0), ffn=(0.02, 1.0)),
        batch_size=8,
        microbatches=1,
        execution="barrier-free",
        max_attention_workers=6,
    )
    modes = ratio.modes
    assert modes.step_time_p99 > 1.02 * modes.step_time
    middle = (modes.step_time + modes.step_time_p99) / 2
    for statistic, meets in (("mean", True), ("p99", False)):
        limits = Limits(devices=8, time_per_output_token=middle, statistic=statistic)
        plan = SimpleNamespace(limits=limits, latency=SimpleNamespace(tokens_per_step=1.0))
        assert meets_limit(plan, modes) is meets
        fact = mode_facts(modes, meets, limits, "s")[1]
        assert fact.value.startswith("Keeps" if meets else "BREAKS")
        assert ("it lies between" in fact.value) == (statistic == "p99")
    plan.limits = Limits(devices=8)
    assert meets_limit(plan, modes) is None


def test_a_bundle_of_two_rhythms_says_how_far_its_step_may_be_off():
    ratio = recommend_ratio(
        IndependentLengths(prompt="1000", decode="geometric:500"),
        LatencyModel.linear(attention=(0.0, 100.0), ffn=(0.0, 10.0), transfer=(0.0, 5.0)),
        batch_size=8,
        microbatches=2,
        execution="barrier-free",
        least_calls=12,
        max_attention_workers=12,
    )
    assert ratio.modes.step_time_error > 0.1
    names = [fact.name for fact in mode_words(ratio.modes, "abstract")]
    assert "Two rhythms" in names
    sure = replace(ratio.modes, step_time_error=0.03)
    assert "Two rhythms" not in [fact.name for fact in mode_words(sure, "abstract")]


def test_systems_that_have_a_barrier_only_are_not_asked():
    assert has_both_modes(find_target("sglang"))
    assert has_both_modes(find_target("vllm-afd-plugin"))
    assert not has_both_modes(find_target("fastafd"))


@pytest.mark.parametrize(
    "asked", [("--ffn-workers", "1000"), ("--max-attention-workers", "100000")]
)
def test_bundles_too_large_to_be_played_are_refused_at_once(asked):
    """Each was played for minutes and kept, gigabytes in all, without a word."""
    began = time.process_time()
    found = invoke("ratio", *fuzzing.LENGTHS, *fuzzing.LATENCY, "--batch-size", "8",
                   "--execution", "barrier-free", *asked)  # fmt: skip
    assert "max_attention_workers must be at most 8,192 without the barrier" in found.error_line
    assert time.process_time() - began < 10
