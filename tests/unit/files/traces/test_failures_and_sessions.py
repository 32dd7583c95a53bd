"""Which requests failed by what a column says, which share a session, which parts are counted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from afdplan.errors import TraceError
from afdplan.files.traces import summaries, usage
from afdplan.files.traces.values import failed_rows, session_numbers


@pytest.mark.parametrize(
    ("name", "values", "failed"),
    [
        ("error", ["", "none", "timeout", None], [False, False, True, False]),
        ("success", ["true", "False", "0", "1", "no"], [False, True, True, False, True]),
        ("status", ["200", "399", "400", "503", "ok"], [False, False, True, True, False]),
        ("status", ["200", "0", "204"], [False, True, False]),
        ("status", ["0", "1", "2"], [False, False, True]),
        ("status", ["99", "0"], [False, False]),
        ("status", ["100", "0"], [False, True]),
        ("status", ["500", "0"], [True, False]),
        ("finish_reason", ["stop", "length", "error"], [False, False, True]),
        ("grpc_status", ["0", "ok", "14"], [False, False, True]),
        ("error_code", ["", "200", "400", "x"], [False, False, True, True]),
    ],
)
def test_requests_that_failed(name, values, failed):
    assert failed_rows(name, pl.Series(values, dtype=pl.String)).tolist() == failed


def test_sessions_are_numbered_by_their_first_request():
    numbers, said = session_numbers(pl.Series(["b", "a", "b", None, "a", None]), None)
    assert numbers.tolist() == [0, 1, 0, 2, 1, 3]
    assert said == ""
    none, said = session_numbers(pl.Series(["a", "b"]), None)
    assert none is None
    assert "no two requests share one" in said
    one, _ = session_numbers(pl.Series(["a"]), None)
    assert one.tolist() == [0]


def test_chains_of_requests_are_one_session():
    ids = pl.Series(["1", "2", "3", "4", "5"])
    parents = pl.Series([None, "1", "2", None, "9"])
    numbers, _ = session_numbers(ids, parents)
    assert numbers.tolist() == [0, 0, 0, 1, 2]
    long = pl.Series([str(k) for k in range(40)])
    before = pl.Series([None, *(str(k) for k in range(39))])
    assert set(session_numbers(long, before)[0].tolist()) == {0}


def rows_of(name, values):
    class File:
        name = "f"

    return summaries._refuse_shares(File(), name, pl.Series(values))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quantile", [0.1, 0.5, 0.9]), ("p.percentile", [1, 50, 100]), ("share", [0.25, 0.75]),
        ("percent", [40.0, 60.9]), ("pdf", [0.5, 0.49]),
    ],
)  # fmt: skip
def test_rows_that_are_shares_are_no_requests(name, values):
    with pytest.raises(TraceError, match="quantiles or shares"):
        rows_of(name, values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quantile", [0.1, 0.9, 0.5]), ("quantile", [0.1, 0.1, 0.5]), ("share", [0.25, 0.7]),
        ("percent", [40.0, 61.2]), ("quantile", [0.5]), ("share", [-0.5, 1.5]),
        ("quantile", [1, 2, 101]), ("load", [0.5, 0.5]), ("quantile", ["x", "y"]),
    ],
)  # fmt: skip
def test_other_numbers_may_be_of_requests(name, values):
    assert rows_of(name, values) is None


def test_the_fewest_parts_that_explain_a_total():
    """7 of 9 missing tokens are a's and 2 are b's; of readings alike the usual one is taken."""
    a, b, c = (f"part {name}" for name in "abc")
    counts = [(a, np.array([7.0, 7.0])), (b, np.array([2.0, 3.0])), (c, np.zeros(2))]
    explain = usage._explaining
    assert explain(np.array([9.0, 10.0]), counts, frozenset()) == ({a, b}, 1.0)
    assert explain(np.array([7.0, 7.0]), counts, frozenset()) == ({a}, 1.0)
    assert explain(np.array([7.0, 7.0]), counts, frozenset({a, c})) == ({a, c}, 1.0)
    assert explain(np.array([7.0, 8.0]), counts, frozenset({b})) == ({a}, 0.5)
    assert explain(np.array([1.0, 1.0]), counts, frozenset({b})) == ({b}, 0.0)


def test_parts_that_are_often_larger_than_the_whole():
    whole = np.full(100, 10.0)
    part = np.where(np.arange(100) < 100 * usage.LARGER, 11.0, 5.0)
    assert not usage._exceeds(part, whole)
    part[-1] = 11.0
    assert usage._exceeds(part, whole)
    assert not usage._exceeds(np.full(100, 10.0), whole)
