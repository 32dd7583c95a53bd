"""The study files of docs/studies.md are studies, and its table names every variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from afdplan.studies.definition import load_study
from afdplan.studies.kinds import compute_kind, compute_kinds
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


def test_windows(tmp_path):
    write_trace(tmp_path, "week.csv")
    text = STUDIES[2].replace("measured.toml", "deepseek-v3-ascend-910c")
    study = load_study(write(tmp_path, text))
    assert study.cases == 6


@pytest.mark.parametrize("name", compute_kinds())
def test_every_variable_is_documented(name):
    missing = [v for v in compute_kind(name).variables if f"`{v}`" not in DOCUMENT]
    assert not missing
