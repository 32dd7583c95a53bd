"""What stands in pods, services and containers, number for number?"""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from afdplan.deploy.emit import deployment_files, deployment_of, ports_of
from afdplan.deploy.formats.kubernetes import _label
from afdplan.deploy.provenance import to_yaml
from afdplan.deploy.registry import find_target
from afdplan.errors import InvalidInputError, UnsupportedError
from tests.unit.deploy.cases import pair_plan, request_for
from tests.unit.deploy.test_laws import UNSPLIT

DRIVERS = ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]


def kubernetes(name, plan=None, version=None, **options):
    request = request_for(name, plan, image="img", per_pod=True, **options)
    files = deployment_files(request, find_target(name, version), "kubernetes")
    return list(yaml.safe_load_all(files["bundle-001.yaml"]))


def pods(group):
    both = group["leaderWorkerTemplate"]
    return [both[f"{of}Template"] for of in ("leader", "worker")]


def container(pod):
    (one,) = pod["spec"]["containers"]
    return one


def test_a_pod_that_answers_and_one_that_only_listens():
    *others, whole = kubernetes("vllm-afd-plugin")
    assert (whole["kind"], whole["apiVersion"]) == (
        "DisaggregatedSet", "disaggregatedset.x-k8s.io/v1",
    )  # fmt: skip
    groups = {one["name"]: one["spec"] for one in whole["spec"]["roles"]}
    for group in groups.values():
        assert (group["replicas"], group["startupPolicy"]) == (1, "LeaderCreated")
        both = group["leaderWorkerTemplate"]
        assert (both["size"], both["restartPolicy"]) == (1, "RecreateGroupOnPodRestart")
        for pod in pods(group):
            assert pod["spec"]["volumes"] == [
                {
                    "name": "scripts",
                    "configMap": {"name": "afdplan-001-scripts", "defaultMode": 0o555},
                },
                {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
            ]
            assert container(pod)["volumeMounts"] == [
                {"name": "scripts", "mountPath": "/afdplan", "readOnly": True},
                {"name": "shared-memory", "mountPath": "/dev/shm"},
            ]
            limits = container(pod)["resources"]
            assert limits["limits"] == limits["requests"]
    answers, worker = map(container, pods(groups["attention"]))
    asks = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}
    assert answers["startupProbe"] == asks | {"failureThreshold": 720}  # two hours
    assert answers["readinessProbe"] == asks
    assert answers["livenessProbe"] == asks | {"failureThreshold": 6, "timeoutSeconds": 10}
    assert answers["ports"] == [{"name": "http", "containerPort": 8000}]
    listens, other = map(container, pods(groups["ffn"]))
    asks = {"tcpSocket": {"port": 6239}, "periodSeconds": 10}
    assert listens["startupProbe"] == asks | {"failureThreshold": 720}
    assert listens["readinessProbe"] == asks
    for one in (worker, other):
        assert not [name for name in one if "Probe" in name or name == "ports"]
    assert "livenessProbe" not in listens
    services = {one["metadata"]["name"]: one["spec"] for one in others if one["kind"] == "Service"}
    assert set(services) == {
        "afdplan-001-ffn", "afdplan-001-attention", "afdplan-001-attention-http",
    }  # fmt: skip
    assert [one["port"] for one in services["afdplan-001-ffn"]["ports"]] == [8001, 13346, 6239]
    assert services["afdplan-001-attention-http"]["ports"] == [
        {"name": "http", "port": 8000, "targetPort": "http"}
    ]
    for name in ("ffn", "attention"):  # ranks look for one another before any is ready
        service = services[f"afdplan-001-{name}"]
        assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    for service in services.values():
        assert service["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"


def test_a_role_that_listens_nowhere_has_no_probe():
    *_, whole = kubernetes("stepmesh", node_devices=8)
    groups = {one["name"]: one["spec"] for one in whole["spec"]["roles"]}
    told = {name: [set(container(pod)) for pod in pods(group)] for name, group in groups.items()}
    assert ["startupProbe" in one for one in told["ffn"]] == [True, False]
    assert ["startupProbe" in one for one in told["attention"]] == [False, False]


def test_servers_for_themselves_are_replicas_and_one_role_is_a_set_of_its_own():
    *_, whole = kubernetes("sglang", pair_plan(6, 1, 24, 1), "host-pool", architecture="qwen3_5")
    groups = {one["name"]: one["spec"] for one in whole["spec"]["roles"]}
    told = {
        name: (group["replicas"], group["leaderWorkerTemplate"]["size"])
        for name, group in groups.items()
    }
    assert told == {"ffn": (1, 1), "attention": (6, 1)}
    *_, alone = kubernetes("vllm-afd-plugin", pair_plan(unsplit=UNSPLIT), unsplit=True)
    assert (alone["kind"], alone["metadata"]["name"]) == ("LeaderWorkerSet", "afdplan-001")
    assert (alone["spec"]["replicas"], alone["spec"]["leaderWorkerTemplate"]["size"]) == (1, 2)


@pytest.mark.parametrize("digest", ["", "abc"])
def test_labels(digest):
    first, *_ = kubernetes("vllm-afd-plugin", plan_digest=digest)
    assert first["metadata"]["labels"].get("afdplan/plan") == (digest or None)
    assert [_label(text) for text in ("a b/c", "-x.", "", "é" * 9, "a" * 70, "a" * 62 + "-b")] == [
        "a-b-c", "x", "unknown", "unknown", "a" * 63, "a" * 62,
    ]  # fmt: skip


def services(name, hardware, **options):
    plan = pair_plan(4, 2, m=1, bundles=1, hardware=hardware)
    request = request_for(name, plan, image="img", one_machine=True, **options)
    target = replace(find_target(name), devices=("nvidia", "amd", "ascend"))
    return yaml.safe_load(deployment_files(request, target, "compose")["compose.yaml"])["services"]


def test_devices_of_containers_by_maker():
    """NPUs are numbered from 0 within a container, others as on the machine."""
    told = services("vllm-afd-ascend", "ascend-910c")
    ffn, attention = told["bundle-001-ffn"], told["bundle-001-attention"]
    assert ffn["devices"] == ["/dev/davinci0", "/dev/davinci1", *DRIVERS]
    assert attention["devices"] == [*(f"/dev/davinci{k}" for k in (2, 3, 4, 5)), *DRIVERS]
    assert ffn["environment"] == {"ASCEND_RT_VISIBLE_DEVICES": "0,1"}
    assert attention["environment"] == {"ASCEND_RT_VISIBLE_DEVICES": "0,1,2,3"}
    told = services("vllm-afd-plugin", "mi300x")
    for role, shown in (("ffn", "0,1"), ("attention", "2,3,4,5")):
        one = told[f"bundle-001-{role}"]
        assert one["devices"] == ["/dev/kfd", "/dev/dri"]
        assert one["environment"] == {"HIP_VISIBLE_DEVICES": shown}
    for number, one in enumerate(services("vllm-afd-plugin", "h200").values()):
        (claim,) = one["deploy"]["resources"]["reservations"]["devices"]
        assert claim["device_ids"] == [["0", "1"], ["2", "3", "4", "5"]][number]
        assert (claim["driver"], claim["capabilities"]) == ("nvidia", ["gpu"])
        assert (one["restart"], one["network_mode"], one["ipc"]) == ("no", "host", "host")
        assert one["entrypoint"][2] == "0"


def test_two_processes_on_one_machine_take_no_port_twice():
    """912 servers of 11 ports each do not all fit between 20000 and 30000."""
    plan = pair_plan(1, 1, bundles=626)
    request = request_for("sglang", plan, image="i", node_devices=1024, port=40_000)
    with pytest.raises(UnsupportedError, match="machine of 1024 devices, the plan needs 1252"):
        deployment_files(request, find_target("sglang"), "compose")
    many = pair_plan(4, 1, bundles=2)
    target = find_target("sglang")
    request = request_for("sglang", many, image="i", node_devices=16, one_machine=True)
    assert deployment_files(request, target, "compose")
    clash = deployment_of(request, target)
    same = replace(clash, bundles=(clash.bundles[0], clash.bundles[0]))
    doubled = replace(target, split=lambda request, target: same)
    with pytest.raises(UnsupportedError, match="would take port 6239"):
        deployment_files(request, doubled, "compose")
    ports = {port for roles in clash.bundles for role in roles for port in role.ports}
    assert ports_of(request, target) == ports


def test_yaml_is_plain():
    text = to_yaml({"b": "é", "a": 1}, {"c": "l\nm\n"})
    first, second = text.removeprefix("---\n").split("---\n")
    assert first == "b: é\na: 1\n"
    assert second == "c: |\n  l\n  m\n"
    assert to_yaml({"c": 1}) == "c: 1\n"
    # Broken at the first blank beyond column 100.
    widths = [len(to_yaml({"a": begin + " x" * 80}).splitlines()[0]) for begin in ("x", "xx")]
    assert widths == [102, 101]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": " "}, "names no model"),
        ({"model": "a\nb"}, "control characters"),
        ({"model": "-rf"}, "must not start with '-'"),
        ({"kv_transfer": "a b"}, "kv_transfer must be a plain name"),
        ({"quantization": ""}, "quantization must be a plain name"),
        ({"ffn_hosts": ("a", "b c")}, "ffn_hosts must be host names"),
        ({"attention_hosts": ("a",)}, "one host per bundle, 2, got 1"),
    ],
)
def test_what_cannot_be_emitted_safely_is_refused(options, words):
    with pytest.raises(InvalidInputError, match=words):
        request_for("vllm-afd-plugin", **options)


