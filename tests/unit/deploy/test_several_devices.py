"""Workers of several devices and uneven pairs, worked by hand: ranks, nodes, ports, batches."""

from dataclasses import replace

import pytest
import yaml

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.ladder import graph_ladder
from afdplan.deploy.registry import find_target, versions
from afdplan.errors import UnsupportedError
from tests.unit.deploy.cases import NEEDED, pair_plan, request_for


def deployed(name, *pair, **options):
    given = {"architecture": NEEDED[name]} if name in NEEDED else {}
    request = request_for(name, pair_plan(*pair, **options), node_devices=8, **given)
    return deployment_of(request, find_target(name))


def words(role):
    told = list(role.command)
    return {flag: told[k + 1] for k, flag in enumerate(told[:-1]) if str(flag).startswith("--")}


def test_fastafd_counts_devices_not_workers():
    """4 workers of 2 and 2 of 4: 8 + 8 ranks on two nodes of 8, experts over all 8 of the FFN."""
    found = deployed("fastafd", 4, 2, 24, 2, devices=(2, 4), bundles=3)
    assert len(found.bundles) == 3
    (role,) = found.bundles[1]
    assert (role.workers, role.devices, role.workers_per_node, role.nodes) == (16, 1, 8, 2)
    assert role.shares == ((0, 8), (8, 8))
    told = words(role)
    assert [told[f"--afd-{of}"] for of in ("attn-dp-size", "attn-tp-size", "mlp-dp-size")] == [
        "4", "2", "2",
    ]  # fmt: skip
    assert (told["--afd-mlp-tp-size"], told["--afd-mlp-ep-size"]) == ("4", "8")
    assert found.settings["ffn"] == {
        "dp_size": 2, "tp_size": 4, "ep_size": 8, "tokens_per_microbatch": 48, "num_mb": 2,
    }  # fmt: skip
    assert found.settings["attention"]["max_running_requests"] == 4 * 24 * 2
    # The server's port and the six after it, and Ray's: ten and one further for each bundle.
    for k, (one,) in enumerate(found.bundles):
        first = 19193 + 10 * k
        assert one.ports == (*range(first, first + 7), 6379 + k)
        assert one.http == first
    assert not set(found.bundles[0][0].ports) & set(role.ports)


@pytest.mark.parametrize(("hardware", "says"), [("h200", True), ("gb200", False)])
def test_what_only_blackwell_has_is_told_where_it_is_left_out(hardware, says):
    found = deployed("fastafd", 4, 2, hardware=hardware)
    assert any("of Blackwell" in note for note in found.assumed) is says
    assert ("MINISGL_AFD_MOE_BACKEND" in found.bundles[0][0].environment) is not says


def test_batches_of_uneven_pairs_are_of_the_fullest_ffn_worker():
    """Five attention workers on two FFN workers: one of them has three."""
    found = deployed("stepmesh", 5, 2, 24, 3, devices=(2, 2))
    assert found.settings["ffn"]["tokens_per_microbatch"] == 3 * 24
    assert found.settings["attention"]["tokens_per_microbatch"] == 24
    attention = next(role for role in found.bundles[0] if role.name == "attention")
    assert (attention.workers, attention.devices, attention.workers_per_node) == (5, 2, 4)
    assert attention.shares == ((0, 4), (4, 1))
    ports = [
        role.ports
        for bundle in found.bundles
        for role in bundle
        if role.name == "ffn"
    ]  # fmt: skip
    assert ports == [(6239,), (6240,)]
    listens = {role.name: role.listens for role in found.bundles[1]}
    assert listens == {"ffn": 6240, "attention": None}
    assert attention.ports == ()
    lone = deployed("rtp-llm", 4, 1, 24, 2)
    assert lone.settings == {
        "attention": {"dp_size": 4, "requests_per_rank": 48, "num_mb": 2},
        "ffn": {"ranks": 1, "tokens_per_microbatch": 4 * 24, "num_mb": 2},
    }
    assert [bundle[0].ports for bundle in lone.bundles] == [
        tuple(range(8088, 8088 + 45)),
        tuple(range(8133, 8133 + 45)),
    ]


@pytest.mark.parametrize(
    ("largest", "multiple", "sizes"),
    [
        (92, 8, [8, 16, 24, 48, 92]),  # halves 46, 23, 11.5, 5.75, each to the next multiple
        (16, 8, [8, 16]),
        (8, 8, [8]),
        (9, 8, [8, 9]),
        (65, 8, [8, 16, 24, 40, 65]),  # 32.5 needs 40
        (96, 16, [16, 32, 48, 96]),
        (1, 8, [1]),
    ],
)
def test_graph_sizes_by_hand(largest, multiple, sizes):
    assert graph_ladder(largest, multiple) == sizes
    if multiple == 8:
        assert graph_ladder(largest) == sizes


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("fastafd", (1, 2, 3, 4)),  # its server takes --afd-num-mb 1 to 4
        ("stepmesh", (3,)),  # its three-stage example
    ],
)
def test_microbatches_that_a_system_runs(name, numbers):
    assert {target.microbatches for target in versions(name)} == {numbers}


