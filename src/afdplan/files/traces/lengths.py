"""Which columns of a table hold lengths, which parts of them, and which say something else?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from afdplan.arrays import BoolArray
from afdplan.files.traces.formats import FORMATS, TraceFormat
from afdplan.files.traces.names import (
    DECODES,
    PROMPTS,
    part_of_name,
    side_of_name,
    total_of_name,
    truer_side_of_name,
)
from afdplan.files.traces.table import Table
from afdplan.files.traces.values import are_counts, count_total

__all__ = [
    "Part",
    "elsewhere",
    "index_of",
    "length_column",
    "normal",
    "parts_of",
    "pick",
    "rivals",
    "totals_of",
]

Index = Mapping[str, list[str]]

TEXTS = frozenset({"prompt", "input", "output", "decode", "prefill"})
"""Names of lengths that also head texts."""
STATISTIC = re.compile(
    r"(?:^|\.)(?:mean|avg|average|median|min|max|std|stddev|sum|p\d+|stats?|statistics|summary|"
    r"aggregated?\w*|percentiles?|quantiles?)\."
)
LISTED_RIVALS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A column that counts some of the tokens of a prompt or an output.

    Attributes
    ----------
    column
        Its name.
    side
        ``prompt`` or ``decode``.
    kind
        Of what: ``cached``, ``reasoning``, ``media``, ``tool``, ``predicted``.
    is_apart
        Whether the format's lengths do not hold these tokens.
    is_sure
        Whether no total can show otherwise: the format's definition names this very column.
    """

    column: str
    side: str
    kind: str
    is_apart: bool
    is_sure: bool


def normal(column: str) -> str:
    """Return the name in lower case with letters, digits and the dots of nesting only."""
    return re.sub(r"[^\w.]|_", "", column.lower()).strip(".")


def index_of(table: Table) -> dict[str, list[str]]:
    """Return normal name -> columns."""
    index: dict[str, list[str]] = {}
    for column in table.columns:
        index.setdefault(normal(column), []).append(column)
    return index


def pick(wanted: Sequence[str], index: Index) -> str:
    """Return the column with the first name of `wanted`, at the top or else nested least."""
    for name in wanted:
        if name in index:
            return index[name][0]
        # Short words such as "time" mean anything deep inside a record, and below "mean" or
        # "p99" stands no value of one request.
        nested = [
            key
            for key in index
            if len(name) >= 5 and key.endswith("." + name) and not STATISTIC.search(key)
        ]
        if nested:
            return index[min(nested, key=lambda key: (key.count("."), key))][0]
    return ""


def length_column(known: TraceFormat, role: str, table: Table, index: Index) -> str:
    """Return the column of prompt or decode lengths: of several that fit, the fullest."""
    aliases: tuple[str, ...] = getattr(known, role)
    fitting = list(dict.fromkeys(c for c in (pick((a,), index) for a in aliases) if c))
    if known.name != "generic":
        if len(fitting) < 2:
            return "".join(fitting)
        # Proxies fill the names of another API with zeros.
        values = table.read(fitting)
        empty = [(count_total(of) == 0, of.null_count()) for of in values]
        return fitting[empty.index(min(empty))]
    # Names such as "prompt" may head texts: a column of lengths holds counts.
    sure = [column for column in fitting if normal(column) not in TEXTS]
    if sure:
        return sure[0]
    counts = [column for column in fitting if are_counts(column, table.read([column])[0])]
    if counts:
        return counts[0]
    telling = [column for column in table.columns if side_of_name(column) == role]
    return telling[0] if len(telling) == 1 else ""


def parts_of(known: TraceFormat, table: Table, index: Index, lengths: Sequence[str]) -> list[Part]:
    """Return the columns that count parts of the prompts and outputs in two columns."""
    apart = {pick((name,), index) for name in known.apart} - {""}
    found = []
    for column, below, is_in_usage in _beside(table, lengths):
        side, kind = part_of_name(below, is_in_usage)
        if "*" in known.apart and is_in_usage:
            words = below.lower()
            side = "prompt" if "input" in words else "decode" if "output" in words else side
        if side:
            found.append(
                Part(
                    column=column,
                    side=side,
                    kind=kind or "other",
                    is_apart=column in apart or "*" in known.apart,
                    is_sure=column in apart,
                )
            )
    for column in sorted(apart - {part.column for part in found}):
        side, kind = next(filter(any, map(part_of_name, column.split("."))), ("prompt", "other"))
        found.append(Part(column=column, side=side, kind=kind, is_apart=True, is_sure=True))
    return found