def test_what_belongs_to_the_deployment_without_a_split():
    """Three groups, of a plan with two bundles; hosts are counted by what is emitted."""
    plan = pair_plan(unsplit=replace(UNSPLIT, replicas=3))
    split, alone = (request_for("sglang", plan, unsplit=unsplit) for unsplit in (False, True))
    assert (split.bundles, alone.bundles) == (2, 3)
    assert (split.promise, alone.promise) == (plan, plan.unsplit)
    none = request_for("sglang", pair_plan(), unsplit=True)
    assert (none.bundles, none.promise) == (2, none.plan)
    with pytest.raises(UnsupportedError, match="no deployment without a split"):
        deployment_of(none, find_target("sglang"))
    hosts = ("a1", "a2", "a3")
    named = request_for("sglang", plan, unsplit=True, attention_hosts=hosts)
    assert [named.host("SERVER_HOST", number) for number in (1, 2, 3)] == list(hosts)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("ahead", [None, 0, 1])
def test_plans_that_decode_ahead_are_refused(tokens, ahead):
    plan = pair_plan()
    plan = replace(
        plan, latency=replace(plan.latency, tokens_per_step=tokens),
        inputs={"hardware": "h200", "speculative_tokens": ahead},
    )  # fmt: skip
    request, target = request_for("vllm-afd-plugin", plan), find_target("vllm-afd-plugin")
    if tokens == 1 and not ahead:
        assert deployment_of(request, target)
        return
    with pytest.raises(UnsupportedError, match="decode one token a step"):
        deployment_of(request, target)


