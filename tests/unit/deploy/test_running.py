"""Is a server that runs otherwise than planned found out?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from afdplan.calibration.catalogue import shipped_hardware
from afdplan.deploy.devices import kind_of
from afdplan.deploy.modes import in_mode
from afdplan.deploy.registry import find_target
from afdplan.deploy.running import differences
from afdplan.errors import InvalidInputError
from afdplan.files.plan_barrier_free import BarrierFreePlan
from afdplan.files.running import read_running
from tests.cli.invoke import invoke
from tests.plans import split_of, written_plan
from tests.unit.deploy.cases import pair_plan
from tests.unit.deploy.test_laws import UNSPLIT

# Shapes of the lines: vLLM 0.26 (log_non_default_args, kv_cache_utils), FastAFD 3c71619
# (afd_coordinator), SGLang (server_args at start, /get_server_info).
VLLM_LOG = """\
(APIServer pid=7) INFO 11-28 19:02:11 [utils.py:253] non-default args: {{'model_tag': 'm', \
'max_num_seqs': {seqs}, 'data_parallel_size': 4, 'enable_dbo': True, 'compilation_config': \
{{'mode': <CompilationMode.NONE: 0>}}, 'additional_config': {{'afd': {{'role': 'attention'}}}}}}
(EngineCore pid=9) INFO 11-28 19:05:40 [kv_cache_utils.py:1316] GPU KV cache size: {cache} tokens
"""
FASTAFD_LOG = (
    "[afd-coordinator] centralized_scheduler ready num_pages=99 max_seq_len=8256 cache_type=naive "
    "global_max_running_req={all} attn_local_max_running_req={one}\n"
)


def told(tmp_path, text):
    path = tmp_path / "told.txt"
    path.write_text(text)
    return read_running(path)


def named(found):
    return {one.name: (one.planned, one.running) for one in found}


def test_vllm_log(tmp_path):
    plan, target = pair_plan(4, 2, 24), find_target("vllm-afd-plugin")
    same = told(tmp_path, VLLM_LOG.format(seqs=48, cache="120,000"))
    assert same.role == "attention"
    assert differences(plan, target, same) == ()
    assert differences(replace(plan, model=None), target, same) == ()  # no setting hangs on it
    exact = told(tmp_path, VLLM_LOG.format(seqs=48, cache="100,000"))
    assert differences(plan, target, exact) == ()
    other = told(tmp_path, VLLM_LOG.format(seqs=24, cache="90,000"))
    assert named(differences(plan, target, other)) == {
        "max_num_seqs": (48, 24),
        "cache_tokens": (100_000, 90_000),
    }


def test_fastafd_capacity_of_one_rank_is_found_out(tmp_path):
    plan, target = pair_plan(28, 4, 48, hardware="gb200"), find_target("fastafd")
    same = told(tmp_path, FASTAFD_LOG.format(all=2688, one=96))
    assert differences(plan, target, same) == ()
    other = told(tmp_path, FASTAFD_LOG.format(all=96, one=4))  # what used to be emitted
    assert named(differences(plan, target, other)) == {
        "max_running_requests": (2688, 96),
        "requests_per_rank": (96, 4),
    }


@pytest.mark.parametrize("form", ["json", "log"])
def test_sglang(tmp_path, form):
    values = {"tp_size": 6, "dp_size": 6, "max_running_requests": 6 * 40}
    text = json.dumps({**values, "afd_execution_mode": "attention", "model_path": "m"})
    if form == "log":
        fields = ", ".join(f"{name}={value}" for name, value in values.items())
        text = f"server_args=ServerArgs(model_path='m', {fields}, afd_execution_mode='attention')"
    found = differences(pair_plan(6, 4, 20), find_target("sglang"), told(tmp_path, text))
    assert named(found) == {"max_running_requests": (6 * 41, 6 * 40)}


@pytest.mark.parametrize("form", ["json", "log"])
@pytest.mark.parametrize(
    ("mode", "values", "differ"),
    [
        ("host", {"max_running_requests": 24}, {"max_running_requests": (25, 24)}),
        ("host", {"max_running_requests": 25}, {}),
        ("pool", {"afd_min_batch": 1, "afd_max_wait_ms": 26}, {"afd_min_batch": (3, 1)}),
        ("pool", {"afd_min_batch": 3, "afd_max_wait_ms": 2}, {"afd_max_wait_ms": (26, 2)}),
    ],
)
def test_host_and_pool_of_sglang(tmp_path, form, mode, values, differ):
    rule = BarrierFreePlan(
        attention_workers=6, step_time=0.0251, step_time_p99=0.029, least_calls=3, gain=0.1
    )
    inputs = {"devices": 7, "hardware": "h200"}
    plan, target = in_mode(
        replace(pair_plan(4, 1, 24, 1), barrier_free=rule, inputs=inputs), "sglang"
    )
    text = json.dumps({**values, "afd_mode": mode, "model_path": "m"})
    if form == "log":
        fields = ", ".join(f"{name}={value}" for name, value in values.items())
        text = f"server_args=ServerArgs(model_path='m', {fields}, afd_mode='{mode}')"
    assert named(differences(plan, target, told(tmp_path, text))) == differ


def test_metrics_tell_the_cache(tmp_path):
    line = 'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="5000"} 1.0\n'
    running = told(tmp_path, line)
    assert running.values == {"cache_tokens": 80_000}


@pytest.mark.parametrize("text", ["", "{", "nothing here", '{"a": "b"}', "[1]"])
def test_what_tells_nothing_is_refused(tmp_path, text):
    with pytest.raises(InvalidInputError):
        told(tmp_path, text)


def test_command(tmp_path):
    plan = written_plan(tmp_path)
    best = split_of(plan)
    log = tmp_path / "start.log"
    slots, workers = best["requests_per_attention_worker"], best["attention_workers"]
    text = VLLM_LOG.format(seqs=slots, cache="99,000,000")
    log.write_text(text.replace("'data_parallel_size': 4", f"'data_parallel_size': {workers}"))
    outcome = invoke("check", plan, "--settings", log)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == "The server runs as planned."
    log.write_text(log.read_text().replace(f"'max_num_seqs': {slots}", "'max_num_seqs': 1"))
    outcome = invoke("check", plan, "--settings", log, "--json")
    assert outcome.code == 5
    assert json.loads(outcome.out)["settings_that_differ"] == [
        {"name": "max_num_seqs", "planned": slots, "running": 1}
    ]
    assert invoke("check", plan).code == 2


def test_every_shipped_device_is_of_a_kind():
    for name in shipped_hardware():
        assert kind_of(None, name) is not None, name
    assert kind_of(None, "my-chip") is None
    with pytest.raises(InvalidInputError, match="device kind must be one of nvidia"):
        kind_of("tpu", None)


def test_the_cache_beside_ffn_weights_is_not_that_of_the_split(tmp_path):
    """A server that holds all layers has less room than an attention rank of the split."""
    plan = pair_plan(4, 2, 24, unsplit=UNSPLIT, recommends_unsplit=True)
    log = VLLM_LOG.format(seqs=60, cache="90,000").replace("'data_parallel_size': 4", "'x': 4")
    log = log.replace(", 'additional_config': {'afd': {'role': 'attention'}}", "")
    found = told(tmp_path, log)
    assert found.role == "server"
    assert differences(plan, find_target("vllm-afd-plugin"), found) == ()
