"""Do emitted settings obey the laws that bind them, by what the scripts really run?"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import time
from dataclasses import replace

import pytest

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.names import system_names
from afdplan.deploy.registry import find_target, versions
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.servers import SERVERS
from afdplan.errors import UnsupportedError
from afdplan.files.atomic import write_folder
from afdplan.files.plan_unsplit import UnsplitPlan
from tests.deployed import HOSTS, ran, value, words_of
from tests.running import started
from tests.unit.deploy.cases import MODEL_OF, NEEDED, pair_plan, request_for

EVEN = ((6, 2, 31, 2), (8, 8, 40, 1), (3, 1, 5, 2))
UNSPLIT = UnsplitPlan(
    replicas=2,
    ranks=16,
    devices_per_rank=1,
    requests_per_rank=60,
    two_batch_overlap=True,
    step_time_mean=0.02,
    step_time_p99=0.03,
    tokens_per_second=5e4,
)


def plan_for(target, **options):
    """Return a small plan that a version of a system can run."""
    f = 2 if target.allows(4, 2) else 1
    m = 2 if 2 in target.microbatches else target.microbatches[0]
    hardware = "ascend-910c" if target.devices == ("ascend",) else "h200"
    return pair_plan(4, f, m=m, hardware=hardware, **options)


def written(tmp_path, request, target):
    write_folder(tmp_path / "out", deployment_files(request, target))
    return tmp_path / "out" / "bundle-001"


def every_version():
    return [target for name in system_names() for target in versions(name)]


@pytest.mark.parametrize(
    ("version", "a", "f", "batch", "m"),
    [
        *((version, *shape) for version in ("0.30", "2e4378f") for shape in EVEN),
        ("0.30", 7, 2, 31, 2),  # four attention ranks on one FFN rank, three on the other
        ("0.30", 5, 3, 8, 1),
    ],
)
def test_vllm_roles_agree_and_ffn_sizes_follow_from_attention(tmp_path, version, a, f, batch, m):
    target = find_target("vllm-afd-plugin", version)
    request = request_for("vllm-afd-plugin", pair_plan(a, f, batch, m))
    folder = written(tmp_path, request, target)
    words = {r: words_of(folder / f"{r}.sh", 0, tmp_path / "room") for r in ("attention", "ffn")}
    slots, peers = batch * m, math.ceil(a / f)
    sides = {"attention": (a, 1), "ffn": (f, peers)}
    configs = {r: value(line, "--additional-config")["afd"] for r, line in words.items()}
    assert [configs[r].pop("role") for r in sides] == list(sides)
    assert configs["attention"] == configs["ffn"]
    assert configs["ffn"]["host"] == HOSTS["FFN_HOST"]
    assert configs["ffn"]["num_attention_ranks"] == a
    assert configs["ffn"]["num_ffn_ranks"] == f
    for role, (workers, factor) in sides.items():
        line = words[role]
        assert int(value(line, "--data-parallel-size")) == workers
        assert int(value(line, "--max-num-seqs")) == slots * factor  # S_F = S ceil(A / F)
        assert int(value(line, "--max-num-batched-tokens")) >= slots * factor
        sizes = value(line, "--compilation-config")["cudagraph_capture_sizes"]
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == slots * factor == int(value(line, "--max-cudagraph-capture-size"))
        assert ("--enable-dbo" in line) == (m == 2)
    ladders = {r: value(w, "--compilation-config") for r, w in words.items()}
    ours = ladders["attention"]["cudagraph_capture_sizes"]
    assert ladders["ffn"]["cudagraph_capture_sizes"] == [size * peers for size in ours]
    tokens = [int(value(words[r], "--max-num-batched-tokens")) for r in sides]
    assert tokens[1] == tokens[0] * peers
    waits = "afd_process_group_timeout_s"
    assert (waits in configs["ffn"]) == (version != "2e4378f")  # 2e4378f refuses unknown keys
    assert int(value(words["ffn"], "--cpu-distributed-timeout-seconds")) > 1800


@pytest.mark.parametrize(("a", "f", "batch", "m"), [(28, 4, 48, 2), (6, 3, 7, 1), (2, 4, 16, 4)])
@pytest.mark.parametrize("version", ["3c71619", "fork-393bc98"])
def test_fastafd_capacity_is_that_of_the_whole_server(tmp_path, version, a, f, batch, m):
    plan = pair_plan(a, f, batch, m, hardware="gb200")
    target = find_target("fastafd", version)
    folder = written(tmp_path, request_for("fastafd", plan, node_devices=4), target)
    told = ran(folder / "server.sh", 0, tmp_path / "room")
    assert told[0].words[:3] == ["ray", "start", "--head"]
    words = told[-1].words
    assert int(value(words, "--afd-max-running-requests")) == a * batch * m  # A S
    assert int(value(words, "--afd-batch-size")) >= int(value(words, "--afd-num-mb")) == m
    assert int(value(words, "--afd-attn-dp-size")) == a
    assert int(value(words, "--afd-mlp-dp-size")) == f
    # The parser takes 1, the tensor size, or the whole FFN world.
    assert int(value(words, "--afd-mlp-ep-size")) == f * int(value(words, "--afd-mlp-tp-size"))
    buckets = [int(size) for size in value(words, "--afd-decode-graph-bs").split(",")]
    assert batch in buckets
    assert max(buckets) == batch
    others = ran(folder / "server.sh", 1, tmp_path / "room")
    assert others[-1].words[:2] == ["ray", "start"]
    assert f"{HOSTS['SERVER_HOST']}:6379" in others[-1].words


def test_a_node_of_fastafd_waits_until_ray_listens(tmp_path):
    """All nodes start at once; Ray ends where it finds no head, and the group with it."""
    request = request_for("fastafd", pair_plan(12, 4), node_devices=8)
    folder = written(tmp_path, request, find_target("fastafd"))
    room = tmp_path / "room"
    room.mkdir()
    (room / "ray").write_text('#!/bin/bash\necho "$@" > "$ROOM/told"\n')
    (room / "ray").chmod(0o755)
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        port = str(head.getsockname()[1])
        script = room / "server.sh"
        script.write_text((folder / "server.sh").read_text().replace("6379", port))
        env = {
            "PATH": f"{room}:{os.environ['PATH']}",
            "ROOM": str(room),
            "SERVER_HOST": "127.0.0.1",
        }
        with started(["bash", script, "1"], env=env) as waiting:
            time.sleep(0.3)
            assert waiting.poll() is None
            assert not (room / "told").exists()
            head.listen()
            assert waiting.wait(timeout=10) == 0
        told = (room / "told").read_text().split()
        joins = ["start", "--block", "--disable-usage-stats", "--address", f"127.0.0.1:{port}"]
        assert told == joins
        head.close()
        (room / "told").unlink()
        assert "SECONDS >= 1800" in script.read_text()
        script.write_text(script.read_text().replace("1800", "1"))
        with started(["bash", script, "1"], env=env, stderr=subprocess.PIPE) as waiting:
            assert waiting.wait(timeout=10) == 1
            told = f"no Ray head listens at 127.0.0.1:{port} after 1 s: is node 0 running?\n"
            assert waiting.stderr.read() == told.encode()
        assert not (room / "told").exists()


def test_tensor_parallel_sides_multiply_into_ranks(tmp_path):
    plan = pair_plan(4, 2, 24, 2, devices=(2, 4), hardware="gb200")
    folder = written(tmp_path, request_for("fastafd", plan), find_target("fastafd"))
    words = words_of(folder / "server.sh", 0, tmp_path / "room")
    assert int(value(words, "--afd-mlp-ep-size")) == 8
    assert int(value(words, "--afd-attn-tp-size")) == 2


def test_sglang_lanes_and_capacity(tmp_path):
    folder = written(tmp_path, request_for("sglang", pair_plan(6, 4, 20)), find_target("sglang"))
    words = {r: words_of(folder / f"{r}.sh", 0, tmp_path / "room") for r in ("attention", "ffn")}
    config = value(words["attention"], "--afd-config")
    assert config == value(words["ffn"], "--afd-config")
    assert (config["lanes"], config["attention_lanes"], config["stages"]) == (4, 6, 2)
    assert config["attention_backend"] == value(words["ffn"], "--attention-backend") == "fa3"
    assert 0 < config["rendezvous_timeout_seconds"] <= 7200  # its validation
    parallel = {
        role: tuple(int(value(line, f"--{name}-size")) for name in ("tp", "dp", "ep"))
        for role, line in words.items()
    }
    # AFDPairedTopology.expected_parallelism
    assert parallel == {"attention": (6, 6, 1), "ffn": (4, 1, 4)}
    # Each rank runs one request fewer than its share.
    assert int(value(words["attention"], "--max-running-requests")) // 6 - 1 == 40
    at = words["attention"].index("--cuda-graph-bs-decode")
    ladder = [int(w) for w in words["attention"][at + 1 :][:10] if w.isdigit()]
    assert 40 in ladder
    assert value(words["attention"], "--load-balance-method") == "total_tokens"
    assert "--enable-dp-attention" not in words["ffn"]


def test_rtp_llm_is_not_started_without_a_model_type():
    request = request_for("rtp-llm", architecture="")
    with pytest.raises(UnsupportedError, match="the model's type, of qwen3, qwen3_moe"):
        deployment_files(request, find_target("rtp-llm"))


@pytest.mark.parametrize(("first", "code"), [("exit 7", 7), ("exit 0", 0)])
def test_a_node_of_stepmesh_ends_with_its_first_failure(tmp_path, first, code):
    """Two devices and the scheduler; if the first device fails, the others wait for nobody."""
    request = request_for("stepmesh", pair_plan(1, 1, m=3, devices=(2, 2)), node_devices=4)
    folder = written(tmp_path, request, find_target("stepmesh"))
    env_file = folder / "cluster.env"
    env_file.write_text("FFN_HOST=127.0.0.1\n")
    rest = f"exec sleep {600 if code else 0.2}"
    command = f'[ "$DMLC_ROLE/${{STEPMESH_GPU:-}}" = server/0 ] && {first}; {rest}'
    env = {"PATH": os.environ["PATH"], "STEPMESH_COMMAND": command}
    with started([folder / "ffn.sh", "0"], env=env) as node:
        assert node.wait(timeout=20) == code


def test_a_server_that_ends_before_the_others_start_is_seen(tmp_path):
    (tmp_path / "seq").write_text("#!/bin/bash\nsleep 0.3\n")  # by then the first has ended
    (tmp_path / "server").write_text("#!/bin/bash\n[ $2 = 9000 ] || exec sleep 600\n")
    for name in ("seq", "server"):
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VISIBLE": "X", "EACH": "1"}
    env |= {"INSTANCES": "3", "FIRST_PORT": "9000"}
    with started(["bash", "-c", SERVERS, "-", "server"], env=env) as node:
        assert node.wait(timeout=20) == 1


def test_rtp_llm_and_stepmesh(tmp_path):
    folder = written(tmp_path, request_for("rtp-llm"), find_target("rtp-llm"))
    words = words_of(folder / "server.sh", 0, tmp_path / "room")
    assert value(words, "--world_size") == value(words, "--dp_size") == "5"
    assert value(words, "--model_type") == "qwen_3"
    request = request_for("stepmesh", pair_plan(3, 2, m=3, devices=(2, 2)), node_devices=4)
    write_folder(tmp_path / "mesh", deployment_files(request, find_target("stepmesh")))
    folder = tmp_path / "mesh" / "bundle-001"
    told = [
        one.environment
        for role, nodes in (("ffn", 1), ("attention", 2))
        for node in range(nodes)
        for one in ran(folder / f"{role}.sh", node, tmp_path / "r", STEPMESH_COMMAND="vllm")
    ]
    seen = sorted((e["DMLC_ROLE"], e.get("DMLC_NODE_RANK"), e.get("STEPMESH_GPU")) for e in told
                  if e["DMLC_ROLE"] != "scheduler")  # fmt: skip
    assert len(told) == 1 + 2 * (3 + 2)
    assert {s[:2] for s in seen} == {("server", "0"), ("server", "1"), ("worker", "0"),
                                     ("worker", "1"), ("worker", "2")}  # fmt: skip
    assert len(set(seen)) == len(seen)  # preferred rank = group size * node rank + device
    for e in told:
        sizes = e["DMLC_NUM_WORKER"], e["DMLC_NUM_SERVER"], e["DMLC_GROUP_SIZE"]
        assert sizes == ("3", "2", "2")
        assert e["DMLC_PS_ROOT_URI"] == HOSTS["FFN_HOST"]


def test_barrier_free_connector_takes_no_dual_batch_and_waits_at_attention(tmp_path):
    target = find_target("vllm-afd-plugin", "6fa5b0d")
    folder = written(tmp_path, request_for("vllm-afd-plugin", pair_plan(5, 2)), target)
    for role in ("attention", "ffn"):
        words = words_of(folder / f"{role}.sh", 0, tmp_path / "room")
        config = value(words, "--additional-config")["afd"]
        assert config["async"] is True
        assert config["compute_gate_on_attention"] is True
        assert config["host"] == HOSTS["ATTENTION_HOST"]
        assert "--enable-dbo" not in words
        assert "--enforce-eager" in words
        assert value(words, "--api-server-count") == "1"
        assert int(value(words, "--max-num-seqs")) == 48  # the same on all processes


def test_ascend_differs_where_its_recipe_does(tmp_path):
    folder = written(tmp_path, request_for("vllm-afd-ascend"), find_target("vllm-afd-ascend"))
    told = {r: ran(folder / f"{r}.sh", 0, tmp_path / "room")[-1] for r in ("attention", "ffn")}
    assert value(told["ffn"].words, "--ubatch-size") == "2"
    assert "--all2all-backend" not in told["ffn"].words
    sizes = {r: one.environment["HCCL_BUFFSIZE"] for r, one in told.items()}
    assert sizes == {"attention": "512", "ffn": "2048"}
    assert told["ffn"].environment["VLLM_PLUGINS"] == "ascend,afd"
    with pytest.raises(UnsupportedError, match=r"plan is for ascend: .*vllm-afd-ascend 0\.30"):
        deployment_of(
            request_for("vllm-afd-plugin", pair_plan(hardware="ascend-910c")),
            find_target("vllm-afd-plugin"),
        )


@pytest.mark.parametrize("name", ["vllm-afd-plugin", "sglang"])
def test_without_a_split_every_rank_is_on_one_node(tmp_path, name):
    request = request_for(name, pair_plan(unsplit=UNSPLIT), unsplit=True)
    folder = written(tmp_path, request, find_target(name))
    nodes = [words_of(folder / "server.sh", node, tmp_path / "room") for node in (0, 1)]
    for words in nodes:
        assert "--additional-config" not in words
        assert not any(word.startswith("--afd") for word in words)
    if name == "sglang":
        assert value(nodes[0], "--dp-size") == value(nodes[0], "--tp-size") == "16"
        assert [value(words, "--node-rank") for words in nodes] == ["0", "1"]
        assert "--enable-two-batch-overlap" in nodes[0]
        return
    local = [int(value(words, "--data-parallel-size-local")) for words in nodes]
    first = [int(value(words, "--data-parallel-start-rank")) for words in nodes]
    assert (local, first) == ([8, 8], [0, 8])
    assert int(value(nodes[0], "--max-num-seqs")) == 60
    assert "--enable-dbo" in nodes[0]
    assert value(nodes[0], "--all2all-backend") == "deepep_low_latency"  # dual batch needs it
    assert "--headless" in nodes[1]
    assert "--headless" not in nodes[0]


@pytest.mark.parametrize("target", every_version(), ids=lambda t: f"{t.name}-{t.version}")
def test_ports_are_disjoint_and_ranks_add_up(target):
    plan = plan_for(target, bundles=3)
    pair = plan.bundle.attention_workers, plan.bundle.ffn_workers
    kind = NEEDED.get(target.name, "")
    request = DeployRequest(plan=plan, model="m", node_devices=8, architecture=kind)
    deployment = deployment_of(request, target)
    assert len(deployment.bundles) == 3
    taken = [p for roles in deployment.bundles for r in roles for p in r.ports]
    assert len(taken) == len(set(taken))
    assert all(1024 <= port <= 65535 for port in taken)
    for roles in deployment.bundles:
        assert sum(role.workers * role.devices for role in roles) == sum(pair)
        for role in roles:
            assert sum(local for _, local in role.shares) == role.workers
            assert role.http is None or role.http in role.ports


def test_the_language_model_of_one_with_pictures_is_known_by_its_own_name():
    """Qwen3.5's checkpoint says qwen3_5_moe, its language model qwen3_5_moe_text."""
    target = find_target("vllm-afd-plugin")
    assert target.knows("qwen3_5_moe_text")
    assert not find_target("vllm-afd-plugin", "2e4378f").knows("qwen3_5_moe_text")
    deployment_of(request_for("vllm-afd-plugin", architecture="qwen3_5_moe_text"), target)
    with pytest.raises(UnsupportedError, match=r"these do: vllm-afd-plugin 0\.30$"):
        deployment_of(request_for("sglang", architecture="qwen3_5_moe_text"), find_target("sglang"))


