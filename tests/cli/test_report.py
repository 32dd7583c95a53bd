"""`--report` writes a whole page beside the usual output, or nothing and says why in one line."""

import json
import re

import pytest

from tests.cli.invoke import invoke

LAW = ("--prompt", "geometric:20", "--decode", "geometric:40")
LATENCY = ("--latency", "deepseek-v3-ascend-910c")


@pytest.fixture(scope="module")
def measurements(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "stages.csv"
    rows = [f"attention,{load},{50e-6 + 2e-10 * load}" for load in range(10_000, 200_000, 9_000)]
    rows += [f"ffn,{load},{90e-6 + 6e-8 * load * (1 + 0.01 * (-1) ** load)}" for load in range(20)]
    path.write_text("\n".join(["stage,load,latency", *rows]) + "\n")
    return path


def commands(measurements):
    return {
        "workload": ("workload", *LAW),
        "ratio": ("ratio", *LAW, *LATENCY, "--batch-size", "32"),
        "simulate": ("simulate", *LAW, *LATENCY, "--batch-size", "32", "--attention-workers", "4"),
        "plan": ("plan", *LAW, *LATENCY, "--kv-tokens", "1e5", "--devices", "8"),
        "calibrate": ("calibrate", measurements, "--time-unit", "s"),
        "validate": ("validate", "published"),
    }


@pytest.mark.parametrize("name", ["workload", "ratio", "simulate", "plan", "calibrate", "validate"])
def test_the_page_holds_the_json_answer_and_its_command(name, measurements, tmp_path):
    path = tmp_path / "out.html"
    arguments = commands(measurements)[name]
    done = invoke(*arguments, "--json", "--report", path)
    assert done.code == 0, done.err
    html = path.read_text(encoding="utf-8")
    inside = re.search(r'<script type="application/json" id="document">(.*?)</script>', html, re.S)
    assert json.loads(inside[1]) == done.document
    command = re.search(r'<pre tabindex="0"><code>(.*?)</code>', html, re.DOTALL)
    assert re.sub(r"</?span>", "", command[1]).startswith(f"afdplan {name}")
    assert "wrote" in done.err
    assert path.stat().st_size < 3_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["out.html"]


def test_another_ending_is_refused_before_anything_is_computed(tmp_path):
    done = invoke("workload", *LAW, "--report", tmp_path / "out.pdf")
    assert done.code == 2
    assert "must end in .html" in done.error_line


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    done = invoke("workload", *LAW, "--report", tmp_path / "no" / "out.html")
    assert done.code == 1
    assert "cannot write" in done.error_line


@pytest.mark.parametrize(
    "options",
    [
        ("--overlap", "ideal", "--method", "gaussian"),
        ("--method", "mean-field", "--horizon", "500"),
        ("--microbatches", "1", "--batch-size", "1"),
    ],
)
def test_every_kind_of_ratio_has_a_page(options, tmp_path):
    size = () if "--batch-size" in options else ("--batch-size", "16")
    done = invoke("ratio", *LAW, *LATENCY, *size, *options, "--report", tmp_path / "out.html")
    assert done.code == 0, done.err


def test_requests_that_are_all_alike_have_pages(tmp_path):
    alike = ("--prompt", "100", "--decode", "20")
    for number, arguments in enumerate(
        (
            ("workload", *alike),
            ("ratio", *alike, *LATENCY, "--batch-size", "16", "--phase", "aligned"),
        )
    ):
        done = invoke(*arguments, "--report", tmp_path / f"{number}.html")
        assert done.code == 0, done.err
