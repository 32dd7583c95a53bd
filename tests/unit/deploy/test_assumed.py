"""Is each assumption told where it holds, and only there?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.registry import find_target, versions
from afdplan.deploy.sglang import _init_ports
from afdplan.errors import UnsupportedError
from tests.unit.deploy.cases import pair_plan, request_for
from tests.unit.deploy.test_laws import UNSPLIT

VLLM = [*versions("vllm-afd-plugin"), *versions("vllm-afd-ascend")]
ON_ALL = {"6fa5b0d", "57bcde1-window", "57bcde1-window-async"}
"""Versions whose FFN ranks have tokens of every attention rank."""
WITHOUT = {"6fa5b0d", "57bcde1-window-async"}
"""Versions without a barrier."""


def deployed(target, plan=None, **options):
    if plan is None:
        plan = pair_plan()
    hardware = "ascend-910c" if "ascend" in target.devices else "h200"
    plan = replace(plan, inputs={"hardware": hardware})
    return deployment_of(request_for(target.name, plan, architecture="", **options), target)


def says(found, words):
    return any(words in line for line in found.assumed)


@pytest.mark.parametrize("target", VLLM, ids=lambda t: f"{t.name}-{t.version}")
def test_connectors_of_vllm_tell_what_is_theirs(target):
    found = deployed(target)
    one_node = target.version == "6fa5b0d"
    assert says(found, "8 devices per node, both roles of a bundle on one") == one_node
    assert says(found, "8 devices per node, roles on different nodes") != one_node
    assert ("Both are the same node" in found.start[0]) == one_node
    assert found.forms == (("scripts", "compose") if one_node else ())
    assert says(found, "serves ceil(A / F) attention ranks") == (target.version not in ON_ALL)
    assert says(found, "those with a barrier") == (target.version in WITHOUT)
    waits = target.name == "vllm-afd-plugin" and target.version == "0.30"
    assert says(found, "waits 120 s for the other role") != waits
    assert says(found, f"the engine is {target.engine}:")
    assert found.checks[0].shows == f"version {target.engine.removeprefix('vLLM ')}"
    assert says(found, "`--max-num-seqs` of a rank covers all its microbatches")
    own = deployed(replace(target, engine=""))
    assert not says(own, "the engine is")
    assert not own.checks[0].shows.startswith("version")


@pytest.mark.parametrize("target", VLLM, ids=lambda t: f"{t.name}-{t.version}")
def test_a_rule_of_several_calls_is_told_where_no_switch_waits(target):
    for calls in (1, 2):
        found = deployed(target, replace(pair_plan(), least_calls=calls))
        told = target.version in WITHOUT and calls == 2
        assert says(found, f"waits for {calls} calls") == told


def test_of_two_microbatches_it_is_told_what_they_bring():
    newest, measured = find_target("vllm-afd-plugin"), find_target("vllm-afd-plugin", "6fa5b0d")
    both, off = "compare with `afdplan plan --microbatches 1`", "they are switched off"
    for target, batch, m, words in (
        (newest, 24, 2, both), (newest, 24, 1, None), (newest, 24, 3, None),
        (measured, 24, 2, off), (measured, 4096, 2, both), (measured, 24, 1, None),
    ):  # fmt: skip
        target = replace(target, microbatches=(1, 2, 3))
        found = deployed(target, pair_plan(batch=batch, m=m))
        assert [words == one for one in (both, off)] == [says(found, one) for one in (both, off)]
        if words == off:
            assert says(found, f"at {2 * batch} tokens a step")
        overlaps = words == both
        for values in found.settings.values():
            assert values["microbatches"] == 1 + overlaps
            assert values["enable_dbo"] is (overlaps and target.version != "6fa5b0d")


@pytest.mark.parametrize("unsplit", [False, True])
@pytest.mark.parametrize(
    ("batch", "transfer", "tokens"),
    [
        (24, None, 2048),
        (24, "NixlConnector", 48),
        (1025, None, 2050),
        (1024, "NixlConnector", 2048),
    ],
)
def test_a_step_has_room_for_prompts_where_they_are_computed_here(unsplit, batch, transfer, tokens):
    """Two microbatches of `batch`, or 2 batch without a split; else vLLM's 2,048 at least."""
    alone = replace(UNSPLIT, requests_per_rank=2 * batch)
    found = deployed(
        find_target("vllm-afd-plugin"), pair_plan(batch=batch, unsplit=alone),
        unsplit=unsplit, kv_transfer=transfer,
    )  # fmt: skip
    one = found.settings["server" if unsplit else "attention"]
    assert one["max_num_batched_tokens"] == tokens
    assert says(found, "up to 2048 tokens a step, which the plan does not count") != bool(transfer)
    words = found.bundles[0][-1].command
    assert ("--kv-transfer-config" in words) == bool(transfer)
    if not unsplit:  # FFN engines see no prompts
        assert "--kv-transfer-config" not in found.bundles[0][0].command