@pytest.mark.parametrize("name", sorted(MODEL_OF))
def test_what_a_system_does_not_know_is_refused(name):
    target = find_target(name)
    request = request_for(name)
    with pytest.raises(UnsupportedError, match="must not be emitted"):
        target.check(["--turbo"])
    with pytest.raises(UnsupportedError, match="must not be emitted"):
        target.check([], ["ports"])
    if target.models is not None:
        other = request_for(name, request.plan, architecture="mixtral")
        with pytest.raises(UnsupportedError, match="does not register mixtral"):
            deployment_of(other, target)
    if target.unsplit is None:
        plan = pair_plan(unsplit=UNSPLIT, hardware=str(request.plan.inputs["hardware"]))
        with pytest.raises(UnsupportedError, match="no files without a split"):
            deployment_of(request_for(name, plan, unsplit=True), target)


def test_settings_hold_what_the_scripts_hold(tmp_path):
    import yaml

    request = request_for("vllm-afd-plugin")
    folder = written(tmp_path, request, find_target("vllm-afd-plugin"))
    told = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())
    for role, values in told["roles"].items():
        words = words_of(folder / f"{role}.sh", 0, tmp_path / "room")
        for name in ("max_num_seqs", "max_num_batched_tokens", "data_parallel_size"):
            assert str(values[name]) == value(words, f"--{name.replace('_', '-')}")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"| max_num_seqs | {told['roles']['ffn']['max_num_seqs']} |" in readme
    assert json.dumps(told)


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("vllm-afd-plugin", (2, 4)),
        ("vllm-afd-ascend", (2, 2)),
        ("fastafd", (2, 4)),
        ("sglang", (1, 2)),
        ("stepmesh", (4, 4)),
    ],
)
def test_workers_of_several_devices(tmp_path, name, devices):
    m, hardware = (3 if name == "stepmesh" else 2), "h200"
    if name == "vllm-afd-ascend":
        hardware = "ascend-910c"
    plan = pair_plan(8, 2, 10, m, bundles=1, devices=devices, hardware=hardware)
    request, target = request_for(name, plan, node_devices=8, image="img"), find_target(name)
    deployment = deployment_of(request, target)
    (roles,) = deployment.bundles
    ranks = {"attention": 8 * devices[0], "ffn": 2 * devices[1]}
    told = {role.name: role.workers * role.devices for role in roles}
    assert told == (ranks if "ffn" in told else {"server": sum(ranks.values())})
    assert sum(told.values()) == plan.devices
    files = deployment_files(request, target, "kubernetes")
    count = files["bundle-001.yaml"].count("limits:")
    assert count == 2 * len(roles)  # leader and workers of each role
    for role in roles:
        on_a_node = role.workers_per_node * role.devices
        assert on_a_node <= 8
        resource = "huawei.com/Ascend910" if hardware == "ascend-910c" else "nvidia.com/gpu"
        assert f"{resource}: '{on_a_node}'" in files["bundle-001.yaml"]
    folder = written(tmp_path, request, target)
    if name.startswith("vllm"):
        for role, values in deployment.settings.items():
            words = words_of(folder / f"{role}.sh", 0, tmp_path / "room")
            config = value(words, "--additional-config")["afd"]
            sizes = config["num_attention_ranks"], config["num_ffn_ranks"]
            assert sizes == (ranks["attention"], ranks["ffn"])
            at = int(value(words, "--data-parallel-size"))
            assert values["ranks"] == at * int(value(words, "--tensor-parallel-size"))
    if name == "sglang":
        words = words_of(folder / "ffn.sh", 0, tmp_path / "room")
        assert value(words, "--afd-config")["lanes"] == 4 == int(value(words, "--tp-size"))


