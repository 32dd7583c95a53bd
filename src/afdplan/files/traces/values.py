"""Are the values of a trace's columns lengths, failures, sessions - and which row is not?"""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.errors import TraceError
from afdplan.files.traces.formats import SUCCESS_FLAGS
from afdplan.files.traces.table import Table, shown
from afdplan.model.trace import MAXIMUM_TOKENS

__all__ = [
    "are_counts",
    "as_text",
    "check_lengths",
    "count_total",
    "failed_rows",
    "session_numbers",
    "token_counts",
]


NO_ERROR = ("", "none", "null", "nan", "false", "f", "0", "0.0", "[]", "{}", "no", "n", "-")
BAD_WORDS = (
    "error|errored|failed|failure|fail|timeout|timedout|timed out|cancelled|canceled|abort|"
    "aborted|rejected|exception|disconnect|disconnected|throttled|overloaded|unavailable|expired"
)
WHOLE_STATUS = rf"^({BAD_WORDS})$"
BAD_STATUS = rf"(^|[^a-z])({BAD_WORDS})([^a-z]|$)"
BAD_CODE = r"^(http(/[\d.]+)? ?)?[45](\d\d|xx)\b"
GOOD_STATUS = r"(^|[^a-z])(no|non|not|without|ok|success|succeeded)([^a-z]|$)"
"""Words beside which those of failure say nothing: no error, succeeded after a timeout."""
OPENTELEMETRY_ERROR = 2
STATUSES = frozenset({
    "status", "statuscode", "code", "level", "guidellmoutcome", "httpstatus", "httpstatuscode",
    "httpcode", "responsestatus", "responsecode", "requeststatus", "completionstatus",
})  # fmt: skip
"""Columns of words or numbers, of which few mean failure."""
MARKS = r"([.,'’_ \u00a0\u202f])"
GROUPED = r"^\d{1,3}([.,'’_ \u00a0\u202f]\d{3})+$"
"""Numbers whose thousands are set apart."""
LISTS = re.compile(r"(?i)(ids|tokens|prompt)$")
"""Names of columns that may hold the tokens themselves, whose number is the length."""


def are_counts(column: str, values: pl.Series) -> bool:
    """Return whether a column can hold lengths: whole numbers, or lists, whose sizes count."""
    if values.dtype == pl.List:
        return bool(LISTS.search(column))
    if not (values.dtype.is_numeric() or values.dtype == pl.String):
        return False
    numbers = _numbers(values).drop_nulls()
    return len(numbers) > 0 and bool(
        (numbers.is_finite() & (numbers >= 0) & (numbers == numbers.floor())).all()
    )


def count_total(values: pl.Series) -> float:
    """Return the sum of a column of counts; 0 if it holds anything else."""
    if not (values.dtype.is_numeric() or values.dtype == pl.String):
        return 0.0
    total = _numbers(values).fill_nan(0.0).sum()
    return float(total)


def _numbers(values: pl.Series) -> pl.Series:
    """Return text or numbers as floats; NaN for text that is no number."""
    if values.dtype != pl.String:
        return values.cast(pl.Float64)
    stripped = values.str.strip_chars()
    numbers = _from_text(stripped)[0]
    nothing = values.is_null() | (stripped == "")
    return numbers.fill_null(float("nan")).zip_with(~nothing, pl.Series([None], dtype=pl.Float64))


def _from_text(texts: pl.Series) -> tuple[pl.Series, str]:
    """Return text as numbers, null where it is none, and a text that may be two numbers.

    Thousands may be set apart (1,234 or 1.234 or 1 234) and whole numbers have a decimal comma.
    """
    numbers = texts.cast(pl.Float64, strict=False)
    marked = texts.filter(texts.str.contains(MARKS).fill_null(value=False))
    if not len(marked):
        return numbers, ""
    grouped = marked.filter(marked.str.contains(GROUPED))
    marks = set(grouped.str.extract(MARKS).to_list())
    rest = texts.filter(~texts.str.contains(MARKS))
    if len(marks) == 1 and len(grouped) == len(marked) and not (rest.str.len_chars() > 3).any():
        is_thousands = grouped.str.contains(r"[.,]\d{3}\D|[1-9]\d{0,2}$|[^.,\d]").any()
        if not is_thousands:
            return numbers, str(grouped[0])
        return texts.str.replace_all(MARKS, "").cast(pl.Float64, strict=False), ""
    commas = texts.str.replace(r"^(\d+),(0+)$", "$1.$2").cast(pl.Float64, strict=False)
    return numbers.fill_null(commas), ""


def as_text(values: pl.Series) -> pl.Series:
    """Return any column as text: of a list how long it is, of bytes nothing but that they are."""
    if values.dtype in (pl.List, pl.Array):
        values = values.list.len() if values.dtype == pl.List else values.arr.len()
    elif values.dtype == pl.Binary:
        values = values.bin.size()
    elif values.dtype.is_temporal():
        values = values.to_physical()
    elif values.dtype.is_nested() or values.dtype == pl.Object:
        values = values.is_not_null()
    return values.cast(pl.String)


