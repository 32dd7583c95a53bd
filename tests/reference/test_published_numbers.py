"""The published numbers that ship with the package are those of the publications."""

import json
import tomllib
from importlib.resources import files

import pytest

from tests.shared import shared

OURS = tomllib.loads((files("afdplan.data") / "measurements" / "published.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def experiments():
    document = json.loads(shared("measurements/published.json").read_text())
    return {entry["id"]: entry for entry in document["experiments"]}


def test_fastafd_sweep(experiments):
    ours, theirs = OURS["fastafd-qwen3-235b"], experiments["fastafd-qwen3-235b-8k"]
    assert ours["layers"] == theirs["layers"]
    assert ours["mean_tokens"] == theirs["isl"]
    assert ours["attention_units"] == [point["A"] for point in theirs["points"]]
    assert ours["step_ms"] == [point["step_ms"] for point in theirs["points"]]
    slots = ours["batch_size"] * ours["microbatches"]
    assert {point["batch_per_attention_rank"] for point in theirs["points"]} == {slots}


def test_xdeepserve(experiments):
    ours, theirs = OURS["xdeepserve-deepseek-r1"], experiments["xdeepserve-attn-moe-disagg"]
    (point,) = theirs["points"]
    times = theirs["per_layer"]
    assert (ours["attention_workers"], ours["ffn_workers"]) == (point["A"], point["F"])
    assert (ours["step_ms"], ours["layers"]) == (point["step_ms"], theirs["layers"])
    assert ours["attention_ms"] == times["attention_path_ms_per_microbatch"]
    assert ours["ffn_ms"] == times["moe_ms"]
    assert ours["send_ms"] * 1e3 == pytest.approx(times["A2E_us"])
    assert ours["receive_ms"] * 1e3 == pytest.approx(times["E2A_us"])


def test_afd_plugin(experiments):
    ours, theirs = OURS["afd-plugin-deepseek-v32"], experiments["afdplugin-dsv32-16k"]
    assert ours["attention_workers"] == [point["A"] for point in theirs["points"]]
    assert ours["step_ms"] == [point["step_ms"] for point in theirs["points"]]
