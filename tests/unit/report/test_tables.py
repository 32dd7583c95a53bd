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


def test_columns_move_closer_before_a_heading_breaks_inside_a_word():
    """Two groups of a study had headings like "hardwar e" and "objectiv e" at 80 columns."""
    names = "model hardware binds batch_size m ffn_weight ffn_workers objective_tokens/s best_A"
    columns = tuple(name.replace("_", " ") for name in [*names.split(), "within_1 %"])
    rows = [(f"qwen3-235b-a2{k}b", "h200", "ffn", *("0.648",) * 7) for k in range(2)]
    out = io.StringIO()
    Console(file=out, width=80).print(to_rich(TextTable(title="T", columns=columns, rows=rows)))
    words = out.getvalue().split()
    assert {"hardware", "binds", "batch", "weight", "workers", "objective", "within"} <= set(words)
    assert max(map(len, out.getvalue().splitlines())) <= 80
