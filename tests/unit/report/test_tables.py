"""Nothing is cut off in a narrow window."""

from __future__ import annotations

import io

from rich.console import Console

from afdplan.report.tables import TextTable, to_rich


def test_headers_and_cells_fold_in_a_narrow_window():
    columns = tuple(f"throughput_per_instance_{k}" for k in range(6))
    table = TextTable(title="T", columns=columns, rows=[("12345678",) * 6])
    out = io.StringIO()
    Console(file=out, width=80).print(to_rich(table))
    assert "…" not in out.getvalue()
    assert out.getvalue().count("12345678") == 6
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_a_title_is_not_as_narrow_as_its_table():
    """A table whose other columns say the same had its title in five lines."""
    rows = [(name, "same", "1") for name in "abc"]
    table = TextTable(title="Best objective by decode", columns=("decode", "x", "y"), rows=rows)
    out = io.StringIO()
    Console(file=out, width=80).print(to_rich(table))
    assert out.getvalue().startswith("Best objective by decode\n")
