"""Is every number that a started program gets bound by a law, so that a wrong one is noticed?

The laws are written again here, from A, F, B, m and the plan's node; nothing of the emitter is
used. Then every number is made wrong, one at a time, and the laws must say so.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.names import system_names
from afdplan.deploy.registry import versions
from afdplan.files.atomic import write_folder
from tests.deployed import ran
from tests.unit.deploy.cases import NEEDED, pair_plan, request_for
from tests.unit.deploy.numbers import numbers_of
from tests.unit.deploy.test_laws import UNSPLIT

A, B, LONGEST, NODE = 6, 31, 9999, 10
SECOND = 1  # the second bundle: its ports follow those of the first


def ladder(most: int, unit: int = 8):
    """Return whether graph sizes end with a full step and no step pads by much more than twice."""

    def holds(sizes: tuple[float, ...]) -> bool:
        smaller = sizes[:-1]
        return (
            sizes[-1] == most
            and list(sizes) == sorted(set(sizes))
            and all(size % unit == 0 for size in smaller)
            and sizes[0] <= unit
            and all(b <= 2 * a + unit for a, b in pairwise(sizes))
        )

    return holds


def vllm(target, unsplit, role, f, m):
    slots = 60 if unsplit else B * m
    ranks = {"server": 16, "attention": A, "ffn": f}[role]
    fixed_peers = target.version != "6fa5b0d" and "window" not in target.version
    peers = -(-A // f) if role == "ffn" and fixed_peers else 1
    prompts = 512 if "window" in target.version else 2048
    second = role == "ffn"
    found = {
        "--data-parallel-size": ranks,
        "--tensor-parallel-size": 1,
        "--max-num-seqs": slots * peers,
        "--max-num-batched-tokens": max(slots, prompts) * peers,
        "--gpu-memory-utilization": 0.9,  # the plan leaves a tenth
        "--cpu-distributed-timeout-seconds": 7200,
        "--max-model-len": LONGEST,
        "--data-parallel-size-local": 8 if unsplit else ranks,  # 16 ranks on two nodes
        "--data-parallel-start-rank": 0,
        "--data-parallel-rpc-port": 13345 + 2 * SECOND + second,
        "--port": 8000 + 2 * SECOND + second,
    }
    if unsplit or target.version != "6fa5b0d":  # which runs without graphs
        found["--max-cudagraph-capture-size"] = slots * peers
        sizes = ladder(slots * peers, 8 * peers)
        found["--compilation-config.cudagraph_capture_sizes"] = sizes
        found |= {"--dbo-decode-token-threshold": 2, "--dbo-prefill-token-threshold": 12}
    if unsplit:
        return found
    afd = "--additional-config.afd."
    span = 1 + f * (target.version == "2e4378f" and target.name == "vllm-afd-plugin")
    found |= {
        f"{afd}port": 6239 + span * SECOND,
        f"{afd}num_attention_ranks": A,
        f"{afd}num_ffn_ranks": f,
    }
    if target.execution == "barrier-free":
        found["--api-server-count"] = 1
    if "window" in target.version:
        extra = f"{afd}connector_extra_config."
        found |= {f"{extra}micro_batch_num": m, f"{extra}quant_mode": 2}
    if target.name == "vllm-afd-ascend":
        found |= {"HCCL_BUFFSIZE": 2048 if second else 512, "HCCL_CONNECT_TIMEOUT": 900}
        return found | {"VLLM_ASCEND_ENABLE_MLAPO": 1, "--ubatch-size": 2}
    found["VLLM_USE_V2_MODEL_RUNNER"] = 0
    if target.version == "0.30":
        found[f"{afd}afd_process_group_timeout_s"] = 7200
    if target.version == "6fa5b0d":
        ours = range(A, A + f) if second else range(A)
        found["CUDA_VISIBLE_DEVICES"] = tuple(ours)
    return found


def fastafd(target, unsplit, role, f, m):
    return {
        "--port": 19193 + 10 * SECOND,
        "--afd-attn-dp-size": A,
        "--afd-attn-tp-size": 1,
        "--afd-mlp-dp-size": f,
        "--afd-mlp-tp-size": 1,
        "--afd-mlp-ep-size": f,
        "--afd-num-mb": m,
        "--afd-max-running-requests": A * B * m,
        "--afd-batch-size": A * B * m,
        "--afd-decode-graph-bs": ladder(B),
        "--cuda-graph-max-bs": B,
        "--afd-max-batched-tokens": 512,
        "--afd-device-comm-num-sms": 4,
        "--page-size": 64,
        "--memory-ratio": 0.82,
        "--max-seq-len-override": LONGEST,
        "--ray-address": 6379 + SECOND,
        "MINISGL_MEGAMOE_AG_SMS": 24,
    }


def sglang(target, unsplit, role, f, m):
    if target.version == "host-pool":
        http = 30000 + (A + 1) * SECOND
        found = {"--mem-fraction-static": 0.9, "--context-length": LONGEST}
        if role == "ffn":
            found |= {"--port": http + A, "--afd-bootstrap-port": 6239 + SECOND}
            return found | {"--afd-min-batch": 1, "--afd-max-wait-ms": 30}  # a step is 30 ms
        return found | {
            "--afd-pool-addr": 6239 + SECOND,
            "--max-running-requests": B * m + 1,
            "--cuda-graph-bs-decode": ladder(B * m),
            "--port": http,
            "EACH": 1,
            "FIRST_PORT": http,
            "INSTANCES": A,
        }
    ranks, slots = {"server": (16, 60), "attention": (A, B * m), "ffn": (f, B * m)}[role]
    found = {
        "--tp-size": ranks,
        "--dp-size": 1 if role == "ffn" else ranks,
        "--ep-size": 1 if role == "attention" else ranks,
        "--max-running-requests": (16 if unsplit else A) * (slots + 1),
        "--mem-fraction-static": 0.9,
        "--nnodes": -(-ranks // NODE),
        "--node-rank": 0,
        "--cuda-graph-bs-decode": ladder(slots),
        "--context-length": LONGEST,
        # Behind it the server takes six ports, and one per rank.
        "--dist-init-addr": 20000
        + ((7 + 16) * SECOND if unsplit else (7 + A) * (2 * SECOND + (role == "ffn"))),
        "--port": 30000 + 2 * SECOND + (role == "ffn"),
    }
    if unsplit:
        return found
    afd = "--afd-config."
    return found | {
        f"{afd}stages": m,
        f"{afd}lanes": f,
        f"{afd}attention_lanes": A,
        f"{afd}rendezvous_port": 6239 + (f + 2) * SECOND,
        f"{afd}rendezvous_timeout_seconds": 7200,
    }


def rtp_llm(target, unsplit, role, f, m):
    sides = {"--attention_tp_size": 1, "--attention_dp_size": A}
    return {
        "--enable_ffn_disaggregate": 1,
        "--enable_layer_micro_batch": 1,
        "--world_size": A + 1,
        **(sides if target.version == "moe" else {"--dp_size": A + 1}),
        "--concurrency_limit": A * B * m,
        "--start_port": 8088 + 9 * (A + 1) * SECOND,
        "--max_seq_len": LONGEST,
        "LOAD_PYTHON_MODEL": 1,
    }


def stepmesh(target, unsplit, role, f, m):
    return {
        "DMLC_GROUP_SIZE": 1,
        "DMLC_NUM_SERVER": f,
        "DMLC_NUM_WORKER": A,
        "DMLC_PS_ROOT_PORT": 6239 + SECOND,
        "FIRST_INSTANCE": 0,
        "INSTANCES": f if role == "ffn" else A,
    }


LAWS = {
    "fastafd": fastafd,
    "rtp-llm": rtp_llm,
    "sglang": sglang,
    "stepmesh": stepmesh,
    "vllm-afd-ascend": vllm,
    "vllm-afd-plugin": vllm,
}
CASES = [
    (target, unsplit)
    for name in system_names()
    for target in versions(name)
    for unsplit in ((False, True) if target.unsplit else (False,))
]


def broken(told, law):
    """Return the names of numbers that no law binds or that break theirs."""
    found = set(told) ^ set(law)
    for name in set(told) & set(law):
        wanted = law[name]
        if callable(wanted):
            found |= set() if wanted(told[name]) else {name}
        elif told[name] != (tuple(wanted) if isinstance(wanted, tuple) else (wanted,)):
            found.add(name)
    return found


@pytest.mark.parametrize(
    ("target", "unsplit"), CASES, ids=lambda x: f"{x.name}-{x.version}" if hasattr(x, "name") else x
)
def test_every_number_obeys_its_law_and_a_wrong_one_is_noticed(tmp_path, target, unsplit):
    f = next(f for f in (4, 2, 1) if target.allows(A, f) and A + f <= NODE)
    m = 2 if 2 in target.microbatches else target.microbatches[0]
    hardware = "ascend-910c" if target.devices == ("ascend",) else "gb200"
    plan = pair_plan(A, f, B, m, hardware=hardware, unsplit=UNSPLIT)
    asked = {
        "unsplit": unsplit,
        "architecture": NEEDED.get(target.name, ""),
        "max_model_len": LONGEST,
    }
    request = request_for(target.name, plan, node_devices=NODE, **asked)
    write_folder(tmp_path / "out", deployment_files(request, target))
    roles = deployment_of(request, target).bundles[SECOND]
    planted = 0
    for role in roles:
        script = tmp_path / "out" / f"bundle-{SECOND + 1:03d}" / f"{role.name}.sh"
        all_told = [
            numbers_of(one, set(role.environment) - {"STEPMESH_COMMAND"})
            for one in ran(script, 0, tmp_path / "room", together=role.is_independent,
                           STEPMESH_COMMAND="vllm")
        ]  # fmt: skip
        law = LAWS[target.name](target, unsplit, role.name, f, m)
        told = all_told[-1]
        if role.is_independent:  # servers start in any order
            told = min(all_told, key=lambda one: one["--port"])
        assert broken(told, law) == set()
        for name, numbers in told.items():
            for at, number in enumerate(numbers):
                wrong = (*numbers[:at], number + 1, *numbers[at + 1 :])
                assert broken({**told, name: wrong}, law) == {name}, (name, wrong)
                planted += 1
    assert planted >= 8