def token_counts(table: Table, column: str, values: pl.Series) -> tuple[FloatArray, BoolArray]:
    """Return the numbers of a column, and where it is empty.

    Raises
    ------
    TraceError
        If a value is text.
    """
    empty = values.is_null()
    if values.dtype == pl.String:
        numbers = values.cast(pl.Float64, strict=False)
        has_marks = values.str.contains(".", literal=True).any()
        if has_marks or numbers.null_count() > empty.sum():
            stripped = values.str.strip_chars()
            empty = empty | (stripped == "")
            numbers, unclear = _from_text(stripped)
            if unclear:
                raise TraceError(
                    f"{table.name}, column {shown(column)}: {unclear!r} may have three decimals or "
                    "be thousands; write the numbers without signs between their digits"
                )
    elif values.dtype == pl.List and LISTS.search(column):
        numbers = values.list.len().cast(pl.Float64)
    elif values.dtype.is_numeric() or values.dtype == pl.Null:
        numbers = values.cast(pl.Float64)
    else:
        raise TraceError(
            f"{table.name}, column {shown(column)}: a length must be a whole number of tokens, "
            f"the column holds {values.dtype}; name another with --columns"
        )
    text = numbers.is_null() & ~empty
    if text.any():
        row = int(text.arg_max() or 0)
        raise TraceError(
            f"{table.place(row, column)}: a length must be a whole number of tokens, "
            f"got {shown(values[row])}; mend or delete the row, or name another column with "
            "--columns"
        )
    return numbers.fill_null(0.0).to_numpy(), empty.fill_null(value=True).to_numpy()


def check_lengths(
    table: Table, column: str, numbers: FloatArray, rows: IntArray, empty: BoolArray
) -> IntArray:
    """Return `numbers` as integers, or raise naming the first row that is no length.

    Parameters
    ----------
    table, column
        For the message.
    numbers, empty
        Values and where there are none, shape (n,).
    rows
        0-based row in the file of each, shape (n,).
    """
    good = (numbers >= 0) & (numbers <= MAXIMUM_TOKENS) & (numbers == np.floor(numbers)) & ~empty
    if good.all():
        return numbers.astype(np.int64)
    at = int(np.argmin(good))
    value = "nothing" if empty[at] else f"{numbers[at]:.15g}"
    if numbers[at] > MAXIMUM_TOKENS:
        mend = "check whether these are tokens"
    elif np.isfinite(numbers[at]) and numbers[at] != np.floor(numbers[at]):
        mend = "check whether the column is the right one"
    else:
        mend = "mend or delete the row"
    raise TraceError(
        f"{table.place(int(rows[at]), column)}: a length must be a whole number of tokens from 0 "
        f"to {MAXIMUM_TOKENS}, got {value}; {mend}"
    )


def failed_rows(name: str, values: pl.Series) -> BoolArray:
    """Return where the column `name` says that the request failed.

    A column of errors says so by any text; one of success by "false"; one of a status by a
    word that means failure, an HTTP code of 400 and more, or OpenTelemetry's code 2.
    """
    text = as_text(values).fill_null("").str.strip_chars().str.to_lowercase()
    last = re.sub(r"[^a-z]", "", name.lower().removesuffix(".type").rpartition(".")[2])
    if last == "result":  # may be what was answered, which may speak of errors
        return text.str.contains(WHOLE_STATUS).to_numpy()
    is_bad = text.str.contains(BAD_STATUS) & ~text.str.contains(GOOD_STATUS)
    if last in SUCCESS_FLAGS:
        failed = text.is_in(["false", "f", "0", "0.0", "no", "n"])
    elif last in {
        "state", "finishreason", "finishreasons", "stopreason", "outcome",
    }:  # fmt: skip
        failed = is_bad
    elif last in {"grpcstatus", "grpcstatuscode"}:
        failed = ~text.is_in([*NO_ERROR, "ok"])
    elif last in STATUSES:
        codes = text.cast(pl.Float64, strict=False).fill_null(0)
        failed = is_bad | (codes >= 400) | (codes == OPENTELEMETRY_ERROR)
        failed |= text.str.contains(BAD_CODE)
        if ((codes >= 100) & (codes < 400)).any():  # of HTTP: 0 where no answer was sent
            failed |= text.is_in(["0", "0.0"])
    elif last == "errorcode":
        failed = ~text.is_in(NO_ERROR) & (text.cast(pl.Float64, strict=False).fill_null(400) >= 400)
    else:
        failed = ~text.is_in(NO_ERROR)
    return failed.to_numpy()


def session_numbers(values: pl.Series, parents: pl.Series | None) -> tuple[IntArray | None, str]:
    """Return integers that tell sessions apart, and what was noticed.

    A request without an id is a session of its own. With `parents` (the id of the request
    before, in the same conversation) each request gets the id of the first of its chain.
    None if no two requests share a session: then the ids say nothing.
    """
    ids = as_text(values)
    if parents is not None:
        ids = _roots(ids, as_text(parents))
    codes = ids.rank("dense").cast(pl.Int64)
    numbers = codes.fill_null(0).to_numpy().copy()
    lonely = ids.is_null().to_numpy()
    numbers[lonely] = numbers.max() + 1 + np.arange(int(lonely.sum()))
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    if first.size == numbers.size and numbers.size > 1:
        return None, "sessions are left out: no two requests share one"
    order = np.empty(first.size, dtype=np.int64)
    order[np.argsort(first)] = np.arange(first.size)
    return order[inverse], ""


def _roots(ids: pl.Series, parents: pl.Series) -> pl.Series:
    """Return the id of the first request of each one's chain, by pointer doubling."""
    known, where = np.unique(ids.fill_null("").to_numpy().astype(str), return_index=True)
    above = parents.fill_null("-1").to_numpy().astype(str)[where]
    at = np.minimum(np.searchsorted(known, above), known.size - 1)
    parent = np.where(known[at] == above, at, np.arange(known.size))
    for _ in range(int(known.size).bit_length() + 1):
        parent = parent[parent]
    own = np.searchsorted(known, ids.fill_null("").to_numpy().astype(str))
    return pl.Series(known[parent][own].astype(object), dtype=pl.String)
