"""Which requests does a trace file hold, whatever its format?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from afdplan.arrays import BoolArray, IntArray
from afdplan.errors import TraceError
from afdplan.files.document import Readable, Source, open_source
from afdplan.files.traces.columns import Columns, find_columns, parse_columns
from afdplan.files.traces.json_table import json_tables
from afdplan.files.traces.lengths import elsewhere
from afdplan.files.traces.prefixes import cached_tokens
from afdplan.files.traces.requests import kept_requests
from afdplan.files.traces.runs import chosen_run, doubted_totals, run_numbers
from afdplan.files.traces.summaries import (
    doubted_counts,
    doubted_growth,
    doubted_halves,
    doubted_probes,
    refuse_statistics,
    summary_rows,
)
from afdplan.files.traces.table import Table, csv_table, parquet_tables, shown
from afdplan.files.traces.times import Arrivals, arrival_seconds
from afdplan.files.traces.usage import whole_lengths
from afdplan.files.traces.values import as_text, check_lengths, session_numbers, token_counts
from afdplan.model.trace import Trace

__all__ = ["read_trace"]

NO_TOKENS = r"^(char|character|word|byte|letter|image|request|(milli)?second)s?$"
"""Units of lengths that are no tokens."""


def read_trace(
    path: Readable,
    *,
    format: str | None = None,
    columns: str | Mapping[str, str] | None = None,
    time_format: str | None = None,
    prefixes: bool = False,
) -> Trace:
    r"""Return the requests of a trace file in the order of their arrival.

    Parameters
    ----------
    path
        CSV, JSON lines, JSON or Parquet, plain or packed by gzip or zstd; a pipe; ``-`` for
        standard input. What it is, is judged by its content, never by its name.
    format
        Name of a format (docs/traces.md), or None to recognise it by its columns.
    columns
        ``prompt=NAME,decode=NAME[,arrival=NAME][,session=NAME][,unit=s|ms|us|ns|iso][,run=N]``
        or the same as a mapping; what is not said is recognised. Dotted names reach into nested
        objects and lists of them; ``arrival=none`` reads no arrivals, ``run=2`` the second run
        of a file of several.
    time_format
        How arrivals are written, by the letters of ``strptime``: ``%d/%m/%Y %H:%M:%S``.
    prefixes
        Whether to read what the trace records of cached prefixes.

    Returns
    -------
    Trace
        Lengths [tokens], arrivals in seconds after the first (None if unknown), sessions; with
        the format, the unit found, failed requests dropped and notes on every decision.

    Raises
    ------
    TraceError
        One line: what, where (file, row, column), which rule, what to do.

    Notes
    -----
    Only the columns needed are read; several million rows per second from CSV and Parquet.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "trace.csv"
    >>> _ = file.write_text("time_ms,ctx,output_tokens\n0,100,7\n1500,20,0\n2500,30,9\n")
    >>> trace = read_trace(file, columns="prompt=ctx")
    >>> trace.prompt_tokens, trace.arrival_times, trace.dropped_requests
    (array([100,  30]), array([0. , 2.5]), 1)
    """
    given = parse_columns(columns)
    with open_source(path, "a trace", TraceError) as source:
        table, found = find_columns(_tables(source), format, given)
        return _trace(table, found, time_format, given.get("run"), prefixes)


def _tables(source: Source) -> list[Table]:
    if source.kind == "parquet":
        return parquet_tables(source)
    return json_tables(source) if source.kind == "json" else [csv_table(source)]


def _trace(
    table: Table, columns: Columns, time_format: str | None, run: str | None, prefixes: bool
) -> Trace:
    """Return the trace that `columns` of `table` hold."""
    series = dict(zip(columns.needed, table.read(columns.needed), strict=True))
    if len(series[columns.prompt]) == 0:
        raise TraceError(f"{table.name}: has column names but no rows; a trace needs requests")
    refuse_statistics(table, len(series[columns.prompt]))
    prompt, no_prompt = token_counts(table, columns.prompt, series[columns.prompt])
    decode, no_decode = token_counts(table, columns.decode, series[columns.decode])
    is_sum = summary_rows(table, columns.needed, series, prompt, decode)
    prompt, decode = (np.where(is_sum, 0.0, of) for of in (prompt, decode))
    whole = whole_lengths(
        table,
        series,
        columns.parts,
        columns.totals,
        prompt,
        decode,
        is_defined=columns.format not in ("generic", "columns"),
        known=columns.cached,
    )
    prompt, decode = (np.where(is_sum, 0.0, of) for of in (whole.prompt, whole.decode))
    runs = run_numbers(series.get(columns.run), prompt.size)
    wanted = chosen_run(table, runs, run)
    kept = kept_requests(
        columns, series, prompt, decode, no_prompt, no_decode & (decode == 0), is_sum
    )
    every = np.arange(prompt.size)
    check_lengths(table, columns.decode, decode, every, np.zeros_like(no_decode))
    check_lengths(table, columns.prompt, prompt, every, no_prompt & kept.rows)
    doubts = [
        *table.doubts,
        *columns.doubts,
        *whole.doubts,
        *kept.doubts,
        *elsewhere(table, (columns.prompt, columns.decode), no_prompt & no_decode & ~is_sum),
        *doubted_growth(prompt[kept.rows], decode[kept.rows]),
        *doubted_halves(prompt[kept.rows], decode[kept.rows]),
        *doubted_probes(prompt[kept.rows], decode[kept.rows]),
        *doubted_counts(table),
        *_models(columns, series, kept.rows & wanted),
        *doubted_totals(table, runs, kept.rows, {"prompt": prompt, "decode": decode}),
    ]
    rows = np.flatnonzero(kept.rows & wanted)
    if rows.size == 0:
        raise TraceError(
            f"{table.name}: none of {prompt.size} requests has an output (column "
            f"{shown(columns.decode)}; {'; '.join(kept.notes)}); name another with --columns "
            "decode=NAME"
        )
    _check_measure(table, columns, series, rows)
    notes = [*table.notes, *kept.notes, *whole.notes, *_notes(table, columns, series)]
    arrivals = Arrivals(seconds=None, unit="")
    several = np.unique(runs[rows])
    if several.size > 1:
        clocks = ", their arrivals left out" if columns.arrival else ""
        doubts.append(
            f"{several.size} runs of a benchmark are taken together{clocks}, though each has its "
            f"own load: read one with --columns run={several[0]} to run={several[-1]}"
        )
    elif columns.arrival:
        arrivals = arrival_seconds(
            table, columns, series[columns.arrival].gather(rows), rows, time_format
        )
        notes += arrivals.notes
    sessions = None
    if columns.session:
        parents = series[columns.parent].gather(rows) if columns.parent else None
        sessions, note = session_numbers(series[columns.session].gather(rows), parents)
        notes += [note] if note else [f"sessions by column {shown(columns.session)}"]
    order: IntArray = rows
    times = arrivals.seconds
    if times is not None and (np.diff(times) < 0).any():
        by_time = np.argsort(times, kind="stable")
        order, times = rows[by_time], times[by_time]
        sessions = None if sessions is None else sessions[by_time]
        notes.append("requests were not in the order of arrival and have been sorted")
    cached = blocks = None
    if prefixes:
        if not columns.cached:
            raise TraceError(
                f"{table.name}: records no cached prefixes (block ids or cached tokens); give "
                "--prefix-cache session, or none"
            )
        (held,) = table.read(columns.cached[:1])
        lengths = prompt[order].astype(np.int64)
        cached, blocks = cached_tokens(table, columns.cached[0], held.gather(order), lengths)
    return Trace(
        cached_tokens=cached,
        blocks=blocks,
        prompt_tokens=prompt[order].astype(np.int64),
        decode_tokens=decode[order].astype(np.int64),
        arrival_times=times,
        session_ids=sessions,
        clock=arrivals.clock,
        source=table.name,
        format=columns.format,
        time_unit_in_file=arrivals.unit,
        dropped_requests=kept.unanswered,
        notes=tuple(notes),
        doubts=tuple(doubts),
    )


def _models(columns: Columns, series: Mapping[str, pl.Series], rows: BoolArray) -> list[str]:
    """Return what to say of requests to several models, nothing if there is one."""
    if not columns.model:
        return []
    names = as_text(series[columns.model].filter(rows)).drop_nulls()
    counts = names.value_counts(sort=True).rows()
    if len(counts) < 2:
        return []
    shares = ", ".join(f"{name} {100 * n / len(names):.0f} %" for name, n in counts[:3])
    more = f" and {len(counts) - 3} more" if len(counts) > 3 else ""
    return [
        f"requests of {len(counts)} models are taken together ({shares}{more}, column "
        f"{shown(columns.model)}): keep those of the model that is planned"
    ]


def _check_measure(
    table: Table, columns: Columns, series: Mapping[str, pl.Series], rows: IntArray
) -> None:
    """Raise if lengths are not counted in tokens."""
    if columns.measure:
        units = as_text(series[columns.measure].gather(rows)).drop_nulls().str.to_lowercase()
        odd = units.filter(units.str.contains(NO_TOKENS))
        if len(odd):
            raise TraceError(
                f"{table.name}: {len(odd)} of {rows.size} lengths are in {odd[0]}, not in tokens "
                f"(column {shown(columns.measure)}); leave those records out"
            )


def _notes(table: Table, columns: Columns, series: Mapping[str, pl.Series]) -> list[str]:
    notes = []
    if table.level:
        notes.append(f"requests are the objects of the nested lists {shown(table.level, 80)}")
    for name in (columns.prompt, columns.decode):
        if series[name].dtype == pl.List:
            notes.append(f"lengths are the sizes of the lists in column {shown(name)}")
    if columns.cached:
        notes.append(
            f"prompts include cached prefixes (column {shown(columns.cached[0], 80)}): right for "
            "the KV cache that attention reads, but prefill computed less"
        )
    return notes
