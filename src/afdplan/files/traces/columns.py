"""Which column of a file means what, by a known format's names or by the user's?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from afdplan.errors import TraceError
from afdplan.files.traces.column_names import (
    listed,
    named_column,
    not_there,
    nothing_fits,
)
from afdplan.files.traces.formats import FAILURE_SIGNS, FORMATS, UNITS, TraceFormat
from afdplan.files.traces.lengths import (
    Part,
    index_of,
    length_column,
    normal,
    parts_of,
    pick,
    rivals,
    totals_of,
)
from afdplan.files.traces.records import RUN
from afdplan.files.traces.table import Table, shown
from afdplan.files.traces.values import count_total, failed_rows

__all__ = ["Columns", "find_columns", "parse_columns"]

NO_COLUMN = "none"
"""What stands for a column that the user does not want: ``arrival=none``."""
NO_NAMES = ("unit", "run")
"""What the user says beside names of columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of a table means what; "" where there is none.

    Attributes
    ----------
    format
        Name of the format.
    prompt, decode, arrival, session, parent
        Column names as the file spells them.
    kind, request, span, span_parent, trace, answered, warm, model
        Likewise, of the columns by which records that are no requests of their own are told.
    failed, cached
        Several such names.
    parts, totals
        What counts parts of the lengths, and totals: (``prompt``, ``decode`` or ``both``, column).
    run
        What numbers the runs of a benchmark.
    measure
        What says in which unit lengths are.
    doubts
        What may make these columns the wrong ones.
    unit
        Unit of arrivals; empty if it must be found out.
    is_unit_given
        Whether the user named the unit.
    is_arrival_given
        Whether the user named the column of arrivals.
    are_spans
        Whether records without lengths are parts of programs and no requests.
    """

    format: str
    prompt: str
    decode: str
    arrival: str = ""
    session: str = ""
    parent: str = ""
    kind: str = ""
    request: str = ""
    span: str = ""
    span_parent: str = ""
    trace: str = ""
    answered: str = ""
    warm: str = ""
    model: str = ""
    failed: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    totals: tuple[tuple[str, str], ...] = ()
    run: str = ""
    measure: str = ""
    doubts: tuple[str, ...] = ()
    unit: str = ""
    is_unit_given: bool = False
    is_arrival_given: bool = False
    are_spans: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of all columns whose values matter."""
        single = (
            self.prompt, self.decode, self.arrival, self.session, self.parent, self.kind,
            self.request, self.span, self.span_parent, self.trace, self.answered,
            self.warm, self.run, self.measure, self.model,
        )  # fmt: skip
        counted = (*(part.column for part in self.parts), *(c for _, c in self.totals))
        return tuple(dict.fromkeys(name for name in (*single, *self.failed, *counted) if name))


