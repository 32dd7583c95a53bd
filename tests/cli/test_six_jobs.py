"""Six jobs that people come with, each in the number of commands that the tutorial promises."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from tests.cli.invoke import invoke

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "src/afdplan/data/example_trace.csv.gz"
PLAN = ("plan", "--model", "deepseek-v3", "--hardware", "h200", "--tpot", "50ms", "--devices", 64)
RATIO = ("ratio", "--model", "deepseek-v3", "--hardware", "h200", "--batch-size", 128)
SWEEP = ("--sweep", "--batch-size", 48, "--layers", 94, "--context", 8192)


def sweep(folder: Path) -> Path:
    """Write the step times that FastAFD published for three ratios."""
    path = folder / "sweep.csv"
    path.write_text("attention_workers,step_time_ms\n3,32.83\n11,38.00\n17,48.70\n")
    return path


def test_a_cluster_plan():
    done = invoke(*PLAN, "--trace", TRACE)
    assert done.code == 0, done.err
    assert "Deploy" in done.out
    assert re.search(r"TPOT +kept: [\d.]+ ms of 50 ms", done.out)


def test_a_page_for_the_boss(tmp_path):
    page = tmp_path / "page.html"
    done = invoke("calibrate", sweep(tmp_path), *SWEEP, "--report", page)
    assert done.code == 0, done.err
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert done.out.splitlines()[0][:20] in text
    assert "<script src=" not in text  # one file, to be mailed


def test_a_plan_from_what_a_server_counted(tmp_path):
    counts = tmp_path / "metrics.txt"
    counts.write_bytes(
        gzip.decompress(
            (ROOT / "tests/samples/real/vllm-0.32.0-metrics-vllm-bench.txt.gz").read_bytes()
        )
    )
    done = invoke(*PLAN, "--trace", counts, "--format", "prometheus")
    assert done.code == 0, done.err
    assert "Deploy" in done.out


@pytest.mark.parametrize(("devices", "workers"), [(1, 7), (8, 10)])
def test_the_best_ratio_from_three_ratios(tmp_path, devices, workers):
    asked = ("calibrate", sweep(tmp_path), *SWEEP)
    done = invoke(*asked, "--attention-devices", 1, "--ffn-devices", devices)
    assert done.code == 0, done.err
    assert done.out.startswith(f"Use {workers} attention workers with 1 FFN worker.")
    if devices == 1:  # never so without a word
        asking = " ".join(invoke(*asked).out.split())
        assert asking.startswith("If an FFN worker takes as many devices as an attention worker,")
        assert "give --attention-devices and --ffn-devices" in asking
        assert "give both" in invoke(*asked, "--ffn-devices", 8).error_line


def test_the_ratio_over_the_day():
    done = invoke(*RATIO, "--trace", TRACE, "--by", "1h")
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    best = re.search(r"Use (\d+) attention workers", said)[1]
    assert f"the best A goes from {best} to " in said
    assert f"over 2 windows; staying at {best}" in said


def test_three_lines_in_a_notebook():
    import afdplan

    trace = afdplan.read_trace(str(TRACE))
    latency = afdplan.load_latency("deepseek-v3-ascend-910c")
    answer = afdplan.recommend_ratio(afdplan.EmpiricalLengths(trace), latency, batch_size=128)
    assert "attention worker" in answer._repr_html_()


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md"])
def test_the_documents_promise_no_more(document):
    table = (ROOT / document).read_text().partition("| job | commands |")[2].partition("\n\n")[0]
    counts = re.findall(r"\| (\d) ?(?:lines|:|\()", table.replace("1:", "1 :"))
    assert counts == ["1"] * 5 + ["3"]
