"""Does text fold at the true width of a terminal, and do numbers and paths stay whole?"""

from __future__ import annotations

import re

import pytest

from tests.cli.invoke import invoke

LENGTHS = ("--prompt", "geometric:200", "--decode", "geometric:300")
CASES = {
    "ratio": ("ratio", *LENGTHS, "--latency", "deepseek-v3-ascend-910c", "--batch-size", "64"),
    "workload": ("workload", *LENGTHS),
    "hardware": ("hardware",),
    "models": ("models",),
    "config": ("--project", "none", "config"),
}
NUMBER = re.compile(r"\d(?:[\d,]*\d)?(?:\.\d+)?")


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("name", CASES)
def test_text_is_as_wide_as_the_terminal_and_its_numbers_are_those_of_a_wide_one(
    name, columns, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "160")
    wide = invoke(*CASES[name], "--full").out
    monkeypatch.setenv("COLUMNS", str(columns))
    outcome = invoke(*CASES[name], "--full")
    assert outcome.code == 0, outcome.err
    told = [line for line in outcome.out.splitlines() if "--" not in line and " \\" not in line]
    assert max(map(len, told)) <= columns, outcome.out
    assert set(NUMBER.findall(outcome.out)) <= set(NUMBER.findall(wide))
    assert outcome.out.splitlines()[0].split()[0] == wide.split()[0]


@pytest.mark.parametrize(("columns", "as_at"), [("0", "80"), ("1", "40"), ("39", "40")])
def test_no_terminal_is_narrower_than_forty_columns(columns, as_at, monkeypatch):
    """Of no width nothing is known: it is the usual one."""
    monkeypatch.setenv("COLUMNS", as_at)
    least = invoke(*CASES["config"]).out
    monkeypatch.setenv("COLUMNS", columns)
    assert invoke(*CASES["config"]).out == least


def test_a_long_path_is_never_folded(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    folder = tmp_path / "a-folder-with-a-long-name" / "and-another-one-in-it"
    folder.mkdir(parents=True)
    (folder / "afdplan.toml").write_text("batch-size = 8\n")
    lines = invoke("--project", folder / "afdplan.toml", "config").out.splitlines()
    assert str(folder / "afdplan.toml") in lines
