"""Does the plan of FastAFD's published run give its published settings?"""

from __future__ import annotations

from afdplan.deploy.emit import deployment_files
from afdplan.deploy.registry import find_target
from afdplan.files.atomic import write_folder
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
