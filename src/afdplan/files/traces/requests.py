"""Which records of a trace are requests that an engine decoded, and what were the others?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from afdplan.arrays import BoolArray, FloatArray
from afdplan.files.traces.columns import Columns
from afdplan.files.traces.formats import OTHER_KINDS
from afdplan.files.traces.table import shown
from afdplan.files.traces.values import as_text, failed_rows

__all__ = ["Kept", "kept_requests"]


TRUE = ("true", "1", "yes", "hit")
WARM = ("true", "yes", "warmup", "warming")
SAME_USAGE = 0.25
"""Share by which the output of a call may differ from that of the calls inside, yet be theirs."""


PIECES = 0.5
"""Share of repeated records above which they may be pieces of few requests."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """Which records are requests, and in words what became of the others.

    Attributes
    ----------
    rows
        Where a request is, shape (n,).
    unanswered
        How many requests failed, gave no output or were answered from a cache.
    notes
        One sentence per reason.
    doubts
        What was left out, or kept, by no definition.
    """

    rows: BoolArray
    unanswered: int
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


def kept_requests(
    columns: Columns,
    series: Mapping[str, pl.Series],
    prompt: FloatArray,
    decode: FloatArray,
    has_no_prompt: BoolArray,
    is_empty: BoolArray,
    is_sum: BoolArray,
) -> Kept:
    """Return which records are requests to count: each that an engine decoded, once.

    Parameters
    ----------
    columns, series
        What the columns mean, and their values.
    prompt, decode
        Lengths [tokens]; 0 where there is none, shape (n,).
    has_no_prompt, is_empty
        Where a record says nothing of a prompt, and of an output.
    is_sum
        Where a row sums up others.
    """
    rows = np.ones(prompt.size, dtype=np.bool_)
    notes: list[str] = []

    def leave_out(which: BoolArray, what: str, column: str = "") -> int:
        which = which & rows
        count = int(which.sum())
        rows[which] = False
        if count:
            told = f" (column {shown(column)})" if column else ""
            notes.append(f"{count} of {prompt.size} records left out: {what}{told}")
        return count

    leave_out(is_sum, "they sum up the others")
    doubts, notes = notes, []
    is_known_kind = np.zeros_like(rows)
    if columns.kind:
        kinds = as_text(series[columns.kind]).fill_null("").str.to_lowercase()
        kinds = kinds.str.replace_all("[^a-z]", "")
        is_known_kind = (kinds != "").to_numpy()
        what = "other operations than decoding, or sums of several calls"
        leave_out(kinds.is_in(sorted(OTHER_KINDS)).to_numpy(), what, columns.kind)
    if columns.span and columns.span_parent:
        around = _containers(columns, series, rows & ~is_empty, is_known_kind, decode)
        leave_out(around, "they repeat the tokens of the calls inside them", columns.span_parent)
    if columns.are_spans:
        bare = is_empty & (prompt == 0) & ~_any_failed(columns, series, rows.size)
        leave_out(bare, "spans without token counts are no requests")
    dropped = 0
    for name in columns.failed:
        dropped += leave_out(failed_rows(name, series[name]), "failed requests", name)
    if columns.answered:
        what = "answered from a cache of answers, no engine decoded them"
        dropped += leave_out(_hits(columns, series), what, columns.answered)
    if columns.warm:
        phases = as_text(series[columns.warm]).fill_null("").str.to_lowercase()
        is_warm = phases.str.replace_all("[^a-z]", "").is_in(WARM).to_numpy()
        leave_out(is_warm, "a benchmark's requests before it measured", columns.warm)
    if columns.request:
        parts = _unfinished(columns, series, rows, prompt, decode)
        doubts += _counted(int(parts.sum()), prompt.size, columns.request)
        rows &= ~parts
    dropped += leave_out(is_empty | (decode == 0), "no output", columns.decode)
    if series[columns.prompt].dtype == pl.List:
        leave_out(has_no_prompt, "no list of prompt tokens, so no length", columns.prompt)
    if columns.request:
        again = _repeated(columns, series, rows, prompt, decode)
        leave_out(again, "the same request again, with the same lengths", columns.request)
        if again.sum() > PIECES * prompt.size and columns.arrival:
            times = as_text(series[columns.arrival])
            if times.filter(again).n_unique() > times.filter(rows).n_unique():
                doubts.append(
                    f"{again.sum()} records were left out as repeats though their times differ: if "
                    "each counts a piece of an output, add the pieces of a request up first"
                )
    return Kept(rows=rows, unanswered=dropped, notes=tuple(notes), doubts=tuple(doubts))


def _hits(columns: Columns, series: Mapping[str, pl.Series]) -> BoolArray:
    """Return where a cache of answers replied; plain numbers may be counts of cached tokens."""
    said = as_text(series[columns.answered]).fill_null("").str.to_lowercase()
    numbers = set(said.unique().to_list()) - {"0", "1", "0.0", "1.0", "", "true", "false"}
    is_count = series[columns.answered].dtype.is_numeric() or any(map(str.isdecimal, numbers))
    if is_count and columns.answered.lower().endswith("cached"):
        return np.zeros(len(said), dtype=np.bool_)
    return said.is_in(TRUE).to_numpy()


def _any_failed(columns: Columns, series: Mapping[str, pl.Series], count: int) -> BoolArray:
    failed = np.zeros(count, dtype=np.bool_)
    for name in columns.failed:
        failed |= failed_rows(name, series[name])
    return failed


def _keys(columns: Columns, values: pl.Series, series: Mapping[str, pl.Series]) -> pl.Series:
    """Return ids of spans, which are unique only within their trace, as text; null stays null."""
    ids = as_text(values)
    if not columns.trace:
        return ids
    return ids + "/" + as_text(series[columns.trace]).fill_null("")


def _containers(
    columns: Columns,
    series: Mapping[str, pl.Series],
    has_tokens: BoolArray,
    is_known_kind: BoolArray,
    decode: FloatArray,
) -> BoolArray:
    """Return which spans sum up the tokens of spans inside them, at whatever depth.

    A span that names itself a call of a model counts as such a sum only if its output is about
    that of the calls inside: a call may also cause others of its own.
    """
    spans = _keys(columns, series[columns.span], series).fill_null("")
    parents = _keys(columns, series[columns.span_parent], series).fill_null("\0")
    known, first = np.unique(spans.to_numpy().astype(str), return_index=True)
    above = parents.to_numpy().astype(str)
    at = np.minimum(np.searchsorted(known, above), known.size - 1)
    parent = np.where(known[at] == above, first[at], -1)
    parent[parent == np.arange(parent.size)] = -1
    inside = np.zeros(decode.size)
    # Each span hands its tokens to the nearest one around it that has some of its own.
    carriers = np.flatnonzero(has_tokens)
    holder = parent[carriers]
    for _ in range(64):
        climbing = (holder >= 0) & ~has_tokens[holder]
        if not climbing.any():
            break
        holder[climbing] = parent[holder[climbing]]
    found = (holder >= 0) & has_tokens[holder]
    np.add.at(inside, holder[found], decode[carriers[found]])
    encloses = np.zeros_like(has_tokens)
    encloses[holder[found]] = True
    alike = np.abs(inside - decode) <= SAME_USAGE * np.maximum(inside, decode)
    return encloses & (alike | ~is_known_kind)


def _counted(count: int, of: int, column: str) -> list[str]:
    """Return the sentence for records of a request before its last, none if there are none."""
    return [
        f"{count} of {of} records left out: earlier counts of the same requests, whose outputs "
        f"still grew (column {shown(column)})"
    ] * (count > 0)


def _unfinished(
    columns: Columns,
    series: Mapping[str, pl.Series],
    rows: BoolArray,
    prompt: FloatArray,
    decode: FloatArray,
) -> BoolArray:
    """Return which records count a request while it still runs: a later one has more output.

    That is so if, of every request with several records, prompts are the same and outputs never
    fall: then they are the running counts of a stream. Records without an output may be anywhere.
    """
    ids = _keys(columns, series[columns.request], series)
    frame = pl.DataFrame({"id": ids, "prompt": prompt, "decode": decode}).with_row_index("row")
    frame = frame.filter(pl.Series(rows) & ids.is_not_null())
    frame = frame.filter(pl.len().over("id") > 1)
    known = pl.col("prompt").filter(pl.col("prompt") > 0)
    given = pl.col("decode").filter(pl.col("decode") > 0)
    of = frame.group_by("id", maintain_order=True).agg(
        (
            (known.n_unique() <= 1)
            & (given.diff().min() >= 0).fill_null(value=True)
            & (given.len() > 0)
        ).alias("is_stream")
    )
    found = np.zeros_like(rows)
    if len(of) and of["is_stream"].all():
        before = frame.filter(pl.col("decode") < pl.col("decode").max().over("id"))
        found[before["row"].to_numpy()] = True
    return found


def _repeated(
    columns: Columns,
    series: Mapping[str, pl.Series],
    rows: BoolArray,
    prompt: FloatArray,
    decode: FloatArray,
) -> BoolArray:
    """Return which requests an earlier row already holds, with the same id and lengths.

    Ids that are only numbers may start again in each run: then arrivals must be the same too.
    """
    ids = _keys(columns, series[columns.request], series)
    frame = pl.DataFrame({"id": ids, "prompt": prompt, "decode": decode, "kept": rows})
    if columns.arrival:
        numbered = as_text(series[columns.request]).str.contains(r"^[0-9.]+$").fill_null(value=True)
        times = as_text(series[columns.arrival])
        never = pl.Series([""], dtype=pl.String)
        frame = frame.with_columns(times.zip_with(numbered, never).alias("time"))
    elif bool(as_text(series[columns.request]).str.contains(r"^[0-9.]+$").any()):
        return np.zeros_like(rows)
    again = ~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return (again & frame["id"].is_not_null()).to_numpy() & rows
