"""Which files hold sums and percentiles of requests, and where are the requests themselves?"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from afdplan.arrays import BoolArray, FloatArray
from afdplan.errors import TraceError
from afdplan.files.traces.table import Table, shown
from afdplan.files.traces.values import are_counts, as_text

__all__ = [
    "doubted_counts",
    "doubted_growth",
    "doubted_halves",
    "doubted_probes",
    "json_texts",
    "refuse_statistics",
    "summary_advice",
    "summary_rows",
]

_SUMMARIES = (
    (
        {"totalinputtokens", "totaloutputtokens", "meanttftms"},
        "is the summary of a benchmark without its requests; run it again with --save-result "
        "--save-detailed (vLLM) or --output-details (SGLang)",
    ),
    (
        {"avginputtokens", "avgoutputtokens"},
        "is the summary of a benchmark without its requests; evalscope keeps them in "
        "benchmark_data.db beside it: export its table result as CSV",
    ),
    (
        {"servicekind", "experiments"},
        "holds the raw exchanges of genai-perf, which do not say their lengths; use aiperf "
        "profile --export-level records and its profile_export.jsonl",
    ),
    (
        {"nrequests", "ncontexttokenstotal"},
        "holds sums over several requests and no requests; give the log of the requests",
    ),
    (
        {"metric", "p50", "p99"},
        "holds percentiles over requests and no requests; aiperf profile --export-level records "
        "writes them to profile_export.jsonl",
    ),
    (
        {"runinfo", "timings", "requestcounts"},
        "is guidellm's summary without its requests; give the JSON report of the same run",
    ),
    (
        {"inputsequencelength.avg", "outputsequencelength.avg"},
        "holds statistics over requests and no requests; aiperf profile --export-level records "
        "writes them to profile_export.jsonl",
    ),
    (
        {"resultsnumberinputtokensmean"},
        "is LLMPerf's summary without its requests; give the ..._individual_responses.json file "
        "of the same run",
    ),
)
"""Names that a summary has, and what to do: all of one set must be there."""

_STATISTIC = re.compile(
    r"(?i)(count|sum|mean|avg|average|median|min(imum)?|max(imum)?|std(dev)?|stddev|variance|"
    r"(p|q|percentile[ _]?)\d{1,3}(\.\d+)?|\d{1,3}(\.\d+)?(%|th|st|nd|rd)( percentile)?)"
)
_COUNTS = re.compile(
    r"(n|nb|num|number|total)?(of)?(model|api)?requests?(count|s)?|countofrequests"
)
"""Names, without signs, of a column that counts the requests of a row."""
_QUANTILES = frozenset({"quantile", "percentile", "quantiles", "percentiles", "cdf"})
_SHARES = _QUANTILES | {
    "probability", "prob", "share", "fraction", "pdf", "pmf", "density", "percent", "percentage",
}  # fmt: skip
_DAYS = frozenset({"date", "day", "month", "usagedate", "usagedateutc", "dateutc", "dayutc"})
_TINY, _PROBED, _FEW = 32, 2, 0.05
"""Most tokens of a probe's prompt and output, and the share of records from which on it counts."""
_WINDOW = re.compile(r"(?i)(^|\.|_)(time_?)?(window|bucket|interval|period)_?(start|begin|from)")
_PAIRS = 3
"""Records of one output token from which on it is no chance that others have the same prompts."""
_SEVERAL = {
    **dict.fromkeys(
        (
            "count",
            "counts",
            "freq",
            "frequency",
            "weight",
            "weights",
            "occurrences",
            "repeats",
            "requests",
            "calls",
            "ncalls",
            "numcalls",
            "callcount",
            "invocations",
        ),
        "how many requests a row stands for",
    ),
    **dict.fromkeys(
        (
            "n",
            "numchoices",
            "nchoices",
            "bestof",
            "numsamples",
            "numreturnsequences",
            "numgenerations",
            "numcompletions",
        ),
        "that a request has several answers, whose outputs are summed up",
    ),
}
_TOTAL = (
    r"(?i)^(([\w.-]{1,30} )?(grand|sub|overall)?[ _-]?totals?|sums?|averages?|avg|mean|median|"
    r"overall|"
    r"(gesamt|total)?summe|gesamt|mittelwert|durchschnitt|总计|合计|小计|平均)( \(.*\))?:?$"
)
_MANY = 0.45
"""Share of rows with labels of sums from which on these are no labels."""
_GROWING = 10
"""Rows from which on it is no chance that prompts and outputs never fall."""
_SEARCHED = 200_000
"""Rows above which only numbers, not labels, tell a row of sums from requests."""
_FOOT = 3
"""Rows at the end among which a sum without a label is looked for."""
_LABELS = 3
"""Columns, the first ones, among which a row of sums of a long table has its label."""
_LARGEST = 200
"""Rows above which a table is no list of statistics."""


