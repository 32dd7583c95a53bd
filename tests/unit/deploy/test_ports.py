"""Do roles of all bundles keep apart, and do manifests know which ports answer and which listen?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import yaml

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.names import system_names
from afdplan.deploy.registry import find_target, versions
from afdplan.errors import InvalidInputError
from tests.unit.deploy.cases import NEEDED, pair_plan, request_for
from tests.unit.deploy.test_laws import UNSPLIT

A = 6
PORTS = {
    "fastafd": {"server": 8},
    "rtp-llm": {"server": 9 * (A + 1)},
    "sglang srt-afd": {"ffn": 1 + 7 + A + 4 + 2, "attention": 1 + 7 + A, "server": 1 + 7 + 16},
    "sglang host-pool": {"ffn": 2, "attention": A},
    "stepmesh": {"ffn": 1, "attention": 0},
    "vllm-afd-plugin 2e4378f": {"ffn": 2 + 1 + 2, "attention": 2, "server": 2},
    "vllm-afd-plugin 6fa5b0d": {"ffn": 2, "attention": 3, "server": 2},
    "vllm": {"ffn": 3, "attention": 2, "server": 2},
}
"""Ports of a role: HTTP, RPC and rendezvous, and those that a server derives from its own."""
CASES = [
    (target, unsplit)
    for name in system_names()
    for target in versions(name)
    for unsplit in ((False, True) if target.unsplit else (False,))
]


def ports_of(target):
    full = f"{target.name} {target.version}"
    return next(PORTS[name] for name in (full, target.name, "vllm") if name in PORTS)


@pytest.mark.parametrize(
    ("target", "unsplit"), CASES, ids=lambda x: f"{x.name}-{x.version}" if hasattr(x, "name") else x
)
def test_roles_keep_apart_and_say_where_they_listen(target, unsplit):
    f = next(f for f in (4, 2, 1) if target.allows(A, f) and A + f <= 10)
    m = 2 if 2 in target.microbatches else target.microbatches[0]
    hardware = "ascend-910c" if target.devices == ("ascend",) else "gb200"
    plan = pair_plan(A, f, 31, m, hardware=hardware, unsplit=UNSPLIT)
    asked = {"unsplit": unsplit, "architecture": NEEDED.get(target.name, "")}
    request = request_for(target.name, plan, node_devices=10, **asked)
    bundles = deployment_of(request, target).bundles
    assert len(bundles) == 2
    taken = [port for roles in bundles for role in roles for port in role.ports]
    assert len(taken) == len(set(taken))
    assert all(1024 <= port <= 65535 for port in taken)
    workers = {"attention": A, "ffn": f, "server": 16 if unsplit else A + f}
    for roles in bundles:
        assert {role.name for role in roles} == (
            {"server"} if len(roles) == 1 else {"ffn", "attention"}
        )
        for role in roles:
            assert (role.workers, role.devices) == (workers[role.name], 1)
            assert role.workers_per_node == min(role.workers, 8 if unsplit else 10)
            assert len(role.ports) == ports_of(target)[role.name]
            answers = role.name != "ffn" and target.name != "stepmesh"
            assert (role.http in role.ports) if answers else role.http is None
        listening = [role for role in roles if role.listens is not None]
        if len(roles) == 2:
            (one,) = listening
            assert one.listens in one.ports
            assert one.name == ("attention" if target.version == "6fa5b0d" else "ffn")
        else:
            assert not listening
    firsts = [role.listens for roles in bundles for role in roles if role.listens]
    assert firsts[:1] in ([], [6239])


def test_prefill_servers_of_a_bundle_have_ports_of_their_own():
    """Three and two servers of two devices on nodes of four: two a node, four ports apart."""
    plan = dataclasses.replace(
        pair_plan(4, 2, unsplit=UNSPLIT), prefill_workers=5, prefill_devices=2
    )
    request = request_for("vllm-afd-plugin", plan, node_devices=4)
    bundles = deployment_of(request, find_target("vllm-afd-plugin")).bundles
    prefill = [next(role for role in roles if role.name == "prefill") for roles in bundles]
    assert [(one.workers, one.http) for one in prefill] == [(3, 9000), (2, 9004)]
    assert [sorted(one.ports) for one in prefill] == [
        [5600, 5601, 5602, 5603, 9000, 9001], [5604, 5605, 5606, 5607, 9004, 9005]
    ]  # fmt: skip
    attention = [next(role for role in roles if role.name == "attention") for roles in bundles]
    side = [[port for port in one.ports if port >= 15_600] for one in attention]
    assert side == [[15_600, 15_601, 15_602, 15_603], [15_604, 15_605, 15_606, 15_607]]
    few = dataclasses.replace(plan, prefill_workers=1)
    request = request_for("vllm-afd-plugin", few, node_devices=4)
    bundles = deployment_of(request, find_target("vllm-afd-plugin")).bundles
    assert [[role.name for role in roles] for roles in bundles] == [
        ["ffn", "attention", "prefill"], ["ffn", "attention"]
    ]  # fmt: skip


def test_a_target_is_shown_with_its_engine():
    shown = [find_target(name).shown for name in ("vllm-afd-plugin", "stepmesh")]
    assert shown == ["vllm-afd-plugin 0.30 for vLLM 0.30.0", "stepmesh 740ac12"]


@pytest.mark.parametrize("name", ["sglang", "vllm-afd-plugin", "vllm-afd-ascend"])
def test_a_role_that_answers_does_so_from_outside(name):
    """Elsewhere than on its own machine nobody reaches a server without --host."""
    hardware = "ascend-910c" if name == "vllm-afd-ascend" else "gb200"
    for target in versions(name):
        f = next(f for f in (4, 2, 1) if target.allows(A, f))
        plan = pair_plan(A, f, m=target.microbatches[-1], hardware=hardware)
        request = request_for(name, plan, node_devices=10, architecture="")
        for role in deployment_of(request, target).bundles[0]:
            words = (*role.command, *role.first)
            if role.http is not None:
                assert words[words.index("--host") + 1] == "0.0.0.0"
            if name == "sglang":
                assert ("--enable-metrics" in words) == (role.name == "attention")


def test_pairs_of_lanes_of_a_pool_and_of_one_node():
    a, f = np.meshgrid(np.arange(1, 73), np.arange(1, 41))
    pool, lanes = find_target("sglang", "host-pool"), find_target("sglang", "srt-afd")
    one = find_target("rtp-llm")
    for da, df in ((1, 1), (1, 2), (2, 1), (2, 2)):
        alike = da == df == 1
        found = np.broadcast_to(pool.allows(a, f, da, df), a.shape)
        assert (found == ((f == 1) & alike)).all()
        even = np.array([n % -(-n // 8) == 0 and -(-n // 8) <= 8 for n in range(1, 73)])[a - 1]
        wanted = np.isin(f * df, [1, 2, 4, 8, 16, 32]) & even & (da == 1)
        assert (np.broadcast_to(lanes.allows(a, f, da, df), a.shape) == wanted).all()
        assert (np.broadcast_to(one.allows(a, f, da, df), a.shape) == (f * df == 1)).all()


@pytest.mark.parametrize("unsplit", [False, True])
def test_settings_name_the_pair_where_there_is_one(unsplit):
    plan = pair_plan(4, 2, 24, 2, unsplit=UNSPLIT)
    request = request_for("vllm-afd-plugin", plan, unsplit=unsplit)
    written = deployment_files(request, find_target("vllm-afd-plugin"))["settings.yaml"]
    told = yaml.safe_load(written if isinstance(written, str) else written[0])
    pair = {
        "attention_workers": 4, "ffn_workers": 2, "microbatches": 2, "batch_size": 24,
        "ffn_tokens_per_microbatch": 48,
    }  # fmt: skip
    assert {name: told.get(name) for name in pair} == (dict.fromkeys(pair) if unsplit else pair)
    assert (told["bundles"], told["model"]) == (2, "org/model")
    mean, p99 = (0.02, 0.03) if unsplit else (0.03, 0.04)
    assert told["step_time_seconds"] == {"mean": mean, "p99": p99}


@pytest.mark.parametrize(
    ("name", "version", "f", "free", "taken"),
    [
        ("sglang", "host-pool", 1, (30_014, 29_998), (30_013, 29_999)),
        ("sglang", "srt-afd", 4, (30_004, 19_988), (30_003, 19_989)),
        ("vllm-afd-plugin", "0.30", 4, (8004, 7998, 13_349, 13_343), (8003, 7999, 13_348, 13_344)),
    ],
)
def test_rendezvous_may_stand_right_beside_the_servers(name, version, f, free, taken):
    """Two bundles: six hosts and their pool each, or two servers each, from their first port on."""
    target = find_target(name, version)
    plan = pair_plan(A, f, m=target.microbatches[-1], hardware="gb200")
    for port in (*free, *taken):
        request = request_for(name, plan, node_devices=10, architecture="", port=port)
        if port in free:
            assert deployment_of(request, target).bundles
        else:
            with pytest.raises(InvalidInputError, match="give another --port"):
                deployment_of(request, target)