def test_un_split_sglang_has_room_for_one_request_more_per_rank(tmp_path):
    request = request_for("sglang", pair_plan(unsplit=UNSPLIT), unsplit=True)
    folder = written(tmp_path, request, find_target("sglang"))
    words = words_of(folder / "server.sh", 0, tmp_path / "room")
    assert int(value(words, "--max-running-requests")) // 16 - 1 == 60


@pytest.mark.parametrize("unsplit", [False, True])
def test_sglang_servers_on_one_machine_share_no_port(tmp_path, unsplit):
    """A server takes six ports behind that of --dist-init-addr, and one per rank."""
    small = replace(UNSPLIT, ranks=4)
    request = request_for("sglang", pair_plan(6, 4, bundles=3, unsplit=small), unsplit=unsplit)
    write_folder(tmp_path / "out", deployment_files(request, find_target("sglang")))
    taken = []
    for script in sorted((tmp_path / "out").glob("bundle-*/*.sh")):
        words = words_of(script, 0, tmp_path / "room")
        init = int(value(words, "--dist-init-addr").rpartition(":")[2])
        taken += range(init, init + 7 + int(value(words, "--dp-size")))
        taken.append(int(value(words, "--port")))
        if "ffn" in script.name:
            config = value(words, "--afd-config")
            taken += range(config["rendezvous_port"], config["rendezvous_port"] + 4 + 2)
    assert len(taken) == len(set(taken)) > 3 * 7
    assert all(1024 <= port <= 65535 for port in taken)


def test_sglang_ranks_spread_evenly_over_nodes_as_the_plan_is_made():
    workers = [8, 9, 10, 12, 13, 16, 60, 61, 64, 72]
    legal = find_target("sglang").allows(workers, [4] * len(workers)).tolist()
    assert legal == [True, False, True, True, False, True, False, False, True, False]


def test_sglang_without_a_split_needs_even_nodes_too():
    request = request_for("sglang", pair_plan(unsplit=UNSPLIT), unsplit=True, node_devices=6)
    with pytest.raises(UnsupportedError, match="16 ranks evenly over its nodes, 3 nodes of 6"):
        deployment_of(request, find_target("sglang"))
