"""What stands around an answer: the page and --json tell it from one value."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.plotting.picture import draw_figures
from afdplan.plotting.ratio_figures import asked_figures
from afdplan.report.ratio import ratio_answer
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio
from tests.cli.invoke import invoke

LAW = ("--prompt", "geometric:20", "--decode", "geometric:40")
RATIO = ("ratio", *LAW, "--latency", "deepseek-v3-ascend-910c", "--batch-size", "16")
PLAN = (
    "plan", *LAW, "--latency", "deepseek-v3-ascend-910c", "--kv-tokens", "1e5", "--devices", "8",
)  # fmt: skip


def drawn_of(page):
    """Return what the page draws, chart by chart."""
    text = re.search(r'<script[^>]*id="drawn"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    return {figure["id"]: figure["charts"] for figure in json.loads(text[1])["figures"]}


def column(chart, layer_name, name):
    (layer,) = (layer for layer in chart["layers"] if layer["name"] == layer_name)
    return layer["columns"][name]


@pytest.fixture(scope="module")
def ratio(tmp_path_factory):
    page = tmp_path_factory.mktemp("ratio") / "r.html"
    done = invoke(*RATIO, "--json", "--around", "--report", page)
    assert done.code == 0, done.err
    return done.document, drawn_of(page)


def test_every_other_batch_is_drawn_with_the_numbers_of_json(ratio):
    told, drawn = ratio
    cases = told["around"]["other_batches"]
    assert {f"{c['batch_size']}|{c['microbatches']}" for c in cases} == set(drawn["curve"])
    for case in cases:
        chart = drawn["curve"][f"{case['batch_size']}|{case['microbatches']}"]
        curve = case["curve"]
        assert column(chart, "exact barrier", "x") == curve["attention_workers"]
        assert column(chart, "exact barrier", "y") == pytest.approx(curve["objective"], rel=1e-5)
        assert column(chart, "best", "x") == [case["optimal_attention_workers"]]
        times = drawn["time"][f"{case['batch_size']}|{case['microbatches']}"]
        idle = [1 - busy / 100 for busy in column(times, "attention busy", "y2")]
        assert idle == pytest.approx(curve["attention_idle_fraction"], abs=1e-5)
    asked = next(c for c in cases if (c["batch_size"], c["microbatches"]) == (16, 2))
    for name in ("optimal_attention_workers", "optimal_ratio", "bottleneck", "barrier_cost"):
        assert asked[name] == told[name]


def test_sensitivities_and_idle_causes_are_drawn_with_the_numbers_of_json(ratio):
    told, drawn = ratio
    entries = told["around"]["sensitivities"]
    changes = [100 * entry["objective_change"][1] for entry in entries]
    assert column(drawn["sensitivity"][""], "20 % more", "x2") == pytest.approx(changes, rel=1e-5)
    runs = told["around"]["simulated"]
    assert [run["attention_workers"] for run in runs][1] == told["optimal_attention_workers"]
    barrier = [
        run[f"{side}_idle_causes"].get("barrier", 0.0)
        for run in runs
        for side in ("attention", "ffn")
    ]
    chart = drawn["causes"][""]
    ends, starts = (np.array(column(chart, "idle: barrier", end)) for end in ("x2", "x1"))
    assert (ends - starts) / 100 == pytest.approx(barrier, abs=1e-5)


def test_a_plan_tells_its_other_batches_too(tmp_path):
    page = tmp_path / "p.html"
    told = invoke(*PLAN, "--json", "--around", "--report", page).document
    drawn, found = drawn_of(page), told["around"]["other_batches"]
    assert {f"{c['batch_size']}|{c['microbatches']}" for c in found} == set(drawn["front"])
    (own,) = (
        case["design"]
        for case in found
        if all(case[key] == told["split"][key] for key in ("batch_size", "microbatches"))
    )
    assert told["split"] == {**own, "breaks": None}
    assert all((case["design"] is None) == (case["reason"] is not None) for case in found)
    point = column(next(iter(drawn["front"].values())), "recommended", "y")
    assert point == pytest.approx([told["recommended"]["tokens_per_second_per_device"]], rel=1e-5)


@pytest.mark.parametrize("arguments", [RATIO, PLAN])
def test_only_who_asks_waits_for_it(arguments):
    assert "around" not in invoke(*arguments, "--json").document
    assert "--around adds to --json" in invoke(*arguments, "--around").error_line


def test_a_picture_has_the_numbers_of_json():
    latency = LatencyModel.linear(attention=(0.00165, 50.0), ffn=(0.083, 100.0))
    problem = RatioProblem(
        law=IndependentLengths(prompt="geometric:20", decode="geometric:40"),
        latency=latency,
        batch_size=16,
    )
    answer = recommend_ratio(problem.law, latency, batch_size=16)
    picture = draw_figures(asked_figures(answer, problem, None), "ratio")
    line = picture.subfigs[0].axes[0].lines[0]
    curve = {p.attention_workers: p.objective for p in ratio_answer(answer)["curve"]}
    assert len(line.get_xdata()) >= 16
    assert list(line.get_ydata()) == [curve[int(x)] for x in line.get_xdata()]


@pytest.mark.parametrize("name", ["missing/x.png", "missing/x.html"])
def test_a_folder_that_is_not_there_is_told_before_the_work(name, tmp_path):
    option = "--plot" if name.endswith("png") else "--report"
    # The trace does not exist either: it is not even looked at.
    done = invoke("ratio", "--trace", tmp_path / "no.csv", option, tmp_path / name)
    assert "there is no folder" in done.error_line


def test_batches_beyond_the_memory_of_the_device_are_not_around():
    asked = ("ratio", "--model", "deepseek-v3", "--hardware", "h200", "--prompt", "fixed:9000")
    asked += ("--decode", "geometric:90", "--method", "mean-field")
    refused = invoke(*asked, "--batch-size", 4000).error_line
    most = int(refused.rpartition(" ")[2].replace(",", ""))
    told = invoke(*asked, "--batch-size", most, "--json", "--around").document
    cases = told["around"]["other_batches"]
    assert max(case["batch_size"] for case in cases) == most
    assert {case["microbatches"] for case in cases} == {1, 2}
