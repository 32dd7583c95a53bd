"""Are the prefill servers of a planned service started too?"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.registry import find_target
from afdplan.files.atomic import write_folder
from tests.deployed import ran, value
from tests.unit.deploy.cases import pair_plan, request_for
from tests.unit.deploy.cluster_objects import objects
from tests.unit.deploy.test_laws import UNSPLIT

PLAN = dataclasses.replace(
    pair_plan(4, 2, unsplit=UNSPLIT), prefill_workers=5, prefill_devices=2, prefill_chunk=4096
)


def asked(**options):
    return request_for("vllm-afd-plugin", PLAN, image="img", **options)


@pytest.mark.parametrize("unsplit", [False, True])
def test_servers_share_nodes_and_hand_the_cache_over(tmp_path, unsplit):
    target = find_target("vllm-afd-plugin")
    write_folder(tmp_path / "out", deployment_files(asked(unsplit=unsplit, node_devices=4), target))
    ports = {}
    for bundle, shares in ((1, (2, 1)), (2, (2,))):  # 3 + 2 of the plan's 5, two on a node
        folder = tmp_path / "out" / f"bundle-00{bundle}"
        for node, share in enumerate(shares):
            told = ran(folder / "prefill.sh", node, tmp_path / "room", together=True)
            assert len(told) == share
            devices = sorted(one.environment["CUDA_VISIBLE_DEVICES"] for one in told)
            assert devices == ["0,1", "2,3"][:share]
            for one in told:
                assert value(one.words, "--tensor-parallel-size") == "2"
                assert value(one.words, "--max-num-batched-tokens") == "4096"
                kv = value(one.words, "--kv-transfer-config")
                assert kv == {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
                at = (bundle, node)
                side = one.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"]
                ports.setdefault(at, set()).update((value(one.words, "--port"), side))
            assert len(ports[bundle, node]) == 2 * share
        decoding = "server" if unsplit else "attention"
        one = ran(folder / f"{decoding}.sh", 0, tmp_path / "room")[-1]
        told, ranks = one.words, 16 if unsplit else 4
        # Those that fetch listen too: on the default, 5600, they would meet a prefill server.
        assert one.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] == str(15600 + ranks * (bundle - 1))
        assert value(told, "--kv-transfer-config")["kv_role"] == "kv_consumer"
    settings = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())
    assert settings["roles"]["prefill"] == {"servers": 5, "tensor_parallel_size": 2}


def test_kubernetes_has_a_pod_per_server():
    files = deployment_files(asked(per_pod=True), find_target("vllm-afd-plugin"), "kubernetes")
    for number, replicas in ((1, 3), (2, 2)):
        told = objects(list(yaml.safe_load_all(files[f"bundle-00{number}.yaml"])))
        roles = {role.name: role.spec for role in told[-1].spec.roles}
        assert set(roles) == {"attention", "ffn", "prefill"}
        group = roles["prefill"].leaderWorkerTemplate
        assert (roles["prefill"].replicas, group.size) == (replicas, 1)
        (container,) = group.leaderTemplate.spec.containers
        assert dict(container.resources.limits) == {"nvidia.com/gpu": "2"}
        assert container.readinessProbe.httpGet.path == "/health"
        http = {one.metadata.name: one for one in told if type(one).__name__ == "Service"}
        service = http[f"afdplan-00{number}-prefill-http"]
        assert service.spec.ports[0].port == container.ports[0].containerPort
        assert roles["attention"].replicas == 1


def test_one_machine_counts_their_devices_too():
    target = find_target("vllm-afd-plugin")
    files = deployment_files(asked(node_devices=22, one_machine=True), target, "compose")
    services = yaml.safe_load(files["compose.yaml"])["services"]
    devices = [
        number
        for one in services.values()
        for number in one["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
    ]
    assert sorted(map(int, devices)) == list(range(12 + 10))
    deployment = deployment_of(asked(node_devices=22), target)
    taken = [port for roles in deployment.bundles for role in roles for port in role.ports]
    assert len(taken) == len(set(taken))


def test_a_system_without_them_says_so():
    plan = dataclasses.replace(PLAN, prefill_workers=1)
    deployment = deployment_of(request_for("sglang", plan), find_target("sglang"))
    assert "1 prefill worker of the plan are not" in deployment.assumed[-1]


def test_if_one_server_ends_the_others_are_ended(tmp_path):
    """Else they would keep devices and ports, and the next start would fail."""
    write_folder(tmp_path / "out", deployment_files(asked(), find_target("vllm-afd-plugin")))
    script = tmp_path / "out" / "bundle-001" / "prefill.sh"
    room = tmp_path / "room"
    room.mkdir()
    (room / "vllm").write_text(
        '#!/bin/bash\n[[ "$CUDA_VISIBLE_DEVICES" == 0,1 ]] && sleep 0.5 && exit 3\n'
        f"echo $$ >> {room}/pids\nexec sleep 60\n"
    )
    (room / "vllm").chmod(0o755)
    env = {"PATH": f"{room}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run([str(script), "0"], env=env, check=False, timeout=30)
    assert ended.returncode == 1
    time.sleep(0.2)
    for pid in (room / "pids").read_text().split():
        status = Path(f"/proc/{pid}/status")
        assert not status.exists() or "\nState:\tZ" in status.read_text()


def test_a_hostile_name_arrives_as_it_is(tmp_path):
    name = "a'b\"c `touch pwned` $(touch pwned) $HOME; touch pwned"
    request = asked(model=name)
    write_folder(tmp_path / "out", deployment_files(request, find_target("vllm-afd-plugin")))
    folder = tmp_path / "out" / "bundle-002"
    told = ran(folder / "prefill.sh", 0, tmp_path / "room", together=True)
    assert [one.words[2] for one in told] == [name, name]
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()