def test_the_longest_request_is_asked_for_where_nobody_gave_it():
    for longest in (None, 4096):
        found = deployed(find_target("vllm-afd-plugin"), max_model_len=longest)
        assert says(found, "the longest request is the model's own") == (longest is None)


def test_what_is_checked_first_has_the_numbers_of_one_rank():
    plan = pair_plan(4, 2, 24, 2, unsplit=UNSPLIT)
    split = deployed(find_target("vllm-afd-plugin"), plan)
    assert [check.shows for check in split.checks[1:]] == [
        "GPU KV cache size: 100,000 tokens or more", "'max_num_seqs': 48",
        "vllm:num_requests_running 48 for every engine",
    ]  # fmt: skip
    alone = deployed(find_target("vllm-afd-plugin"), plan, unsplit=True)
    assert [check.shows for check in alone.checks] == [
        "'max_num_seqs': 60", "vllm:num_requests_running 60 for every engine",
    ]  # fmt: skip
    lanes = deployed(find_target("sglang"), plan)
    assert [check.shows for check in lanes.checks[:2]] == [
        "max_total_num_tokens=100000 or more", "#running-req: 48",
    ]  # fmt: skip
    group = deployed(find_target("sglang"), plan, unsplit=True)
    assert [check.shows for check in group.checks] == ["#running-req: 60"]


@pytest.mark.parametrize(
    ("ranks", "devices", "overlap", "backend"),
    [
        (8, 1, False, "allgather_reducescatter"),
        (8, 1, True, "deepep_low_latency"),
        (9, 1, False, "deepep_low_latency"),
        (4, 2, False, "allgather_reducescatter"),
        (5, 2, False, "deepep_low_latency"),
    ],
)
def test_transfers_without_a_split(ranks, devices, overlap, backend):
    """DeepEP hides them in dual batch, and pays between nodes, here of eight devices."""
    plan = replace(UNSPLIT, ranks=ranks, devices_per_rank=devices, two_batch_overlap=overlap)
    found = deployed(find_target("vllm-afd-plugin"), pair_plan(unsplit=plan), unsplit=True)
    ((role,), _) = found.bundles
    assert role.command[role.command.index("--all2all-backend") + 1] == backend
    assert found.settings["server"]["all2all_backend"] == backend
    assert says(found, f"transfers by {backend}")
    assert ("--enable-dbo" in role.command) == overlap
    size = f" of TP {devices}" if devices > 1 else ""
    assert found.title == f"2 x {ranks} ranks{size}, not split"
    assert (role.workers, role.devices) == (ranks, devices)
    assert role.others == ("--headless",)


@pytest.mark.parametrize(
    ("ranks", "devices", "node", "shares"),
    [
        (9, 1, 8, ((0, 5), (5, 4))),
        (16, 1, 8, ((0, 8), (8, 8))),
        (5, 2, 8, ((0, 3), (3, 2))),
        (4, 2, 8, ((0, 4),)),
    ],
)
def test_ranks_without_a_split_are_shared_out_evenly(ranks, devices, node, shares):
    plan = replace(UNSPLIT, ranks=ranks, devices_per_rank=devices)
    found = deployed(
        find_target("vllm-afd-plugin"), pair_plan(unsplit=plan), unsplit=True, node_devices=node
    )
    for k, (role,) in enumerate(found.bundles):
        assert role.shares == shares
        assert (role.http, role.ports) == (8000 + 2 * k, (8000 + 2 * k, 13345 + 2 * k))


