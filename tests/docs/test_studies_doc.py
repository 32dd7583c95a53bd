"""The study files of docs/studies.md are studies, its queries run, its table is complete."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from afdplan.studies.definition import load_study
from afdplan.studies.kinds import compute_kind, compute_kinds
from tests.cli.invoke import invoke
from tests.unit.studies.declare import write, write_trace

DOCUMENT = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
STUDIES = re.findall(r"```toml[^\n]*\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def test_the_first_study_has_the_cases_that_the_text_counts(tmp_path):
    study = load_study(write(tmp_path, STUDIES[0]))
    assert study.cases == 160
    assert "= 160 cases" in DOCUMENT


def test_named_definitions(tmp_path):
    write_trace(tmp_path, "chat.csv")
    measured = STUDIES[1].replace(
        'file = "measured.toml"', 'model = "deepseek-v3"\nhardware = "h20"'
    )
    study = load_study(write(tmp_path, measured))
    assert study.cases == 4


def test_the_queries_tell_what_the_rows_say(tmp_path, monkeypatch):
    # 33 requests do not divide into two microbatches: these cases are refused.
    text = (
        'compute = "ratio"\n[fixed]\nprompt = "geometric:1000"\ndecode = "geometric:300"\n'
        'method = "mean-field"\n[grid]\nmodel = ["deepseek-v3", "qwen3-235b-a22b"]\n'
        'hardware = ["h20", "h200"]\nrequests_per_worker = [32, 33, 64]\n'
    )
    monkeypatch.chdir(tmp_path)
    assert invoke("sweep", write(tmp_path, text), "-o", "results").code == 0
    rows = pl.read_parquet("results/part-*.parquet")
    best, reasons = re.search(r"```sql\n(.*?)```", DOCUMENT, flags=re.DOTALL)[1].split(";")[:2]
    best = best.replace("batch_size", "requests_per_worker")
    told = {(model, hardware): found for model, hardware, *found in duckdb.sql(best).fetchall()}
    assert len(told) == 4
    for (model, hardware), (size, objective) in told.items():
        group = rows.filter(model=model, hardware=hardware, status="done")
        top = group.sort("objective").row(-1, named=True)
        assert (size, objective) == (top["requests_per_worker"], top["objective"])
    assert [count for _, count in duckdb.sql(reasons).fetchall()] == [4]
    assert rows.filter(pl.col("status") == "refused").height == 4


def test_windows(tmp_path):
    write_trace(tmp_path, "week.csv")
    text = STUDIES[2].replace("measured.toml", "deepseek-v3-ascend-910c")
    study = load_study(write(tmp_path, text))
    assert study.cases == 6


@pytest.mark.parametrize("name", compute_kinds())
def test_every_variable_is_documented(name):
    missing = [v for v in compute_kind(name).variables if f"`{v}`" not in DOCUMENT]
    assert not missing
