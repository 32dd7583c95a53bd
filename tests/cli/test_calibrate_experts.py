"""Loads of experts through the command: told, written into a model, and felt by the ratio."""

from __future__ import annotations

import json

import pytest

from afdplan.files.latency_file import load_latency
from tests.cli.invoke import invoke

LINE = "INFO [EPLB_TRACE] rank_load step={} rank_tokens=[{}]\n"
BALANCED = """schema_version = 1
time_unit = "abstract"
name = "even"
[[attention]]
layers = 4
kind = "linear"
slope = 1e-3
intercept = 5.0
[ffn]
kind = "linear"
slope = 0.2
intercept = 20.0
[transfer]
kind = "linear"
slope = 0.01
intercept = 2.0
"""
QUESTION = ("--prompt", "geometric:500", "--decode", "geometric:300", "--batch-size", 64, "--json")


@pytest.fixture
def even(tmp_path):
    path = tmp_path / "even.toml"
    path.write_text(BALANCED)
    return path


def test_a_log_of_rank_loads(tmp_path, even):
    log, uneven = tmp_path / "server.log", tmp_path / "uneven.toml"
    log.write_text(LINE.format(1, "100, 140, 80, 80") + LINE.format(2, "100, 180, 60, 60"))
    told = invoke("calibrate", log, "--prior", even, "-o", uneven)
    assert told.code == 0, told
    assert "The busiest of 4 ranks has 60.0 % more to do than the mean one." in told.out
    assert load_latency(uneven).experts.imbalance == pytest.approx(1.6)
    # The FFN is slower, so fewer attention workers feed it.
    answers = [json.loads(invoke("ratio", "--latency", m, *QUESTION).out) for m in (even, uneven)]
    ratios = [answer["optimal_attention_workers"] for answer in answers]
    assert ratios[1] < ratios[0]


def test_counts_and_their_answer(tmp_path, even):
    dump, uneven = tmp_path / "dump.json", tmp_path / "uneven.toml"
    dump.write_text(json.dumps({"logical_count": [[6, 2, 1, 1], [1, 1, 1, 1]]}))
    answer = json.loads(invoke("calibrate", dump, "--prior", even, "-o", uneven, "--json").out)
    assert (answer["layers"], answer["experts"], answer["imbalance"]) == (2, 4, None)
    two = answer["balances"][0]
    assert two["ranks"] == 2
    assert two["as_it_is"] == pytest.approx((1.6 + 1.0) / 2)
    assert two["placed_anew"] == pytest.approx((1.4 + 1.0) / 2)
    assert load_latency(uneven).experts.popularity[0] == pytest.approx((0.6, 0.2, 0.1, 0.1))
    # One rank for all experts is never uneven: the model was written without a word.
    ranks, layers = answer["warnings"]
    assert "ranks_per_worker = 1 are taken in [experts]" in ranks
    assert "2 layers that" in layers
    assert load_latency(uneven).assumptions == (ranks, layers)
    assert json.loads(invoke("calibrate", dump, "--prior", uneven, "--json").out)["warnings"] == [
        layers
    ]
    again = invoke("calibrate", tmp_path / "other.json", "--prior", uneven)
    assert "there is no file" in again.error_line
    (tmp_path / "other.json").write_text(json.dumps({"counts": [[1, 2, 3]]}))
    again = invoke("calibrate", tmp_path / "other.json", "--prior", uneven)
    assert "counts 3 experts, the latency model has 4" in again.error_line


def test_what_the_command_asks_for(tmp_path, even):
    log = tmp_path / "server.log"
    log.write_text(LINE.format(1, "1, 2"))
    assert "--prior" in invoke("calibrate", log, "-o", tmp_path / "m.toml").err
    assert "one dump or log" in invoke("calibrate", log, log).err
