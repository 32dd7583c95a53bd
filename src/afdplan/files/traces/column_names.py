"""What are the columns of a file called, and which did the user mean?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from afdplan.errors import TraceError
from afdplan.files.traces.formats import FORMATS
from afdplan.files.traces.lengths import index_of, length_column, normal
from afdplan.files.traces.names import side_of_name
from afdplan.files.traces.summaries import json_texts, summary_advice
from afdplan.files.traces.table import Table, shown
from afdplan.files.traces.values import are_counts

__all__ = ["all_columns", "listed", "named_column", "not_there", "nothing_fits"]


def named_column(table: Table, wanted: str) -> str:
    """Return the column of a table that the user calls `wanted`, "" if it has none."""
    if wanted in table.columns:
        return wanted
    if wanted in table.full:
        return table.full[wanted]
    alike = {c for c in table.columns if normal(c) == normal(wanted)}
    alike |= {short for full, short in table.full.items() if normal(full) == normal(wanted)}
    return alike.pop() if len(alike) == 1 else ""


def all_columns(tables: Sequence[Table]) -> list[str]:
    """Return the names that `--columns` takes, from the top of a record."""
    return list(dict.fromkeys(c for t in tables for c in (t.full or t.columns)))


def not_there(tables: Sequence[Table], named: Mapping[str, str]) -> TraceError:
    """Return the error for a column that no table has, or that one table has not with others."""
    columns = all_columns(tables)
    for key, wanted in named.items():
        if not any(named_column(table, wanted) for table in tables):
            near = difflib.get_close_matches(wanted, columns, 1, 0.5)
            hint = f"did you mean {key}={near[0]}? " if near and near[0].isprintable() else ""
            return TraceError(
                f"{tables[0].name}: has no column {shown(wanted)}; {hint}it has {listed(columns)}"
            )
    both = " and ".join(map(repr, named.values()))
    return TraceError(f"{tables[0].name}: {both} stand in different lists; name columns of one")


def listed(columns: Sequence[str]) -> str:
    """Return the first dozen names, each shortened, and how many more there are."""
    shown = [repr(column) if len(column) <= 60 else repr(column[:57] + "...") for column in columns]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return ", ".join(shown[:12]) + more


def nothing_fits(tables: Sequence[Table], forced: str | None) -> str:
    """Return the message for columns that mean nothing, with names only where they are sure."""
    name, columns = tables[0].name, all_columns(tables)
    advice = summary_advice(columns)
    if advice:
        return f"{name}: {advice}"
    if forced is not None:
        known = next(known for known in FORMATS if known.name == forced)
        wanted = " and ".join([known.prompt[0], known.decode[0], *known.needs])
        why = f"format {forced} needs columns {wanted} (case and punctuation do not matter)"
    else:
        lost = [
            role
            for role in ("prompt", "decode")
            if not any(length_column(FORMATS[-1], role, table, index_of(table)) for table in tables)
        ]
        why = f"no column is known to hold {' or '.join(lost or ['prompt and decode'])} lengths"
    if packed := json_texts(tables[0]):
        return (
            f"{name}: {why}; column {shown(packed)} holds JSON as text: export the records as "
            "JSON lines, or its numbers as columns"
        )
    say = ",".join(f"{role}={_hint(role, tables)}" for role in ("prompt", "decode"))
    return f"{name}: {why}; the columns are {listed(columns)}; say which with --columns {say}"


def _hint(role: str, tables: Sequence[Table]) -> str:
    """Return the one column of counts whose name fits a role, NAME if none or several do."""
    for table in tables:
        likely = [
            column
            for column in table.columns
            if role in {side_of_name(column), side_of_name(column, is_sure=False)}
            and column.isprintable()
            and len(column) <= 40
        ]
        if len(likely) == 1 and are_counts(likely[0], table.read(likely)[0]):
            return next((f for f, short in table.full.items() if short == likely[0]), likely[0])
    return "NAME"
