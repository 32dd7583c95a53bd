"""Does every answer of the library show, save and draw itself, with the numbers that it holds?"""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import polars as pl
import pytest

import afdplan
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model.latency import LatencyModel
from tests.cli.invoke import invoke
from tests.media import page_tables, page_words

LAW = {"prompt": "geometric:1000", "decode": "geometric:100"}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """One answer of each kind."""
    folder = tmp_path_factory.mktemp("answers")
    law = afdplan.IndependentLengths(**LAW)
    latency = LatencyModel.linear(attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), layers=4, time_unit="s")
    afdplan.save_latency(latency, folder / "latency.toml")
    plan = ("plan", "--prompt", LAW["prompt"], "--decode", LAW["decode"])
    plan = (*plan, "--latency", folder / "latency.toml", "--kv-tokens", "1e5", "--devices", 3)
    assert invoke(*plan, "--batch-sizes", "4,16", "-o", folder / "plan.json").code == 0
    trace = folder / "trace.csv"
    rows = [f"{100 + k * 37 % 900},{1 + k * k % 300}" for k in range(60)]
    trace.write_text("\n".join(["prompt_tokens,decode_tokens", *rows]) + "\n")
    return {
        "ratio": afdplan.recommend_ratio(law, latency, batch_size=16),
        "plan": afdplan.make_plan(
            law,
            afdplan.MeasuredSource(latency, kv_tokens=1e5),
            afdplan.Limits(devices=3),
            space=afdplan.planning.space.SearchSpace(batch_sizes=(4, 16)),
        ),
        "simulation": afdplan.simulate(
            afdplan.Scenario(
                bundle=afdplan.Bundle(attention_workers=2, ffn_workers=1, batch_size=4),
                latency=latency,
                lengths=law,
                requests_per_worker=100,
            )
        ),
        "check": afdplan.check_plan(afdplan.read_plan(folder / "plan.json"), law),
        "workload": afdplan.describe_workload(afdplan.read_trace(trace)),
    }


KINDS = ("ratio", "plan", "simulation", "check", "workload")


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_of_another_process_says_the_same(kind, answers):
    answer = answers[kind]
    sent = pickle.loads(pickle.dumps(answer))
    assert str(sent) == str(answer)
    assert sent.to_dict() == answer.to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_data_are_plain_and_rows_hold_them(kind, answers):
    answer = answers[kind]
    found = answer.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rows = answer.frame()
    assert isinstance(rows, pl.DataFrame)
    assert rows.height >= 1
    if kind == "ratio":
        best = rows.sort("objective", descending=True).row(0, named=True)
        assert best["attention_workers"] == found["optimal_attention_workers"]
        assert best["step_time"] == found["step_time"]["mean"]
    if kind == "plan":
        split = rows.filter(pl.col("role") == "split").row(0, named=True)
        assert split["tokens_per_second"] == found["split"]["tokens_per_second"]
        assert rows.filter(pl.col("role") == "un-split").height == len(
            found["colocated"]["by_width"]
        )
    if kind == "simulation":
        value = found["throughput_per_instance"]["value"]
        assert rows["throughput_per_instance_value"].to_list() == [value]


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_a_screen_and_print_a_sentence(kind, answers):
    answer = answers[kind]
    said = str(answer)
    assert "\n" not in said
    assert 20 < len(said) < 300
    shown = answer._repr_html_()
    words = page_words(f"<html><body>{shown}</body></html>")
    assert page_tables(f"<html><body>{shown}</body></html>")
    if kind == "ratio":
        assert f"Use {answer.optimal_attention_workers} attention worker" in words
    if kind == "plan":
        assert said.startswith("Deploy ")
        assert str(answer.recommended) in said
        assert str(answer.recommended) in words


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "check"])
def test_pictures(kind, answers, tmp_path):
    import matplotlib.figure

    path = tmp_path / "picture.svg"
    assert isinstance(answers[kind].plot(str(path)), matplotlib.figure.Figure)
    assert path.read_bytes().startswith(b"<?xml")
    with pytest.raises(InvalidInputError, match="there is no folder"):
        answers[kind].plot(str(tmp_path / "none" / "picture.svg"))


@pytest.mark.parametrize("kind", ["check", "workload", "simulation"])
def test_pages(kind, answers, tmp_path):
    path = tmp_path / "page.html"
    answers[kind].report(str(path))
    shown = page_words(answers[kind]._repr_html_()).partition(". ")[0]
    assert shown in page_words(path.read_bytes())


def test_what_has_no_picture_says_so(answers):
    with pytest.raises(UnsupportedError, match="PlanCheck has no picture"):
        answers["check"].plot()


