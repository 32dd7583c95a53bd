"""Which runs of a benchmark does a file hold, and do their requests add up to what it says?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.errors import TraceError
from afdplan.files.traces.table import Table

__all__ = ["chosen_run", "doubted_totals", "run_numbers"]

UNLIKE_COUNTS = 0.1
"""Share by which two ways of counting output tokens may differ without a word."""


def run_numbers(values: pl.Series | None, count: int) -> IntArray:
    """Return the number of each record's run; all are of run 1 if none is said."""
    if values is None:
        return np.ones(count, dtype=np.int64)
    return values.fill_null(1).to_numpy().astype(np.int64)


def chosen_run(table: Table, runs: IntArray, wanted: str | None) -> BoolArray:
    """Return which records belong to the run that the user wants, to all if none is named.

    Raises
    ------
    TraceError
        If there is no such run.
    """
    if wanted is None:
        return np.ones(runs.size, dtype=np.bool_)
    known = np.unique(runs).tolist()
    if int(wanted) not in known:
        shown = ", ".join(map(str, known[:8]))
        raise TraceError(f"{table.name}: columns run must be one of {shown}, got {wanted}")
    return np.equal(runs, int(wanted))


def doubted_totals(
    table: Table, runs: IntArray, rows: BoolArray, lengths: Mapping[str, FloatArray]
) -> list[str]:
    """Return where the sums of requests are not what the file itself says of its runs.

    Parameters
    ----------
    table
        The table with its totals.
    runs, rows
        Run of each record, and whether it counts as a request, shape (n,).
    lengths
        Tokens of ``prompt`` and ``decode``, shape (n,) each.
    """
    doubts = []
    for run, side, said in table.totals:
        mine = runs == run
        sums = {float(lengths[side][which].sum()) for which in (mine & rows, mine)}
        if (mine & rows).any() and said not in sums:
            what = "prompt" if side == "prompt" else "output"
            found = float(lengths[side][mine & rows].sum())
            of = f" of run {run}" if len(table.totals) > 2 else ""
            doubts.append(
                f"the requests{of} have {found:,.0f} {what} tokens, the file says {said:,.0f} in "
                "all: it was cut, edited or counted in two ways"
            )
    for run, server, client in table.counted_again:
        if abs(client - server) > UNLIKE_COUNTS * server and (runs[rows] == run).any():
            doubts.append(
                f"the client counts {client:,.0f} output tokens when it tokenises the texts again, "
                f"not {server:,.0f}: lengths are the server's; was its tokeniser another one?"
            )
    return doubts
