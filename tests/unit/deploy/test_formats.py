"""Do all ways to start a deployment hold the same roles, and do their own readers take them?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from afdplan.deploy.emit import FORMATS, deployment_files, deployment_of
from afdplan.deploy.names import system_names
from afdplan.deploy.registry import find_target
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.files.atomic import write_folder
from tests.unit.deploy.cases import pair_plan, request_for
from tests.unit.deploy.cluster_objects import objects
from tests.unit.deploy.compose_objects import compose_of

HOSTILE = [
    "$(touch pwned)",
    "a'b\"c `id` $HOME",
    "model; rm -rf .",
    "ü & | > <",
    "{{ 7 * 7 }}",
    "#x: y",
]
COMPOSE = os.environ.get("AFDPLAN_COMPOSE_SCHEMA")
IMAGE = "registry.example/serving:1.0"


def made(name, form, **options):
    request = request_for(name, image=IMAGE, one_machine=form == "compose", **options)
    return request, deployment_files(request, find_target(name), form, with_checklist=True)


def documents(text):
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("model", ["org/model", *HOSTILE])
@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("name", system_names())
def test_every_file_parses_whatever_the_model_is_called(tmp_path, name, form, model):
    _, files = made(name, form, model=model, node_devices=16)
    write_folder(tmp_path / "out", files)
    for file in (tmp_path / "out").rglob("*"):
        text = file.read_text() if file.is_file() else ""
        if file.suffix in (".sh", ".sbatch"):
            subprocess.run([shutil.which("bash"), "-n", str(file)], check=True)
        if file.suffix == ".yaml":
            assert documents(text)
        if file.suffix == ".md":
            assert "{{" not in text.replace(model, "")
    assert not (tmp_path / "pwned").exists()
    told = yaml.safe_load(files["settings.yaml"])
    assert told["model"] == model


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("form", ["scripts", "slurm"])
@pytest.mark.parametrize("name", system_names())
def test_shellcheck_finds_nothing(tmp_path, name, form):
    # A name with $ in single quotes is remarked on, as it should be; nothing else is.
    for model, excluded in (("org/model", ""), (HOSTILE[1], "SC2016")):
        _, files = made(name, form, model=model)
        out = tmp_path / f"out{excluded}"
        write_folder(out, files)
        scripts = [str(p) for p in out.rglob("*") if p.suffix in (".sh", ".sbatch")]
        command = ["shellcheck", *(["-e", excluded] if excluded else []), *scripts]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", system_names())
def test_kubernetes_objects_are_legal_and_find_one_another(name):
    room = 5 if name == "rtp-llm" else 2
    request, files = made(name, "kubernetes", plan_digest="abc123", node_devices=room)
    deployment = deployment_of(request, find_target(name))
    (kustomization,) = objects(documents(files["kustomization.yaml"]))
    assert set(kustomization.resources) == {f for f in files if f.startswith("bundle-")}
    for number, roles in enumerate(deployment.bundles, 1):
        told = objects(documents(files[f"bundle-{number:03d}.yaml"]))
        names = [(type(one).__name__, one.metadata.name) for one in told]
        assert len(set(names)) == len(names)
        services = {one.metadata.name: one for one in told if type(one).__name__ == "Service"}
        whole = told[-1]
        groups = {g.name: g.spec for g in whole.spec.roles} if len(roles) > 1 else {
            roles[0].name: whole.spec
        }  # fmt: skip
        assert set(groups) == {role.name for role in roles}
        assert whole.metadata.labels["afdplan/plan"] == "abc123"
        assert whole.metadata.labels["afdplan/target-version"] == find_target(name).version
        for role in roles:
            group = groups[role.name].leaderWorkerTemplate
            assert group.size == role.nodes
            for leads, pod in ((True, group.leaderTemplate), (False, group.workerTemplate)):
                (container,) = pod.spec.containers
                devices = dict(container.resources.limits)
                (count,) = devices.values()
                assert int(count) == role.workers_per_node * role.devices
                env = {e.name: e for e in container.env}
                assert "worker-index" in env["NODE"].valueFrom.fieldRef.fieldPath
                assert set(env) == {"NODE", *role.hosts}
                for host in role.hosts:
                    target = services[env[host].value]  # a Service of this bundle
                    assert target.spec.clusterIP == "None"
                    assert target.spec.publishNotReadyAddresses
                    chosen = target.spec.selector
                    other = groups[chosen["afdplan/role"]].leaderWorkerTemplate.leaderTemplate
                    wanted = {k: v for k, v in chosen.items() if not k.startswith("leaderworker")}
                    assert wanted.items() <= other.metadata.labels.items()
                probes = (container.startupProbe, container.readinessProbe)
                if leads and role.http:
                    assert all(p.httpGet.path == role.health for p in probes)
                    assert container.ports[0].containerPort == role.http
                else:  # FFN engines and workers serve no HTTP
                    assert all(p is None or p.httpGet is None for p in probes)
                    assert container.livenessProbe is None
            assert (f"afdplan-{number:03d}-{role.name}-http" in services) == bool(role.http)


def test_the_schema_itself_refuses():
    _, files = made("vllm-afd-plugin", "kubernetes")
    *_, whole = documents(files["bundle-001.yaml"])
    for path, value in (
        (("spec", "roles", 0, "spec", "leaderWorkerTemplate", "size"), 0),
        (("spec", "roles", 0, "name"), "FFN"),
        (("spec", "replicas"), 1),
    ):
        broken = json.loads(json.dumps(whole))
        at = broken
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        with pytest.raises(msgspec.ValidationError):
            objects([broken])


@pytest.mark.parametrize("name", system_names())
def test_compose_gives_every_device_once(name):
    request, files = made(name, "compose", node_devices=16)
    document = yaml.safe_load(files["compose.yaml"])
    compose_of(document)
    told = document["services"]
    deployment = deployment_of(request, find_target(name))
    roles = [role for roles in deployment.bundles for role in roles]
    assert len(told) == len(roles)
    seen = []
    for service in told.values():
        assert service["image"] == IMAGE
        if "deploy" in service:
            (claim,) = service["deploy"]["resources"]["reservations"]["devices"]
            seen += claim["device_ids"]
        else:
            seen += [n[12:] for n in service["devices"] if re.match(r"/dev/davinci\d", n)]
    assert sorted(map(int, seen)) == list(range(request.plan.devices))
    for file, text in files.items():
        if file.endswith("cluster.env"):
            assert "127.0.0.1" in text
            assert "CHANGE_ME" not in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("network_mod",), "host"),
        (("restart",), False),  # what a bare `no` would be
        (("volumes",), ["bundle:/afdplan"]),
        (("deploy", "resources", "reservations", "devices", 0, "device_ids"), [0]),
        (("deploy", "resources", "reservations", "devices", 0, "count"), 4),
    ],
)
def test_the_schema_of_compose_refuses(path, value):
    _, files = made("vllm-afd-plugin", "compose", node_devices=16)
    document = yaml.safe_load(files["compose.yaml"])
    at = next(iter(document["services"].values()))
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(msgspec.ValidationError):
        compose_of(document)


@pytest.mark.skipif(
    COMPOSE is None, reason="AFDPLAN_COMPOSE_SCHEMA names no schema of the specification"
)
@pytest.mark.parametrize("name", system_names())
def test_the_schema_of_the_specification_takes_it(name):
    validate = pytest.importorskip("jsonschema").validate
    schema = json.loads(Path(str(COMPOSE)).read_text())
    _, files = made(name, "compose", node_devices=16)
    document = yaml.safe_load(files["compose.yaml"])
    validate(document, schema)
    next(iter(document["services"].values()))["network_mod"] = "host"
    with pytest.raises(Exception, match="network_mod"):
        validate(document, schema)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode,
    reason="docker compose is not installed",
)
def test_docker_compose_reads_it(tmp_path):
    _, files = made("vllm-afd-plugin", "compose", node_devices=16)
    write_folder(tmp_path / "out", files)
    subprocess.run(["docker", "compose", "config", "-q"], cwd=tmp_path / "out", check=True)


def test_slurm_gives_every_role_its_own_nodes(tmp_path):
    """The job is run with an srun that tells where each task would start."""
    request, files = made("vllm-afd-plugin", "slurm", node_devices=2)
    write_folder(tmp_path / "out", files)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text("#!/bin/bash\nprintf 'n%s\\n' 0 1 2 3 4 5\n")
    (tools / "srun").write_text(
        # One write a line: the roles start beside each other.
        '#!/bin/bash\nline=$(printf "%s|" "$@" "$FFN_HOST" "$ATTENTION_HOST")\n'
        'echo "$line" >> "$TOLD"\nsleep 2\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    folder = tmp_path / "out" / "bundle-001"
    text = (folder / "job.sbatch").read_text()
    deployment = deployment_of(request, find_target("vllm-afd-plugin"))
    nodes = {role.name: role.nodes for role in deployment.bundles[0]}
    assert f"#SBATCH --nodes={sum(nodes.values())}\n" in text
    assert "#SBATCH --gres=gpu:2\n" in text
    env = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "TOLD": str(tmp_path / "told"),
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_NODELIST": "n[0-5]",
    }
    ended = subprocess.run(["bash", str(folder / "job.sbatch")], env=env, check=False, timeout=60)
    assert ended.returncode == 1  # one role ended: the job ends
    lines = [line.split("|") for line in (tmp_path / "told").read_text().splitlines()]
    chosen = [next(w for w in line if w.startswith("--nodelist=")) for line in lines]
    assert sorted(chosen) == ["--nodelist=n0", "--nodelist=n1,n2"]  # FFN of 2, attention of 4
    for line in lines:
        assert line[-3:-1] == ["n0", "n1"]


def test_refusals_of_formats():
    target = find_target("vllm-afd-plugin")
    with pytest.raises(InvalidInputError, match="containers need --image"):
        deployment_files(request_for("vllm-afd-plugin"), target, "kubernetes")
    with pytest.raises(InvalidInputError, match="image must be a plain name"):
        request_for("vllm-afd-plugin", image="x; reboot")
    with pytest.raises(UnsupportedError, match="one machine of 8 devices"):
        deployment_files(request_for("vllm-afd-plugin", image=IMAGE), target, "compose")
    unknown = pair_plan(hardware="my-chip")
    with pytest.raises(InvalidInputError, match="give --device nvidia"):
        deployment_files(request_for("vllm-afd-plugin", unknown, image=IMAGE), target, "kubernetes")
    with pytest.raises(InvalidInputError, match="format must be"):
        deployment_files(request_for("vllm-afd-plugin"), target, "helm")


def test_objects_are_plain_and_scripts_in_them_read_as_scripts():
    """No anchors, which not every tool follows; a script line by line, as a person edits it."""
    request = request_for("vllm-afd-plugin", image="img", per_pod=True)
    files = deployment_files(request, find_target("vllm-afd-plugin"), "kubernetes")
    text = files["bundle-001.yaml"]
    assert "&id" not in text
    assert "*id" not in text
    assert "  ffn.sh: |\n    #!/usr/bin/env bash\n" in text
    scripts = next(yaml.safe_load_all(text))["data"]
    assert scripts["ffn.sh"].endswith('${words[@]+"${words[@]}"}\n')


def test_every_promise_stands_on_a_line_of_its_own():
    target = find_target("vllm-afd-plugin")
    lines = deployment_files(request_for(target.name), target)["README.md"].splitlines()
    assert any(line.endswith("p99 40 ms") for line in lines)
    assert any(line.startswith("- 10,000 tokens/s") for line in lines)


def test_pods_ask_for_no_more_devices_than_even_nodes_need():
    request = request_for("vllm-afd-plugin", pair_plan(9, 4, bundles=1), image="i", per_pod=True)
    files = deployment_files(request, find_target("vllm-afd-plugin"), "kubernetes")
    spec = objects(list(yaml.safe_load_all(files["bundle-001.yaml"])))[-1].spec
    wanted = {}
    for role in spec.roles:
        group = role.spec.leaderWorkerTemplate
        limits = group.leaderTemplate.spec.containers[0].resources.limits
        wanted[role.name] = (group.size, limits["nvidia.com/gpu"])
    assert wanted == {"attention": (2, "5"), "ffn": (1, "4")}


def test_a_program_that_the_reader_names_reaches_containers():
    """The scripts of StepMesh stop without STEPMESH_COMMAND."""
    target = find_target("stepmesh")
    request = request_for("stepmesh", image="i", node_devices=12, one_machine=True)
    services = yaml.safe_load(deployment_files(request, target, "compose")["compose.yaml"])
    for service in services["services"].values():
        assert service["environment"] == {"STEPMESH_COMMAND": "${STEPMESH_COMMAND:?set it}"}
    pods = request_for("stepmesh", image="i", per_pod=True)
    start = deployment_files(pods, target, "kubernetes")["README.md"]
    assert "1. Set `STEPMESH_COMMAND` in the environment of every container" in start
    other = request_for("vllm-afd-plugin", image="i", per_pod=True)
    files = deployment_files(other, find_target("vllm-afd-plugin"), "kubernetes")
    assert "in the environment of every container" not in files["README.md"]


@pytest.mark.parametrize("host", ["node1:8000", "fd00::1:8000:zz", "[fd00::1]", "a b", "-a"])
def test_a_host_has_no_port(host):
    plan = pair_plan(bundles=1)
    with pytest.raises(InvalidInputError, match="without a port"):
        request_for("vllm-afd-plugin", plan, ffn_hosts=(host,))


def test_an_ipv6_address_is_refused_where_a_port_would_follow_it():
    plan = pair_plan(6, 4, bundles=1)
    hosts = {"ffn_hosts": ("fd00::1",), "attention_hosts": ("fd00::2",)}
    deployment_of(request_for("vllm-afd-plugin", plan, **hosts), find_target("vllm-afd-plugin"))
    with pytest.raises(UnsupportedError, match=r"instead of fd00::2$"):
        deployment_of(request_for("sglang", plan, **hosts), find_target("sglang"))


@pytest.mark.parametrize(
    ("name", "port"), [("vllm-afd-plugin", 13345), ("vllm-afd-plugin", 8001), ("sglang", 20003)]
)
def test_rendezvous_ports_keep_clear_of_all_others(name, port):
    request = request_for(name, pair_plan(4, 2), port=port)
    with pytest.raises(InvalidInputError, match="give another --port"):
        deployment_of(request, find_target(name))


def test_checklist_has_the_numbers():
    request, files = made("fastafd", "scripts")
    text = files["checklist.md"]
    slots = request.plan.bundle.requests_per_attention_worker
    assert f"attn_local_max_running_req={slots}" in text
    assert f"global_max_running_req={slots * 4} " in text
    _, files = made("vllm-afd-plugin", "scripts")
    assert "GPU KV cache size: 100,000 tokens or more" in files["checklist.md"]
    assert "version 0.30.0" in files["checklist.md"]
    assert f"vllm:num_requests_running {slots}" in files["checklist.md"]