def totals_of(table: Table, lengths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (side, column) of what counts all of a side, or ``both``; at most one of each."""
    found: dict[str, str] = {}
    for column, below, is_in_usage in _beside(table, lengths):
        side = total_of_name(below, is_in_usage)
        if side:
            found.setdefault(side, column)
    if "both" not in found and (traced := pick(("llm.usage.totaltokens",), index_of(table))):
        found["both"] = traced  # OpenLLMetry writes it beside gen_ai.usage, not in it
    return tuple(found.items())


def elsewhere(table: Table, lengths: Sequence[str], is_bare: BoolArray) -> list[str]:
    """Return what to say of records whose lengths stand in other columns, as of another service."""
    if not is_bare.any():
        return []
    index, found = index_of(table), []
    for role in ("prompt", "decode"):
        names = {name for known in FORMATS for name in getattr(known, role)}
        columns = sorted({pick((name,), index) for name in names} - {"", *lengths})
        read = zip(columns, table.read(columns) if columns else [], strict=True)
        filled = [
            (len(values.filter(pl.Series(is_bare)).drop_nulls()), column)
            for column, values in read
            if are_counts(column, values)
        ]
        found.append(max(filled, default=(0, "")))
    (count, prompt), (outputs, decode) = found
    if not min(count, outputs):
        return []
    return [
        f"{min(count, outputs):,} of {is_bare.size:,} records are left out: their lengths stand in "
        f"other columns; read them alone with --columns prompt={prompt},decode={decode}"
    ]


def _beside(table: Table, lengths: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield (column, name, whether tokens are counted there) of what stands beside lengths.

    That is in the same object, or in one inside it.
    """
    groups = dict.fromkeys(name.rpartition(".")[0] for name in lengths)
    for column in table.columns[: table.own] if table.level else table.columns:
        for group in groups:
            below = column.removeprefix(group + ".") if group else column
            if column in lengths or (group and below == column) or below.count(".") > 1:
                continue
            yield column, below, bool(re.search(r"usage|token", group.lower()))
            break


def rivals(table: Table, role: str, chosen: str, others: Sequence[str]) -> tuple[str, str]:
    """Return the column to take for a length after all, and what to say of others like it.

    Parameters
    ----------
    table
        The table.
    role
        ``prompt`` or ``decode``.
    chosen
        The column found by name.
    others
        Columns with a meaning of their own.
    """
    aliases = PROMPTS if role == "prompt" else DECODES
    truer, like = [], []
    for column in table.columns:
        last = normal(column).rpartition(".")[2]
        if column == chosen or column in others or STATISTIC.search(normal(column)):
            continue
        if truer_side_of_name(column) == role:
            truer.append(column)
        elif (last in aliases and last not in TEXTS) or side_of_name(column) == role:
            like.append(column)
    if not truer and not like:
        return chosen, ""
    mine, *values = table.read([chosen, *truer, *like])
    usable = [
        (column, count_total(of))
        for column, of in zip([*truer, *like], values, strict=True)
        if are_counts(column, of) and of.null_count() <= mine.null_count()
    ]
    counted, rows = count_total(mine), max(len(mine), 1)
    what = "prompts" if role == "prompt" else "outputs"
    for column, count in usable:
        if column in truer and count > 0:
            if count == counted:
                return chosen, ""
            return column, (
                f"{what} are read from column {column!r} (mean {count / rows:,.1f}), not from "
                f"{chosen!r} (mean {counted / rows:,.1f}), which counts otherwise"
            )
    unlike = [(c, count) for c, count in usable if count > 0 and count != counted]
    if not unlike:
        return chosen, ""
    fixed = mine.drop_nulls().n_unique() == 1 and rows > 1
    if role == "decode" and fixed and max(count for _, count in unlike) < counted:
        return unlike[0][0], (
            f"{what} are read from column {unlike[0][0]!r} (mean {unlike[0][1] / rows:,.1f}): "
            f"{chosen!r} is {counted / rows:,.6g} in all records, as what was asked for"
        )
    shown = " and ".join(
        f"{column!r} (mean {count / rows:,.1f})" for column, count in unlike[:LISTED_RIVALS]
    )
    return chosen, (
        f"{what} are read from column {chosen!r} (mean {counted / rows:,.1f}); {shown} of like "
        f"name says otherwise: choose with --columns {role}={unlike[0][0]}"
    )