def test_microbatches_that_a_target_lacks_are_refused():
    target = find_target("vllm-afd-plugin")
    with pytest.raises(UnsupportedError, match="runs 1 or 2 microbatches, the plan has 3"):
        deployment_of(request_for("vllm-afd-plugin", pair_plan(m=3)), target)


def test_prefill_is_started_by_the_systems_that_can():
    plan = replace(pair_plan(), prefill_workers=1, prefill_devices=1, prefill_chunk=4096)
    able = deployment_of(request_for("vllm-afd-plugin", plan), find_target("vllm-afd-plugin"))
    assert [role.name for role in able.bundles[0]] == ["ffn", "attention", "prefill"]
    assert able.settings["prefill"] == {"servers": 1, "tensor_parallel_size": 1}
    ffn, attention, prefill = able.bundles[0]
    assert "VLLM_NIXL_SIDE_CHANNEL_PORT" not in ffn.environment
    assert attention.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "15600"
    assert (prefill.environment["FIRST_PORT"], prefill.environment["FIRST_SIDE_PORT"]) == (
        "9000", "5600",
    )  # fmt: skip
    told = prefill.command
    assert told[told.index("--max-num-batched-tokens") + 1] == "4096"
    assert told[told.index("--gpu-memory-utilization") + 1] == "0.9"
    assert not any("not started by these files" in line for line in able.assumed)
    without = deployment_of(request_for("sglang", plan), find_target("sglang"))
    assert {role.name for role in without.bundles[0]} == {"ffn", "attention"}
    assert any("1 prefill worker of the plan are not" in line for line in without.assumed)