def parse_columns(columns: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return the meaning -> column name of ``prompt=ctx,decode=out,arrival=ts,unit=ms``.

    Raises
    ------
    TraceError
        If a part is no ``name=column``, a name is unknown or twice there, or no unit is meant.

    Examples
    --------
    >>> parse_columns("prompt=ctx, decode=out, unit=ms")
    {'prompt': 'ctx', 'decode': 'out', 'unit': 'ms'}
    """
    known = ("prompt", "decode", "arrival", "session", "unit", "run")
    if not isinstance(columns, str | Mapping | None):
        raise TraceError(f"columns must be text or a table of names, got {columns!r:.40}")
    if columns is None:
        return {}
    if isinstance(columns, str):
        pairs = [part.partition("=") for part in columns.split(",") if part.strip()]
        if not pairs or not all(mark for _, mark, _ in pairs):
            raise TraceError(
                "columns must look like prompt=NAME,decode=NAME[,arrival=NAME][,session=NAME]"
                f"[,unit={'|'.join(UNITS)}], got {columns!r}"
            )
        items = [(key.strip(), value.strip()) for key, _, value in pairs]
    else:
        items = [(str(key), str(value)) for key, value in columns.items()]
    meant: dict[str, str] = {}
    for key, said in items:
        if key not in known:
            raise TraceError(f"columns must use the names {', '.join(known)}, got {key!r}")
        is_none = said.lower() == NO_COLUMN and key in ("arrival", "session")
        value = NO_COLUMN if is_none else said
        if key in meant or not value:
            raise TraceError(f"columns must give {key} exactly one name, got {columns!r}")
        meant[key] = value
    if not meant.get("run", "1").isdecimal():
        raise TraceError(f"columns run must be a whole number, got {meant['run']!r}")
    if meant.get("unit", "s") not in UNITS:
        raise TraceError(f"columns unit must be one of {', '.join(UNITS)}, got {meant['unit']!r}")
    return meant


MOST_COLUMNS = 1000
"""Names are held against each other; exports with a column for everything have some hundreds."""


def find_columns(
    tables: Sequence[Table], forced: str | None, given: Mapping[str, str]
) -> tuple[Table, Columns]:
    """Return the table that holds requests and which of its columns mean what.

    Parameters
    ----------
    tables
        Of one file, that of its own rows first; the first in which a format fits is taken.
    forced
        Name of a format, or None to find it.
    given
        What the user said, from `parse_columns`.

    Raises
    ------
    TraceError
        If there are too many columns, no format fits, a named column is not there, or a needed one
        is there twice.
    """
    names = list(dict.fromkeys(known.name for known in FORMATS))
    if forced is not None and forced not in names:
        near = difflib.get_close_matches(forced.lower(), names, 3, 0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise TraceError(f"format must be one of {', '.join(names)}, got {forced!r}{hint}")
    widest = max(tables, key=lambda table: len(table.columns))
    if len(widest.columns) > MOST_COLUMNS:
        raise TraceError(
            f"{widest.name}: a trace has at most {MOST_COLUMNS:,} columns, got "
            f"{len(widest.columns):,}: keep those of lengths, times and sessions"
        )
    named = {k: v for k, v in given.items() if k not in NO_NAMES and v != NO_COLUMN}
    holding = [t for t in tables if all(named_column(t, value) for value in named.values())]
    if not holding:
        raise not_there(tables, named)
    fitting = [(t, c) for t in holding if (c := _in_table(t, forced, given)) is not None]
    if not fitting:
        raise TraceError(nothing_fits(tables, forced))
    table, found = fitting[0]
    for inner, of_inner in fitting[1:]:
        # A record may sum up the requests in a list of its own: then those are the requests.
        if not named and inner.level and _sums_up(table, found, inner, of_inner):
            table, found = inner, of_inner
    found = replace(found, doubts=(*found.doubts, *_choices(tables, table, found)))
    for column in found.needed:
        if table.columns.count(column) > 1:
            raise TraceError(
                f"{table.name}: column {column!r} is there {table.columns.count(column)} times; "
                "rename or delete one"
            )
    return table, found


def _choices(tables: Sequence[Table], table: Table, found: Columns) -> list[str]:
    """Return what to say of answers: several whose tokens are counted together, or broken off."""
    inside = [t for t in tables if t.level.rpartition(".")[2] == "choices" and t is not table]
    if table.level or len(inside) != 1:
        return []
    answers = len(inside[0].read(inside[0].columns[:1])[0])
    asked = len(table.read([found.decode])[0])
    ended = pick(("finishreason",), index_of(inside[0]))
    broken = int(failed_rows(ended, inside[0].read([ended])[0]).sum()) if ended else 0
    told = [
        f"{broken:,} of {answers:,} choices broke off (column {shown(ended)}): leave their "
        "requests out"
    ] * (broken > 0)
    if answers <= asked:
        return told
    return [
        *told,
        f"{asked:,} records hold {answers:,} choices: the output of a record is that of all its "
        "choices together, which are decoded side by side",
    ]


def _sums_up(table: Table, found: Columns, inner: Table, of_inner: Columns) -> bool:
    """Return whether the outputs of a table are, all in all, those of the lists inside it."""
    if not (of_inner.decode and inner.level.startswith(table.level)):
        return False
    if inner.full and inner.columns.index(of_inner.decode) >= inner.own:
        return False
    whole, parts = (
        count_total(t.read([c.decode])[0]) for t, c in ((table, found), (inner, of_inner))
    )
    return whole > 0 and abs(whole - parts) <= 0.01 * whole


def _in_table(table: Table, forced: str | None, given: Mapping[str, str]) -> Columns | None:
    """Return what the columns of one table mean, by the first format that fits."""
    index = index_of(table)
    own = {
        k: v if v == NO_COLUMN else named_column(table, v)
        for k, v in given.items()
        if k not in NO_NAMES
    }
    # The user's own names leave nothing to recognise a format by.
    is_custom = "prompt" in own or "decode" in own
    for known in FORMATS:
        if known.name != (forced or known.name) or (
            is_custom and forced is None and known.name != "generic"
        ):
            continue
        prompt = own.get("prompt") or length_column(known, "prompt", table, index)
        decode = own.get("decode") or length_column(known, "decode", table, index)
        if own and prompt and prompt == decode:
            raise TraceError(
                f"{table.name}: prompt and decode must be two columns, got {prompt!r} for both; "
                f"it has {listed(table.columns)}"
            )
        fits = all(pick((need,), index) for need in known.needs)
        if not prompt or not decode or not fits or known.level not in ("", table.level):
            continue

        parts = parts_of(known, table, index, (prompt, decode))
        totals = totals_of(table, (prompt, decode))
        spoken_for = [*(part.column for part in parts), *(column for _, column in totals)]
        of_prompt = of_decode = ""
        if "prompt" not in own and _may_have_rivals(known, known.prompt):
            prompt, of_prompt = rivals(table, "prompt", prompt, [decode, *spoken_for])
        if "decode" not in own and _may_have_rivals(known, known.decode):
            decode, of_decode = rivals(table, "decode", decode, [prompt, *spoken_for])

        def one(role: str, known: TraceFormat = known) -> str:
            column: str = own.get(role) or pick(getattr(known, role), index)
            return "" if column == NO_COLUMN else column

        def several(aliases: Sequence[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(c for c in (pick((a,), index) for a in aliases) if c))

        return Columns(
            format="columns" if is_custom and forced is None else known.name,
            prompt=prompt,
            decode=decode,
            arrival=one("arrival"),
            session=one("session"),
            parent="" if "session" in own else pick(known.parent, index),
            kind=one("kind"),
            request=_own(table, one("request")),
            span=one("span"),
            span_parent=one("span_parent"),
            trace=pick(("context.traceid", "traceid"), index),
            answered=one("answered"),
            warm=one("warm"),
            model=one("model"),
            failed=tuple(
                dict.fromkeys(
                    (
                        *several((*known.failed, *FAILURE_SIGNS)),
                        *_below(("error", "errors"), index),
                    )
                )
            ),
            parts=tuple(parts),
            totals=totals,
            run=RUN if RUN in table.columns else "",
            measure=pick(
                (f"{normal(prompt).rpartition('.')[0]}.unit", "usage.unit", "unit", "units"), index
            ),
            doubts=tuple(
                doubt
                for doubt in (of_prompt, of_decode, _billed(prompt), *map(_sized, (prompt, decode)))
                if doubt
            ),
            cached=several(known.cached),
            unit=given.get("unit") or ("" if "arrival" in own else known.unit),
            is_unit_given="unit" in given,
            is_arrival_given="arrival" in given,
            are_spans=known.are_spans,
        )
    return None


def _billed(prompt: str) -> str:
    """Return what to say of lengths that are those of a bill, "" if they are not."""
    is_billed = "billed" in normal(prompt)
    return "lengths are billed tokens, which may leave some out" if is_billed else ""


def _sized(length: str) -> str:
    """Return what to say of a length whose name may as well be of bytes, "" for others."""
    if normal(length).rpartition(".")[2] not in ("inputsize", "outputsize"):
        return ""
    return f"column {shown(length)} does not say that it counts tokens: are these bytes?"


def _may_have_rivals(known: TraceFormat, names: Sequence[str]) -> bool:
    """Return whether another column may hold a length better: a format's own order settles it."""
    return known.name == "generic" or (len(names) == 1 and "." not in names[0])


def _own(table: Table, column: str) -> str:
    """Return a column if it is the rows' own; what stands around a list names no single row."""
    is_around = bool(table.level) and column in table.columns[table.own :]
    return "" if is_around else column


def _below(names: Sequence[str], index: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return the columns nested below an object with one of `names`."""
    return tuple(
        columns[0] for key, columns in index.items() if set(key.split(".")[:-1]) & set(names)
    )
