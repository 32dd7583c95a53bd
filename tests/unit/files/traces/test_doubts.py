"""What is doubted of lengths that look like sums, probes or halves of the same requests."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.counters import Snapshot
from afdplan.files.measurements.engines import _copies, _gives_one_token, _same, chosen_engines
from afdplan.files.traces import summaries
from afdplan.files.traces.summaries import (
    doubted_growth,
    doubted_halves,
    doubted_probes,
    summary_advice,
)


def test_lengths_that_only_grow_may_be_counters():
    """Ten rows at least, more than half of the steps upwards, none down, in both columns."""
    up = np.arange(10.0)
    assert len(doubted_growth(up, up)) == 1
    assert doubted_growth(up[:9], up[:9]) == []
    half = np.repeat(np.arange(6.0), 2)[:11]  # five of ten steps rise
    assert doubted_growth(half, np.arange(11.0)) == []
    more = np.array([0.0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6])
    assert len(doubted_growth(more, np.arange(11.0))) == 1
    down = up.copy()
    down[5] = 0
    assert doubted_growth(up, down) == []


def test_records_of_one_token_with_the_prompts_of_the_others():
    prompt, decode = np.array([3.0, 1, 2, 1, 2, 3]), np.array([1.0, 1, 1, 5, 6, 7])
    (said,) = doubted_halves(prompt, decode)
    assert said.startswith("3 of 6 records have one output token")
    assert doubted_halves(prompt, np.array([1.0, 1, 1, 5, 6, 1])) == []
    assert doubted_halves(np.array([1.0, 2, 1, 2]), np.array([1.0, 1, 5, 6])) == []


def test_probes_of_a_server():
    """Records of one size, of at most 32 and 2 tokens: three of them, and a twentieth."""

    def said(probes, others, size=(32.0, 2.0)):
        prompt = np.array([size[0]] * probes + [500.0] * others)
        decode = np.array([size[1]] * probes + [90.0] * others)
        return doubted_probes(prompt, decode)

    assert said(3, 57)[0].startswith("3 of 60 records have prompts of 32 and outputs of 2 tokens")
    assert said(3, 58) == []
    assert said(2, 10) == []
    assert said(5, 10, (33.0, 2.0)) == said(5, 10, (32.0, 3.0)) == []
    assert said(5, 0) == []
    mixed = doubted_probes(np.array([1.0, 1, 2, 2, 2, 99]), np.array([1.0, 1, 1, 1, 1, 99]))
    assert mixed[0].startswith("3 of 6 records have prompts of 2 and outputs of 1 tokens")


@pytest.mark.parametrize(
    ("cells", "tail"),
    [
        (["1", "mean", "max"], 2), (["mean", "max"], 0), (["1", "max", "max"], 0),
        (["max", "1", "max"], 0), (["1", "max", "2"], 0), (["1", None], 0), (["1", "p99.9"], 1),
        (["1", "50%", "75%"], 2), (["1", "99th percentile"], 1), (["1", "p9999"], 0),
    ],
)  # fmt: skip
def test_statistics_at_the_end_of_a_column(cells, tail):
    assert summaries._tail_of_statistics(cells) == tail


def test_columns_of_days_and_of_counts():
    days = pl.Series(["2026-01-01", "2026-01-02", "2026-01-03"])
    assert summaries._is_by_day("date", days)
    assert summaries._is_by_day("usage.Date_UTC", days.str.to_date())
    assert not summaries._is_by_day("when", days)
    assert not summaries._is_by_day("date", days[:2])
    assert not summaries._is_by_day("date", pl.Series(["2026-01-01"] * 3))
    assert summaries._is_by_day("month", pl.Series(["2026-01", "2026-02", "2026-03"]))
    assert not summaries._is_by_day("date", pl.Series(["2026-01-01 09:00", "2026-01-02", "x"]))
    assert summaries._most("count", pl.Series([1, 7, 3])) == 7
    assert summaries._most("count", pl.Series([], dtype=pl.Int64)) == 0


def test_known_summaries_are_named():
    assert "percentiles over requests" in summary_advice(["Metric", "p50", "P99", "more"])
    assert summary_advice(["Metric", "p50"]) == ""


def counts(*at_edges, total=None):
    """Return a histogram with cumulative counts at the edges 1, 2, 4 and all."""
    found = dict(zip(("1.0", "2.0", "4.0", "inf"), map(float, at_edges), strict=True))
    return found if total is None else found | {"sum": float(total)}


def test_engines_that_give_one_token_each():
    assert _gives_one_token(counts(5, 5, 5, 5, total=5))
    assert not _gives_one_token(counts(4, 5, 5, 5, total=6))
    assert _gives_one_token(counts(5, 5, 5, 5))
    assert not _gives_one_token(counts(4, 5, 5, 5))
    assert not _gives_one_token(counts(0, 0, 0, 0, total=0))


def test_engines_that_served_the_same_prompts():
    """A hundred requests at least; apart by less than 0.3 of the root of their number."""
    one = (counts(50, 70, 90, 100), {})
    assert _same(one, one)
    # Two requests in another bucket: a distance of 2, and 0.3 x 10 is 3; two more are too far.
    assert _same(one, (counts(49, 70, 90, 100), {}))
    assert not _same(one, (counts(48, 70, 90, 100), {}))
    few = (counts(50, 70, 89, 99), {})
    assert not _same(few, few)
    lone = (counts(0, 0, 100, 100), {})
    assert not _same(lone, lone)


def test_engines_that_two_servers_scraped():
    spread, other = counts(1, 2, 3, 9), counts(2, 3, 4, 10)
    apart = {(("pod", "a"),): (spread, spread), (("pod", "b"),): (other, other)}
    assert _copies(apart) == set()
    twice = {(("job", "x"),): (spread, spread), (("job", "y"),): (spread, spread)}
    assert len(_copies(twice)) == 1
    replica = {
        (("pod", "a"), ("prometheus_replica", "0")): (spread, spread),
        (("pod", "a"), ("prometheus_replica", "1")): (other, other),
    }
    # The one with more requests counts.
    assert _copies(replica) == {(("pod", "a"), ("prometheus_replica", "0"))}
    alike = counts(0, 0, 9, 9)
    bench = {(("job", "x"),): (alike, alike), (("job", "y"),): (alike, alike)}
    assert _copies(bench) == set()


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        ('job="a"', ["a"]), ('job!="a"', ["b", "ab"]), ('job=~"a"', ["a"]),
        ('job=~"a.*"', ["a", "ab"]), ('job!~"a.*"', ["b"]), ('job!~"a"', ["b", "ab"]),
        ('job=~"a.*", job!="a"', ["ab"]), ('model_name="m"', ["a", "b", "ab"]),
    ],
)  # fmt: skip
def test_engines_that_a_selector_matches(selector, kept):
    series = {("x", "m", (("job", job),)): {"inf": 1.0} for job in ("a", "b", "ab")}
    found = chosen_engines(Snapshot(source="s", series=series), selector)
    assert [dict(engine)["job"] for _, _, engine in found.series] == kept


@pytest.mark.parametrize("selector", ["job=a", 'job="a" "b"', 'job=~"("', 'job="z"'])
def test_selectors_that_match_nothing_are_refused(selector):
    series = {("x", "m", (("job", "a"),)): {"inf": 1.0}}
    with pytest.raises(InvalidInputError, match=r"selector|no engine matches"):
        chosen_engines(Snapshot(source="s", series=series), selector)