def summary_advice(columns: Sequence[str]) -> str:
    """Return what a file with such columns is and how to get its requests, "" if it is unknown."""
    plain = {re.sub(r"[^a-z0-9.]", "", column.lower()) for column in columns}
    return next((advice for names, advice in _SUMMARIES if names <= plain), "")


def json_texts(table: Table) -> str:
    """Return the first column of texts that are JSON objects, "" if there is none."""
    for column in table.columns:
        with contextlib.suppress(TraceError):  # what cannot be read is told otherwise
            texts = as_text(table.read([column])[0]).drop_nulls()
            if len(texts) and texts.str.contains(r"^\s*\{.*token").all():
                return column
    return ""


def refuse_statistics(table: Table, rows: int) -> None:
    """Raise if the rows of a table are statistics or sums: they are no requests.

    Parameters
    ----------
    table
        The table that would be read as a trace.
    rows
        How many rows it has.

    Raises
    ------
    TraceError
        If every row is named min, mean, p99, 50% and the like, or a column counts the requests
        of each row.
    """
    for column in table.columns[: table.own] if table.own else table.columns:
        name = re.sub(r"[^a-z]", "", column.lower().rpartition(".")[2])
        if _COUNTS.fullmatch(name) and name not in ("request", "requests"):
            counts = table.read([column])[0]
            most = _most(column, counts)
            if most > 1 and not counts.null_count():
                raise TraceError(
                    f"{table.name}: its rows are sums over several requests, up to {most:g} by "
                    f"column {shown(column)}; give the records of the requests themselves"
                )
    if rows > _LARGEST:
        return
    for column, values in zip(table.columns, table.read(table.columns), strict=True):
        _refuse_shares(table, column, values)
        if values.dtype != pl.String or values.null_count():
            continue
        texts = [text.strip() for text in values.to_list()]
        if len(set(texts)) == rows and all(map(_STATISTIC.fullmatch, texts)):
            raise TraceError(
                f"{table.name}: holds statistics, no requests: column {shown(column)} names its "
                f"rows {', '.join(texts[:3])}; give the records of the requests themselves"
            )


def _refuse_shares(table: Table, column: str, values: pl.Series) -> None:
    """Raise if a column says that rows are quantiles, or shares of a distribution."""
    name = re.sub(r"[^a-z]", "", column.lower().rpartition(".")[2])
    if name not in _SHARES or values.dtype == pl.List:
        return
    shares = as_text(values).cast(pl.Float64, strict=False).fill_null(-1.0).to_numpy()
    if shares.size < 2 or not ((shares >= 0) & (shares <= 100)).all():
        return
    is_whole = any(abs(shares.sum() - whole) < 0.011 * whole for whole in (1, 100))
    if is_whole or (name in _QUANTILES and (np.diff(shares) > 0).all()):
        raise TraceError(
            f"{table.name}: column {shown(column)} says that rows are quantiles or shares, no "
            "requests; give the records of the requests themselves"
        )


def doubted_counts(table: Table) -> list[str]:
    """Return what to say of columns by which a row may stand for several requests or answers."""
    said = []
    for column in table.columns[: table.own] if table.own else table.columns:
        if re.search("(?i)date|day|month", column) and _is_by_day(column, table.read([column])[0]):
            said.append(
                f"each row has a day or month of its own (column {shown(column)}): are these sums "
                "over all requests of it?"
            )
        if _WINDOW.search(column):
            said.append(
                f"rows are windows of time (column {shown(column)}): are these sums over several "
                "requests?"
            )
        what = _SEVERAL.get(re.sub(r"[^a-z]", "", column.lower().rpartition(".")[2]), "")
        counts = table.read([column])[0] if what else None
        if counts is None or (most := _most(column, counts)) <= 1:
            continue
        numbers = counts.cast(pl.Float64, strict=False).drop_nulls()
        if len(numbers) < 2 or not (numbers.diff().drop_nulls() == 1).all():  # no index of rows
            said.append(f"column {shown(column)}, up to {most:g}, may say {what}; each row is one")
    return said


def doubted_growth(*lengths: FloatArray) -> list[str]:
    """Return what to say of prompts and outputs that both grow from row to row, as counters do."""
    grow = [
        of.size >= _GROWING and (np.diff(of) >= 0).all() and (np.diff(of) > 0).mean() > 0.5
        for of in lengths
    ]
    if not all(grow):
        return []
    return ["prompts and outputs both grow from row to row: are these running sums of a counter?"]


