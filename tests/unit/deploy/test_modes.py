"""Do the systems without a barrier get their own sizes, devices and boarding rule?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.modes import in_mode
from afdplan.deploy.registry import find_target, versions
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.files.atomic import write_folder
from afdplan.files.plan_barrier_free import BarrierFreePlan
from tests.deployed import HOSTS, ran, value
from tests.unit.deploy.cases import pair_plan, request_for

MODE = BarrierFreePlan(
    attention_workers=6, step_time=0.0251, step_time_p99=0.029, least_calls=3, gain=0.1
)


def written(folder, name, target, plan, **options):
    write_folder(folder, deployment_files(request_for(name, plan, **options), target))
    return folder / "bundle-001"


def test_a_pool_of_sglang_waits_as_the_rule_says(tmp_path):
    inputs = {"devices": 22, "hardware": "h200"}
    base = replace(pair_plan(4, 1, 24, 1, bundles=2), barrier_free=MODE, inputs=inputs)
    plan, target = in_mode(base, "sglang")
    assert target.version == "host-pool"
    assert (plan.bundles, plan.bundle.attention_workers) == (3, 6)  # 3 bundles of 6 + 1 devices
    assert plan.tokens_per_second == pytest.approx(3 * 6 * 24 / 0.0251)
    assert (plan.step_time_mean, plan.step_time_p99, plan.least_calls) == (0.0251, 0.029, 3)
    knows = {"architecture": "qwen3_5", "node_devices": 4}
    folder = written(tmp_path / "out", "sglang", target, plan, **knows)
    (pool,) = ran(folder / "ffn.sh", 0, tmp_path / "room")
    assert value(pool.words, "--afd-mode") == "pool"
    assert value(pool.words, "--afd-min-batch") == "3"
    assert value(pool.words, "--afd-max-wait-ms") == "26"  # the next whole one above a step
    port = value(pool.words, "--afd-bootstrap-port")
    hosts = [
        one
        for node in (0, 1)
        for one in ran(folder / "attention.sh", node, tmp_path / "room", together=True)
    ]
    assert len(hosts) == 6
    for one in hosts:
        assert value(one.words, "--afd-pool-addr") == f"{HOSTS['FFN_HOST']}:{port}"
        assert int(value(one.words, "--max-running-requests")) - 1 == 24
    places = {
        (one.environment["CUDA_VISIBLE_DEVICES"], value(one.words, "--port")) for one in hosts
    }
    assert places == {("0", "30000"), ("1", "30001"), ("2", "30002"), ("3", "30003")}
    deployment = deployment_of(request_for("sglang", plan, **knows), target)
    taken = [p for roles in deployment.bundles for r in roles for p in r.ports]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize(("m", "seqs"), [(1, 32), (2, 64)])
@pytest.mark.parametrize("version", ["57bcde1-window", "57bcde1-window-async"])
def test_window_has_one_size_on_both_sides(tmp_path, version, m, seqs):
    target = find_target("vllm-afd-ascend", version)
    plan = pair_plan(3, 5, 32, m, hardware="ascend-910c")
    folder = written(tmp_path / "out", "vllm-afd-ascend", target, plan, architecture="deepseek_v4")
    for role in ("attention", "ffn"):
        told = ran(folder / f"{role}.sh", 0, tmp_path / "room")[-1].words
        config = value(told, "--additional-config")["afd"]
        assert config["async"] is (version == "57bcde1-window-async")
        assert config["compute_gate_on_attention"] is True
        assert config["connector_extra_config"] == {"micro_batch_num": m, "quant_mode": 2}
        assert config["host"] == HOSTS["FFN_HOST"]  # FFN ranks are the first of the world
        assert ("--enable-dbo" in told) == (m == 2)  # slots must equal the engine's dual batch
        assert int(value(told, "--max-num-seqs")) == seqs
        assert seqs <= int(value(told, "--max-num-batched-tokens")) <= 512
    refused = (
        ((3, 5, 300, 2), "at most 512 tokens a step, .*: plan with --max-batch-size 256"),
        ((3, 1, 8, 1), "two FFN ranks or more"),
    )
    for shape, message in refused:
        plan = pair_plan(*shape, hardware="ascend-910c")
        request = request_for("vllm-afd-ascend", plan, architecture="deepseek_v4")
        with pytest.raises(UnsupportedError, match=message):
            deployment_of(request, target)


def test_devices_of_a_plan_are_a_number():
    inputs = {"devices": "eight", "hardware": "h200"}
    plan = replace(pair_plan(4, 1, 24, 1), barrier_free=MODE, inputs=inputs)
    with pytest.raises(InvalidInputError, match="devices of the plan must be an integer >= 1"):
        in_mode(plan, "sglang")


def test_slices_of_one_attention_rank(tmp_path):
    """P2pHccl with more FFN ranks than attention ranks cuts each batch into pieces."""
    target = find_target("vllm-afd-ascend", "pr408")
    plan = pair_plan(2, 6, 25, 1, hardware="ascend-910c")
    folder = written(tmp_path / "out", "vllm-afd-ascend", target, plan, architecture="deepseek_v4")
    sizes = {
        role: value(ran(folder / f"{role}.sh", 0, tmp_path / "room")[-1].words, "--max-num-seqs")
        for role in ("attention", "ffn")
    }
    assert sizes == {"attention": "25", "ffn": "9"}  # ceil(25 / 3)


@pytest.mark.parametrize(("batch", "on"), [(24, False), (2048, False), (3900, True)])
def test_two_microbatches_are_off_where_they_were_measured_to_lose(tmp_path, batch, on):
    target = find_target("vllm-afd-plugin", "6fa5b0d")
    plan = pair_plan(4, 2, batch, 2)
    folder = written(tmp_path / "out", "vllm-afd-plugin", target, plan)
    for role in ("attention", "ffn"):
        told = ran(folder / f"{role}.sh", 0, tmp_path / "room")[-1].words
        config = value(told, "--additional-config")["afd"]
        wanted = {"async_moe_ubatching": True} if on else None
        assert config.get("connector_extra_config") == wanted
        assert int(value(told, "--max-num-seqs")) == 2 * batch
    readme = (tmp_path / "out" / "README.md").read_text()
    assert ("they are switched off" in readme) == (not on)


def test_the_mode_is_chosen_by_what_the_plan_found():
    plan = replace(pair_plan(4, 2), barrier_free=MODE)
    assert in_mode(plan, "vllm-afd-plugin")[1].version == "6fa5b0d"
    worse = replace(plan, barrier_free=replace(MODE, gain=-0.01))
    assert in_mode(worse, "vllm-afd-plugin") == (worse, versions("vllm-afd-plugin")[0])
    assert in_mode(plan, "fastafd")[1].execution == "synchronous"
    with pytest.raises(UnsupportedError, match="fastafd has no barrier-free execution"):
        in_mode(plan, "fastafd", None, "barrier-free")


def test_devices_of_workers_of_several_are_shared_out():
    """Bundles of 6 x 2 + 2 x 1 = 14 devices: two in 29, one where there are fewer."""
    for devices, bundles in ((29, 2), (28, 2), (27, 1), (9, 1)):
        given = {"devices": devices, "hardware": "h200"}
        base = replace(pair_plan(4, 2, 24, 1, devices=(2, 1)), barrier_free=MODE, inputs=given)
        plan, target = in_mode(base, "vllm-afd-plugin", "6fa5b0d")
        assert target.execution == "barrier-free"
        assert plan.bundles == bundles
        assert plan.tokens_per_second == pytest.approx(bundles * 6 * 24 / 0.0251)
    # Without a number those of the plan itself: two bundles of 4 x 2 + 2.
    base = replace(base, inputs={"hardware": "h200"})
    assert in_mode(base, "vllm-afd-plugin", "6fa5b0d")[0].bundles == 1