def test_stepmesh_runs_any_pair():
    target = find_target("stepmesh")
    assert all(target.allows(a, f) for a, f in ((1, 1), (1, 3), (3, 1), (5, 2)))
    assert not any(target.allows(a, f) for a, f in ((0, 1), (1, 0)))


def test_ranks_of_several_devices_have_rendezvous_ports_and_a_size_each():
    """2 x 4 ranks of the FFN: its first port, and one more for each of them."""
    plan = pair_plan(4, 2, 24, 2, devices=(2, 4), bundles=2)
    target = find_target("vllm-afd-plugin", "2e4378f")
    found = deployment_of(request_for("vllm-afd-plugin", plan, node_devices=8), target)
    second = {role.name: role for role in found.bundles[1]}
    assert second["ffn"].ports == (8003, 13348, *range(6248, 6257))
    assert second["attention"].ports == (8002, 13347)
    assert (second["ffn"].listens, second["attention"].listens) == (6248, None)
    assert found.settings["ffn"]["max_num_seqs"] == 2 * 24 * 2  # two attention workers each
    for role, ranks in (("ffn", 8), ("attention", 8)):
        assert found.settings[role]["ranks"] == ranks
        assert found.settings[role]["num_attention_ranks"] == 8
        assert found.settings[role]["num_ffn_ranks"] == 8


def test_compose_counts_devices_not_workers():
    """Two bundles of 4 x 2 and 2 x 4 devices: 32 in all, those of the second from 16 on."""
    plan = pair_plan(4, 2, 24, 2, devices=(2, 4), bundles=2)
    target = find_target("vllm-afd-plugin")

    def files(devices):
        request = request_for(
            "vllm-afd-plugin", plan, node_devices=devices, one_machine=True, image="img"
        )
        return deployment_files(request, target, "compose")

    with pytest.raises(UnsupportedError, match="machine of 31 devices, the plan needs 32"):
        files(31)
    services = yaml.safe_load(files(32)["compose.yaml"])["services"]
    assert {
        name: one["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name, one in services.items()
    } == {
        "bundle-001-ffn": [str(k) for k in range(8)],
        "bundle-001-attention": [str(k) for k in range(8, 16)],
        "bundle-002-ffn": [str(k) for k in range(16, 24)],
        "bundle-002-attention": [str(k) for k in range(24, 32)],
    }


def test_a_service_of_kubernetes_has_a_hundred_ports_at_most():
    """13 ranks of nine ports each; ranks look one another up by name, whatever is listed."""
    request = request_for("rtp-llm", pair_plan(12, 1, 24, 2), node_devices=16, image="img")
    files = deployment_files(request, find_target("rtp-llm"), "kubernetes")
    services = [
        one for one in yaml.safe_load_all(files["bundle-001.yaml"]) if one["kind"] == "Service"
    ]
    ports = [[port["port"] for port in one["spec"]["ports"]] for one in services]
    assert ports == [list(range(8088, 8188)), [8088]]


@pytest.mark.parametrize("quantization", [None, "fp8"])
@pytest.mark.parametrize("longest", [None, 4096])
def test_what_is_not_given_is_not_emitted(quantization, longest):
    plan = replace(pair_plan(4, 2), prefill_workers=1, prefill_devices=1)
    request = request_for("vllm-afd-plugin", plan, quantization=quantization, max_model_len=longest)
    (bundle, _) = deployment_of(request, find_target("vllm-afd-plugin")).bundles
    assert {role.name for role in bundle} == {"ffn", "attention", "prefill"}
    for role in bundle:
        told = words(role)
        assert told.get("--quantization") == quantization
        assert told.get("--max-model-len") == (longest and str(longest))
        assert None not in role.command


def test_one_attention_worker_is_a_pair_too():
    assert all(find_target(name).allows(1, 1) for name in ("fastafd", "vllm-afd-plugin", "rtp-llm"))
    free = find_target("vllm-afd-plugin", "6fa5b0d")
    assert all(free.allows(*pair) for pair in ((1, 1), (1, 3), (3, 1)))
    assert not any(free.allows(*pair) for pair in ((0, 1), (1, 0)))
    fork = find_target("fastafd", "fork-393bc98")  # any numbers, sizes must divide
    assert fork.allows(1, 3)
    assert fork.allows(3, 1, 2, 4)
    assert not any(fork.allows(*pair) for pair in ((0, 1), (1, 0), (2, 2, 2, 3)))