def doubted_halves(prompt: FloatArray, decode: FloatArray) -> list[str]:
    """Return what to say of records of which one half, one token each, has the other's prompts.

    So write engines that prefill apart from those that decode, where no id ties the two records.
    """
    is_first = decode == 1
    first, rest = np.sort(prompt[is_first]), np.sort(prompt[~is_first])
    if first.size < _PAIRS or not np.array_equal(first, rest):
        return []
    return [
        f"{first.size:,} of {prompt.size:,} records have one output token and the same prompts as "
        "the others: if they are the prefill of the same requests, leave them out"
    ]


def doubted_probes(prompt: FloatArray, decode: FloatArray) -> list[str]:
    """Return what to say of many records of one tiny size, as probes of a server's health have."""
    tiny = (prompt <= _TINY) & (decode <= _PROBED)
    sizes, counts = np.unique(np.stack([prompt[tiny], decode[tiny]]), axis=1, return_counts=True)
    if not counts.size or tiny.all():
        return []
    at = int(counts.argmax())
    if counts[at] < max(_PAIRS, _FEW * prompt.size):
        return []
    return [
        f"{counts[at]:,} of {prompt.size:,} records have prompts of {sizes[0, at]:g} and outputs "
        f"of {sizes[1, at]:g} tokens: if they are probes of a server's health, leave them out"
    ]


def _is_by_day(column: str, values: pl.Series) -> bool:
    """Return whether each row has a day or month of its own, as sums over all requests have."""
    name = re.sub(r"[^a-z]", "", column.lower().rpartition(".")[2])
    if name not in _DAYS or len(values) < _FOOT:
        return False
    days = values.cast(pl.String) if values.dtype.is_temporal() else as_text(values)
    written = days.str.contains(r"^\d{4}-\d{2}(-\d{2}([T ]00:00:00(\.0+)?(Z|\+00:00)?)?)?$")
    return bool(written.fill_null(value=False).all()) and days.n_unique() == len(days)


def _most(column: str, values: pl.Series) -> float:
    """Return the largest of a column of counts; 0 if it has none."""
    if not are_counts(column, values) or values.dtype == pl.List:
        return 0.0
    return max(values.cast(pl.Float64, strict=False).drop_nulls().to_list(), default=0.0)


def summary_rows(
    table: Table,
    read: Sequence[str],
    series: Mapping[str, pl.Series],
    prompt: FloatArray,
    decode: FloatArray,
) -> BoolArray:
    """Return which rows sum up the others, as spreadsheets and dashboards add at the end.

    Parameters
    ----------
    table
        The table.
    read, series
        Columns that are read already, and their values.
    prompt, decode
        Lengths, shape (n,).

    Notes
    -----
    A row is one if its label says so, or if it is among the last three, both its lengths are the
    sums of the three or more rows above, or it follows such a row.
    """
    found = np.zeros(prompt.size, dtype=np.bool_)
    for at in range(max(prompt.size - _FOOT, 3), prompt.size):
        summed = [of[:at] for of in (prompt, decode)]
        if all((of > 0).sum() >= _FOOT for of in summed) and (
            summed[0].sum() == prompt[at] and summed[1].sum() == decode[at]
        ):
            found[at:] = True
            break
    if prompt.size > _SEARCHED or table.level:
        return found
    first = table.columns[:_LABELS] if prompt.size > _LARGEST else table.columns
    names = dict.fromkeys((*first, *read))
    more = [name for name in names if name not in series]
    values = {**series, **dict(zip(more, table.read(more) if more else [], strict=True))}
    for name in names:
        texts = values[name]
        if texts.dtype == pl.String:
            cells = texts.str.strip_chars()
            which = cells.str.contains(_TOTAL).fill_null(value=False).to_numpy()
            # What many rows say is a name of something, not the label of a sum.
            if which.sum() < _MANY * which.size:
                found |= which
            found[which.size - _tail_of_statistics(cells.to_list()) :] = True
    return found


def _tail_of_statistics(cells: Sequence[str | None]) -> int:
    """Return how many cells at the end name a statistic, each another one and found nowhere else.

    Examples
    --------
    >>> _tail_of_statistics(["1", "2", "max", "min"]), _tail_of_statistics(["max", "1", "max"])
    (2, 0)
    """
    tail = list(itertools.takewhile(lambda c: c and _STATISTIC.fullmatch(c), reversed(cells)))
    rest = cells[: len(cells) - len(tail)]
    return len(tail) if len(set(tail)) == len(tail) and not set(tail) & set(rest) and rest else 0
