"""Does a plan that is better without the barrier become files that run without one?"""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cli.invoke import invoke
from tests.deployed import ran, value, words_of
from tests.plans import edited, written_plan

MODES = {"attention_workers": 5, "step_time": 0.0123, "least_calls": 2, "gain": 0.07}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = written_plan(tmp_path_factory.mktemp("modes"), "--ffn-workers", 2)
    other = edited(edited(path, "modes", value=MODES), "inputs", "model", value="deepseek-v3")
    return other.rename(path)


def deployed(plan, out, *options):
    split = ("--deployment", "split")
    return invoke("deploy", plan, "--target", "vllm-afd-plugin", "-o", out, *split, *options)


def test_what_the_plan_found_better_is_what_is_written(plan, tmp_path):
    modes = MODES
    outcome = deployed(plan, tmp_path / "out")
    assert outcome.code == 0, outcome
    told = " ".join((outcome.out + outcome.err).split())
    assert "without a barrier, by version 6fa5b0d" in told
    folder = tmp_path / "out" / "bundle-001"
    visible = {}
    for role in ("attention", "ffn"):
        told = ran(folder / f"{role}.sh", 0, tmp_path / "room")[-1]
        config = value(told.words, "--additional-config")["afd"]
        assert config["connector"] == "GpuAsyncAFDConnector"
        assert config["async"] is True
        assert config["num_attention_ranks"] == modes["attention_workers"]
        visible[role] = told.environment["CUDA_VISIBLE_DEVICES"].split(",")
    # Both roles share the node, and no device.
    ours = [int(device) for role in visible.values() for device in role]
    assert sorted(ours) == list(range(modes["attention_workers"] + 2))
    settings = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())
    assert settings["step_time_seconds"] == {"mean": modes["step_time"], "p99": None}
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "without a barrier a worker's mean time per token" in readme
    waits = f"waits for {modes['least_calls']} calls; this connector"
    assert (waits in readme) == (modes["least_calls"] > 1)


def test_with_a_barrier_it_is_the_split_of_the_plan(plan, tmp_path):
    best = json.loads(plan.read_text())
    best = best.get("split") or best["recommended"]
    outcome = deployed(plan, tmp_path / "out", "--execution", "synchronous")
    assert outcome.code == 0, outcome
    words = words_of(tmp_path / "out" / "bundle-001" / "ffn.sh", 0, tmp_path / "room")
    config = value(words, "--additional-config")["afd"]
    assert config["connector"] == "P2pNcclAFDConnector"
    assert config["num_attention_ranks"] == best["attention_workers"]


def test_a_system_that_cannot_is_said(plan, tmp_path):
    qwen = edited(plan, "inputs", "model", value="qwen3-30b-a3b")
    outcome = deployed(qwen, tmp_path / "out")
    assert outcome.code == 0
    assert "7.00 % better without a barrier, which vllm-afd-plugin does not" in " ".join(
        (outcome.out + outcome.err).split()
    )
    words = words_of(tmp_path / "out" / "bundle-001" / "ffn.sh", 0, tmp_path / "room")
    assert value(words, "--additional-config")["afd"]["connector"] == "P2pNcclAFDConnector"


def test_refusals(plan, tmp_path):
    for options, message in (
        (("--execution", "barrier-free", "--target-version", "0.30"), "versions that have it: 6fa"),
        (("--format", "slurm"), "cannot be started by slurm: take --format scripts or compose"),
        (("--node-devices", 2), "runs a bundle on one node"),
    ):
        outcome = deployed(plan, tmp_path / "out", *options)
        assert outcome.code == 1, outcome
        assert message in outcome.error_line
    none = edited(plan, "modes", value=None)
    outcome = deployed(none, tmp_path / "out", "--execution", "barrier-free")
    assert "plan with --execution barrier-free first" in outcome.error_line
    broken = edited(plan, "modes", value={"attention_workers": 3})
    assert "modes.step_time must be" in deployed(broken, tmp_path / "out").error_line
    broken = edited(plan, "modes", value=[])
    assert "modes must be null or an object" in deployed(broken, tmp_path / "out").error_line
