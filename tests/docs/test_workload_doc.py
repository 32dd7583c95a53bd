"""Every row of the table of real traces in docs/workload.md is what the code says today."""

from pathlib import Path

import pytest

from afdplan.files.traces.reader import read_trace
from afdplan.workload.description import describe_workload
from tests.shared import shared

DOCUMENT = Path(__file__).parents[2] / "docs" / "workload.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and line.count("|") == 10 and not line.startswith("| trace")
]


def test_the_table_is_found():
    assert len(ROWS) == 8


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row_is_what_the_code_says(row):
    report = describe_workload(read_trace(shared(f"traces/{row[0]}.csv")))
    load, shortcut, precision = report.token_load, report.geometric, report.precision
    assert row[1:] == [
        f"{report.requests:,}",
        f"{load.value:,.0f}",
        f"{load.low:,.0f} to {load.high:,.0f}",
        f"{precision.widening:.1f}",
        f"{precision.effective_requests:,.0f}",
        f"{100 * shortcut.mean_error_fraction:+.0f} %",
        f"{100 * shortcut.variance_error_fraction:+.0f} %",
        "yes" if report.drift.exceeds_interval else "no",
    ]