def test_what_comes_from_outside_is_escaped(tmp_path):
    trace = tmp_path / "a<b>&.csv"
    trace.write_text("prompt_tokens,decode_tokens\n" + "5,5\n9,7\n" * 20)
    found = afdplan.describe_workload(afdplan.read_trace(trace))
    assert "<b>&" not in found._repr_html_().replace("<b>One", "")


def test_only_public_names_are_listed():
    assert set(dir(afdplan)) == {*afdplan.__all__, "__version__"}


def test_everything_that_is_printed_is_a_sentence(answers, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("prompt_tokens,decode_tokens,arrival\n5,5,0\n9,7,120\n")
    trace = afdplan.read_trace(path)
    named = afdplan.derived_model("deepseek-v3", "h200", ffn_workers=2)
    bundle = afdplan.Bundle(attention_workers=3, batch_size=1024)
    said = {
        "trace": str(trace),
        "law": str(afdplan.EmpiricalLengths(trace)),
        "laws": str(afdplan.IndependentLengths(**LAW)),
        "latency": str(named.latency),
        "bundle": str(bundle),
        "ratio": str(answers["ratio"]),
    }
    assert "2 requests over 2 min, prompts of 7 and outputs of 6 tokens" in said["trace"]
    assert "prompts of 1,000 and outputs of 100 tokens" in said["laws"]
    assert "61 layers in seconds, attention workers of 1 device" in said["latency"]
    assert "3 attention workers with 1 FFN worker, 1,024 requests" in said["bundle"]
    assert said["ratio"] == answers["ratio"]._repr_html_().partition("<b>")[2].partition("</b>")[0]
    for text in said.values():
        assert not re.search(r"\w\(|=|array|object at|\n", text), text


def test_every_public_value_is_a_sentence():
    """`Limits(...)`, a source and a scenario were printed as Python writes them."""
    law = afdplan.IndependentLengths(**LAW)
    named = afdplan.derived_model("deepseek-v3", "h200", ffn_workers=2)
    bundle = afdplan.Bundle(attention_workers=3, batch_size=16)
    values = {
        "Bundle": bundle,
        "DerivedSource": afdplan.DerivedSource(named.placement, (2, 4)),
        "EmpiricalLengths": afdplan.EmpiricalLengths(
            afdplan.Trace(prompt_tokens=[5, 9], decode_tokens=[5, 7])
        ),
        "Estimate": afdplan.Estimate(value=2, low=1, high=3, confidence=0.95, method="m"),
        "IndependentLengths": law,
        "LatencyModel": named.latency,
        "Limits": afdplan.Limits(
            devices=8, requests_per_second=2, time_per_output_token=0.05, margin=0.1
        ),
        "MeasuredSource": afdplan.MeasuredSource(named.latency, kv_tokens=1e5, ffn_devices=8),
        "Scenario": afdplan.Scenario(bundle=bundle, latency=named.latency, lengths=law),
        "Trace": afdplan.Trace(prompt_tokens=[5, 9], decode_tokens=[5, 7]),
    }
    answers = {"Plan", "RatioRecommendation", "SimulationResult"}  # tried above
    public = {
        name
        for name in afdplan.__all__
        if isinstance(getattr(afdplan, name), type) and name != "AfdplanError"
    }
    assert {*values} == public - answers
    for name, value in values.items():
        text = str(value)
        assert not re.search(r"\w\(|=|array|object at|None|\n", text), text
        assert name not in text
    assert str(values["Limits"]) == (
        "At most 8 devices, at least 2 requests/s, at most 50 ms per output token (mean), "
        "KV cache short in at most 0.1 % of steps, 10 % of each limit left free."
    )
    assert "FFN workers of 8 devices" in str(values["MeasuredSource"])
    assert "attention workers of 2 or 4 devices" in str(values["DerivedSource"])
    assert "10,000 requests per attention worker" in str(values["Scenario"])


def test_a_plan_file_says_what_it_recommends(tmp_path):
    path = tmp_path / "plan.json"
    run = ("plan", "--prompt", LAW["prompt"], "--decode", LAW["decode"], "--devices", 3)
    run = (*run, "--model", "qwen3-30b-a3b", "--hardware", "h100", "--max-batch-size", 8)
    assert invoke(*run, "-o", path).code == 0
    plan = replace(afdplan.read_plan(path), recommends_unsplit=True)
    assert f", {plan.unsplit.requests_per_rank} requests each, without a split" in str(plan)
    split = replace(plan, recommends_unsplit=False)
    assert f"{split.bundle}, on {split.devices} devices." in str(split)