@pytest.mark.parametrize(
    ("architecture", "hardware", "backend"),
    [("qwen3_moe", "h200", "fa3"), ("qwen3_moe", "gb200", "fa4"), ("glm_moe_dsa", "gb200", "nsa"),
     ("glm_moe_dsa", "h200", "nsa")],
)  # fmt: skip
def test_each_profile_of_lanes_has_its_backend(architecture, hardware, backend):
    plan = pair_plan(hardware=hardware)
    request = request_for("sglang", plan, architecture=architecture)
    for role in deployment_of(request, find_target("sglang")).bundles[0]:
        assert role.command[role.command.index("--attention-backend") + 1] == backend
        config = "".join(map(str, role.command[role.command.index("--afd-config") + 1]))
        assert f'"attention_backend":"{backend}"' in config


def test_lanes_on_several_nodes():
    """Twelve attention workers on nodes of eight: six on each of two; of five: four on three."""
    for node, nodes in ((8, 2), (5, 3)):
        request = request_for("sglang", pair_plan(12, 4), node_devices=node)
        ffn, attention = deployment_of(request, find_target("sglang")).bundles[0]
        assert attention.shares == tuple((k * 12 // nodes, 12 // nodes) for k in range(nodes))
        assert ffn.shares == ((0, 4),)
        for role, count in ((ffn, 1), (attention, nodes)):
            assert role.command[role.command.index("--nnodes") + 1] == str(count)
    alone = request_for("sglang", pair_plan(12, 4), node_devices=1)  # eight nodes at most
    with pytest.raises(UnsupportedError, match="the 12 attention ranks evenly over at most 8"):
        deployment_of(alone, find_target("sglang"))


def test_a_group_of_lanes_without_two_batches():
    plan = replace(UNSPLIT, ranks=8, two_batch_overlap=False, devices_per_rank=2)
    request = request_for("sglang", pair_plan(unsplit=plan), unsplit=True)
    found = deployment_of(request, find_target("sglang"))
    for k, (role,) in enumerate(found.bundles):
        told = role.command
        assert "--enable-two-batch-overlap" not in told
        sizes = [told[told.index(f"--{of}-size") + 1] for of in ("tp", "dp", "ep")]
        assert sizes == ["16", "8", "16"]
        assert told[told.index("--nnodes") + 1] == "2"
        assert told[told.index("--max-running-requests") + 1] == str(8 * 61)
        # Its port, six more and one per rank follow --dist-init-addr.
        init = 20000 + 15 * k
        assert role.ports == (30000 + 2 * k, *range(init, init + 15))
    assert found.settings["server"]["requests_per_rank"] == 60


def test_init_ports_of_many_servers_end_below_those_of_http():
    """Spans of 1 + 6 + 4 ports: 909 fit below 30000, the next server begins at 20000 again."""
    firsts = [_init_ports(4, place) for place in (0, 1, 908, 909, 910, 1818)]
    assert firsts == [range(20000 + 11 * k, 20011 + 11 * k) for k in (0, 1, 908, 0, 1, 0)]
    assert _init_ports(4, 908).stop <= 30000 < _init_ports(4, 908).stop + 11


def test_a_bundle_on_one_node_fills_it_and_no_more():
    """Five and three ranks on eight devices; a container sees its own devices only."""
    target = find_target("vllm-afd-plugin", "6fa5b0d")
    ffn, attention = deployed(target, pair_plan(5, 3)).bundles[0]
    assert ffn.environment["CUDA_VISIBLE_DEVICES"] == "5,6,7"
    assert attention.environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4"
    assert (ffn.listens, attention.listens) == (None, 6239)
    for role in deployed(target, pair_plan(5, 3), one_machine=True).bundles[0]:
        assert "CUDA_VISIBLE_DEVICES" not in role.environment
        assert role.environment["NVSHMEM_REMOTE_TRANSPORT"] == "none"
    with pytest.raises(UnsupportedError, match=r"node, 9 devices .* its 8: .*-devices 8$"):
        deployed(target, pair_plan(6, 3))
    with pytest.raises(UnsupportedError, match="take --format scripts or compose"):
        deployment_files(request_for("vllm-afd-plugin"), target, "slurm")


def test_flags_that_only_some_connectors_have():
    for target in VLLM:
        for m in (1, 2):
            ascend = target.name == "vllm-afd-ascend"
            for role in deployed(target, pair_plan(m=m)).bundles[0]:
                assert ("--ubatch-size" in role.command) == (ascend and m == 2)
                assert ("--all2all-backend" in role.command) != ascend
                assert ("--api-server-count" in role.command) == (target.version in WITHOUT)
                assert ("--enforce-eager" in role.command) == (target.version == "6fa5b0d")


def test_a_pool_and_its_hosts():
    """Nine hosts on nodes of four: ports of four and the pool behind them, five for each bundle."""
    target = find_target("sglang", "host-pool")
    plan = replace(pair_plan(9, 1, 24, 1), least_calls=12, step_time_mean=0.0004)
    request = request_for("sglang", plan, node_devices=4, architecture="qwen3_5", quantization="x")
    found = deployment_of(request, target)
    assert found.settings["ffn"] == {"hosts": 9, "afd_min_batch": 9, "afd_max_wait_ms": 1}
    assert found.settings["attention"] == {
        "hosts": 9, "requests_per_rank": 24, "max_running_requests": 25,
        "cuda_graph_bs_decode": [8, 16, 24],
    }  # fmt: skip
    for k, (pool, hosts) in enumerate(found.bundles):
        first = 30000 + 5 * k
        assert pool.ports == (6239 + k, first + 4)
        assert hosts.ports == tuple(range(first, first + 4))
        assert "FIRST_SIDE_PORT" not in hosts.environment
        assert (hosts.environment["FIRST_PORT"], hosts.environment["EACH"]) == (str(first), "1")
        assert (hosts.workers, hosts.devices, hosts.nodes) == (9, 1, 3)
        assert (pool.workers, pool.devices, pool.nodes) == (1, 1, 1)
        assert "--enable-metrics" not in pool.command
        for role in (pool, hosts):
            assert role.command[role.command.index("--quantization") + 1] == "x"
    assert says(found, "leaves with 9 calls or after 1 ms")
    assert found.checks[0].shows == "#running-req: 24"


def test_rtp_llm_fills_its_node_and_no_more():
    target = find_target("rtp-llm")
    found = deployed_rtp = deployment_of(
        request_for("rtp-llm", pair_plan(7, 1), architecture="qwen3"), target
    )
    assert found.settings == {
        "attention": {"dp_size": 7, "requests_per_rank": 48, "num_mb": 2},
        "ffn": {"ranks": 1, "tokens_per_microbatch": 168, "num_mb": 2},
    }
    ((role,), (second,)) = deployed_rtp.bundles
    assert (role.workers, role.devices, role.nodes, role.shares) == (8, 1, 1, ((0, 8),))
    assert (role.http, second.http) == (8088, 8088 + 72)
    assert role.ports == tuple(range(8088, 8160))
    assert "--max_seq_len" not in role.command
    with pytest.raises(UnsupportedError, match=r"9 ranks need more than its 8 .*-workers 7$"):
        deployment_of(request_for("rtp-llm", pair_plan(8, 1), architecture="qwen3"), target)
    with pytest.raises(UnsupportedError, match="plan with --attention-devices 1"):
        deployment_of(
            request_for("rtp-llm", pair_plan(2, 1, devices=(2, 1)), architecture="qwen3"), target
        )


@pytest.mark.parametrize("version", sorted(ON_ALL - {"6fa5b0d"}))
def test_the_window_has_its_own_settings(version):
    found = deployed(find_target("vllm-afd-ascend", version))
    for role in found.bundles[0]:
        afd = "".join(map(str, role.command[role.command.index("--additional-config") + 1]))
        assert '"connector_extra_config":{"micro_batch_num":2,"quant_mode":2}' in afd
        assert '"compute_gate_on_attention":true' in afd
        assert found.settings[role.name]["max_num_batched_tokens"] == 512
