"""Do command line, Python, page and study give the same number for the same question?

By default 10 random questions, pages for two of them; AFDPLAN_QUESTIONS=200 asks as many as wanted.
"""

from __future__ import annotations

import html.parser
import json
import os
import random

import polars as pl
import pytest

import afdplan
from afdplan.model.latency import LatencyModel
from tests.cli.invoke import invoke

QUESTIONS = int(os.environ.get("AFDPLAN_QUESTIONS", "10"))
PAGES = max(QUESTIONS // 5, 1)
SAME = (
    *("optimal_attention_workers", "optimal_ratio", "mean_field_ratio", "bottleneck"),
    *("barrier_cost", "mean_token_load"),
)
OF_POINT = (
    *("objective", "throughput_per_instance", "cycle_time", "attention_idle_fraction"),
    "ffn_idle_fraction",
)


def question(seed, folder):
    """Return what is asked, by the names of studies; half of the models name devices."""
    chance = random.Random(f"everywhere {seed}")
    devices = {"attention_devices": chance.choice([1, 2]), "ffn_devices": chance.choice([4, 8])}
    latency = LatencyModel.linear(
        attention=(10 ** chance.uniform(-10, -8), 10 ** chance.uniform(-6, -4)),
        ffn=(10 ** chance.uniform(-8, -6), 10 ** chance.uniform(-5, -4)),
        transfer=(1e-8, 1e-5) if chance.random() < 0.5 else (0.0, 0.0),
        layers=chance.choice([8, 27, 61]),
        time_unit="s",
        **(devices if seed % 2 else {}),
    )
    path = folder / f"latency-{seed}.toml"
    afdplan.save_latency(latency, path)
    mean = chance.choice([50, 300, 2000])
    return {
        "prompt": chance.choice(
            [f"geometric:{mean}", f"{mean}", f"lognormal:mean={mean},cv=1.2", f"uniform:1..{mean}"]
        ),
        "decode": chance.choice(["geometric:60", "geometric:400", "uniform:10..200"]),
        "latency": str(path),
        "batch_size": chance.choice([1, 7, 32, 128]),
        "microbatches": chance.choice([1, 2, 3]),
        "ffn_workers": chance.choice([1, 1, 2]),
        "method": chance.choice(["exact", "exact", "gaussian"]),
    }


def options(asked):
    return [
        part for name, value in asked.items() for part in (f"--{name.replace('_', '-')}", value)
    ]


def typed(asked, *more):
    outcome = invoke("ratio", *options(asked), "--json", *more)
    assert outcome.code == 0, outcome.err
    return {key: value for key, value in outcome.document.items() if key != "command"}


def in_python(asked):
    law = afdplan.IndependentLengths(prompt=asked["prompt"], decode=asked["decode"])
    rest = {name: asked[name] for name in ("batch_size", "microbatches", "ffn_workers", "method")}
    return afdplan.recommend_ratio(law, afdplan.load_latency(asked["latency"]), **rest)


class Embedded(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.is_inside, self.text = False, ""

    def handle_starttag(self, tag, attributes):
        self.is_inside = ("id", "document") in attributes

    def handle_data(self, data):
        self.text += data if self.is_inside else ""


def on_a_page(asked, path):
    outcome = invoke("ratio", *options(asked), "--report", path)
    assert outcome.code == 0, outcome.err
    page = Embedded()
    page.feed(path.read_text())
    return json.loads(page.text)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everywhere")
    questions = [question(seed, folder) for seed in range(QUESTIONS)]
    return questions, [typed(one) for one in questions], folder


def test_python_says_what_the_command_says(asked):
    for one, document in zip(*asked[:2], strict=True):
        ours = in_python(one).to_dict()
        assert {name: document[name] for name in ours if name not in ("time_unit", "warnings")} == {
            name: value for name, value in ours.items() if name not in ("time_unit", "warnings")
        }, one
        assert ours["warnings"] == document["warnings"]


def test_a_study_says_what_the_command_says(asked):
    questions, documents, folder = asked
    columns = {name: [one[name] for one in questions] for name in questions[0]}
    lines = [f"{name} = {json.dumps(values)}" for name, values in columns.items()]
    study = folder / "study.toml"
    study.write_text('name = "same"\ncompute = "ratio"\n[zip]\n' + "\n".join(lines) + "\n")
    assert invoke("sweep", study, "-o", folder / "results", "--workers", 1).code == 0
    rows = pl.scan_parquet(folder / "results" / "part-*.parquet").collect().sort("case")
    assert rows.height == QUESTIONS
    for row, document in zip(rows.iter_rows(named=True), documents, strict=True):
        (best,) = [
            point
            for point in document["curve"]
            if point["attention_workers"] == document["optimal_attention_workers"]
        ]
        # A worker process may add up in another order.
        same = {name: row[name] for name in SAME if name != "bottleneck"}
        # The real ratio lies on a flat top: rounding moves it more than what it gives.
        flat = {name: same.pop(name) for name in ("optimal_ratio", "mean_field_ratio")}
        assert flat == pytest.approx({name: document[name] for name in flat}, rel=1e-6)
        assert same == pytest.approx({name: document[name] for name in same}, rel=1e-12)
        assert row["bottleneck"] == document["bottleneck"]
        point = {name: row[name] for name in OF_POINT}
        # An idle share is what is left of one.
        assert point == pytest.approx({name: best[name] for name in OF_POINT}, rel=1e-12, abs=1e-12)
        assert row["step_time"] == pytest.approx(document["step_time"]["mean"], rel=1e-12)
        curve = [point["objective"] for point in document["curve"]]
        assert row["curve_objective"] == pytest.approx(curve, rel=1e-12)


def test_a_page_holds_what_the_command_says(asked):
    for k in range(PAGES):
        one, document = asked[0][k], asked[1][k]
        found = on_a_page(one, asked[2] / f"page-{k}.html")
        if (gain := document["placement_gain"]) and gain["recovered"] is None:
            found["placement_gain"]["recovered"] = None  # the page plays what the command need not
        assert {name: found[name] for name in document} == document, one


def test_devices_named_by_the_model_weigh_alike_everywhere(asked):
    for seed, (one, document) in enumerate(zip(*asked[:2], strict=True)):
        weight = document["inputs"]["ffn_weight"]
        assert weight == in_python(one).ffn_weight
        assert (weight == 1) == (seed % 2 == 0)
        told = " ".join(invoke("ratio", *options(one)).out.split())
        assert ("An FFN worker counts as 1 attention worker" in told) == (weight == 1)
