"""Does the plan of FastAFD's published run give its published settings?"""

from __future__ import annotations

import pytest

from afdplan.deploy.emit import deployment_files
from afdplan.deploy.registry import find_target
from afdplan.files.atomic import write_folder
from tests.cli.invoke import invoke
from tests.deployed import ran, value
from tests.unit.deploy.cases import pair_plan, request_for

# FastAFD 3c71619, run_afd_qwen3_235b_a22b_fp8_8k_b96_dynamicnode_mb2_nsys_alignment.sh with 8
# nodes of 4: what it exports, and what its runner passes to the server.
PRESET = {
    "--afd-attn-dp-size": "28",
    "--afd-attn-tp-size": "1",
    "--afd-mlp-dp-size": "4",
    "--afd-mlp-tp-size": "1",
    "--afd-mlp-ep-size": "4",
    "--afd-num-mb": "2",
    "--afd-max-running-requests": "2688",
    "--afd-batch-size": "2688",
    "--max-seq-len-override": "8256",
    "--afd-max-batched-tokens": "512",
    "--page-size": "64",
    "--attention-backend": "trtllm",
    "--memory-ratio": "0.82",
    "--afd-moe-a2a-backend": "deepep",
    "--afd-moe-runner-backend": "deep_gemm",
    "--afd-device-comm-num-sms": "4",
    "--cache-type": "naive",
}
PRESET_BUCKETS = {8, 16, 32, 48, 64}


def test_side_by_side_with_the_preset(tmp_path):
    plan = pair_plan(28, 4, 48, 2, bundles=1, hardware="gb200")
    request = request_for("fastafd", plan, node_devices=4, max_model_len=8256)
    write_folder(tmp_path / "out", deployment_files(request, find_target("fastafd")))
    script = tmp_path / "out" / "bundle-001" / "server.sh"
    told = ran(script, 0, tmp_path / "room")[-1]
    ours = {flag: value(told.words, flag) for flag in PRESET}
    assert ours == PRESET
    buckets = {int(size) for size in value(told.words, "--afd-decode-graph-bs").split(",")}
    assert 48 in buckets & PRESET_BUCKETS
    assert told.environment["MINISGL_AFD_MOE_BACKEND"] == "megamoe_m2n"
    assert told.environment["MINISGL_MEGAMOE_AG_SMS"] == "24"
    assert request.plan.devices == 8 * 4  # 7 nodes of attention, 1 of FFN


SIZED = {"--afd-max-running-requests", "--afd-batch-size"}


def test_the_search_finds_the_published_run(tmp_path):
    """Qwen3-235B on 32 GB200, 8K prompts: pair, microbatches and batch are all left open.

    What differs from the preset is the batch: 49 fit where it has 48, so 2,744 requests, not 2,688.
    """
    plan = tmp_path / "plan.json"
    outcome = invoke(
        *("plan", "--model", "qwen3-235b-a22b-fp8", "--hardware", "gb200", "--target", "fastafd"),
        *("--prompt", "fixed:8192", "--decode", "fixed:64", "--tpot", "50ms"),
        *("--devices", 32, "--node-devices", 4, "--attention-devices", 1, "-o", plan),
    )
    assert outcome.code == 0, outcome
    out = tmp_path / "out"
    asked = ("--target", "fastafd", "--deployment", "split", "--node-devices", 4)
    outcome = invoke("deploy", plan, *asked, "--max-model-len", 8256, "-o", out)
    assert outcome.code == 0, outcome
    told = ran(out / "bundle-001" / "server.sh", 0, tmp_path / "room")[-1]
    ours = {flag: value(told.words, flag) for flag in PRESET}
    assert {flag: ours[flag] for flag in PRESET if flag not in SIZED} == {
        flag: PRESET[flag] for flag in PRESET if flag not in SIZED
    }
    assert len({ours[flag] for flag in SIZED}) == 1
    assert 2576 <= int(ours["--afd-batch-size"]) == pytest.approx(2688, rel=0.03)
    buckets = {int(size) for size in value(told.words, "--afd-decode-graph-bs").split(",")}
    assert max(buckets) * 2 * 28 == int(ours["--afd-batch-size"])
