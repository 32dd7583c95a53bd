"""Which column of a file means what, by a known format's names or by the user's?"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afdplan.errors import TraceError
from afdplan.files.traces.formats import DECODES, FORMATS, PROMPTS, UNITS

__all__ = ["Columns", "find_columns", "parse_columns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of a file means what; "" where there is none.

    Attributes
    ----------
    format
        Name of the format.
    prompt, decode, arrival, session, parent
        Column names as the file spells them.
    failed, added_to_prompt, cached
        Several such names.
    unit
        Unit of arrivals; empty if it must be found out.
    is_unit_given
        Whether the user named the unit.
    """

    format: str
    prompt: str
    decode: str
    arrival: str = ""
    session: str = ""
    parent: str = ""
    failed: tuple[str, ...] = ()
    added_to_prompt: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    unit: str = ""
    is_unit_given: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of all columns whose values matter."""
        single = (self.prompt, self.decode, self.arrival, self.session, self.parent)
        return tuple(dict.fromkeys(n for n in (*single, *self.failed, *self.added_to_prompt) if n))


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
    known = ("prompt", "decode", "arrival", "session", "unit")
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
    for key, value in items:
        if key not in known:
            raise TraceError(f"columns must use the names {', '.join(known)}, got {key!r}")
        if key in meant or not value:
            raise TraceError(f"columns must give {key} exactly one name, got {columns!r}")
        meant[key] = value
    if meant.get("unit", "s") not in UNITS:
        raise TraceError(f"columns unit must be one of {', '.join(UNITS)}, got {meant['unit']!r}")
    return meant


def find_columns(
    name: str, columns: Sequence[str], forced: str | None, given: Mapping[str, str]
) -> Columns:
    """Return which of `columns` mean what, by the formats' names or the user's.

    Parameters
    ----------
    name
        The file, for messages.
    columns
        Column names as the file spells them, nested ones dotted.
    forced
        Name of a format, or None to find it.
    given
        What the user said, from `parse_columns`.

    Raises
    ------
    TraceError
        If no format fits, a named column is not there, or a needed one is there twice.
    """
    names = [known.name for known in FORMATS]
    if forced is not None and forced not in names:
        near = difflib.get_close_matches(forced.lower(), names, 3, 0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise TraceError(f"format must be one of {', '.join(names)}, got {forced!r}{hint}")
    index: dict[str, list[str]] = {}
    for column in columns:
        index.setdefault(_normal(column), []).append(column)
    own = {key: _named(name, columns, key, value) for key, value in given.items() if key != "unit"}
    for known in FORMATS:
        if forced is not None and known.name != forced:
            continue
        prompt = own.get("prompt") or _pick(known.prompt, index)
        decode = own.get("decode") or _pick(known.decode, index)
        # The user's own names leave nothing to recognise a format by.
        is_custom = "prompt" in own or "decode" in own
        if is_custom and forced is None and known.name != "generic":
            continue
        if own and prompt and prompt == decode:
            raise TraceError(
                f"{name}: prompt and decode must be two columns, got {prompt!r} for both; it has "
                f"{_listed(columns)}"
            )
        if not prompt or not decode or not all(_pick((need,), index) for need in known.needs):
            continue
        found = Columns(
            format="columns" if is_custom and forced is None else known.name,
            prompt=prompt,
            decode=decode,
            arrival=own.get("arrival") or _pick(known.arrival, index),
            session=own.get("session") or _pick(known.session, index),
            parent="" if "session" in own else _pick(known.parent, index),
            failed=tuple(c for c in (_pick((f,), index) for f in known.failed) if c),
            added_to_prompt=tuple(
                c for c in (_pick((a,), index) for a in known.added_to_prompt) if c
            ),
            cached=tuple(c for c in (_pick((a,), index) for a in known.cached) if c),
            unit=given.get("unit") or ("" if "arrival" in own else known.unit),
            is_unit_given="unit" in given,
        )
        for column in found.needed:
            if columns.count(column) > 1:
                raise TraceError(
                    f"{name}: column {column!r} is there {columns.count(column)} times; "
                    "rename or delete one"
                )
        return found
    raise TraceError(_nothing_fits(name, columns, forced))


def _normal(column: str) -> str:
    """Return the name in lower case with letters, digits and the dots of nesting only."""
    return re.sub(r"[^\w.]|_", "", column.lower()).strip(".")


def _pick(wanted: Sequence[str], index: Mapping[str, list[str]]) -> str:
    """Return the column with the first name of `wanted`, at the top or else nested least."""
    for name in wanted:
        if name in index:
            return index[name][0]
        # Short words such as "time" mean anything deep inside a record.
        nested = [key for key in index if len(name) >= 5 and key.endswith("." + name)]
        if nested:
            return index[min(nested, key=lambda key: (key.count("."), key))][0]
    return ""


def _named(name: str, columns: Sequence[str], key: str, wanted: str) -> str:
    """Return the column that the user calls `wanted`."""
    if wanted in columns:
        return wanted
    alike = [column for column in columns if _normal(column) == _normal(wanted)]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(wanted, columns, 1, 0.5)
    hint = f"did you mean {key}={near[0]}? " if near and near[0].isprintable() else ""
    raise TraceError(f"{name}: has no column {wanted!r}; {hint}it has {_listed(columns)}")


def _listed(columns: Sequence[str]) -> str:
    shown = [repr(column) if len(column) <= 40 else repr(column[:37] + "...") for column in columns]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return ", ".join(shown[:12]) + more


def _nothing_fits(name: str, columns: Sequence[str], forced: str | None) -> str:
    """Return the message for columns that mean nothing, with the nearest names."""
    index: dict[str, list[str]] = {}
    for column in columns:
        index.setdefault(_normal(column), []).append(column)
    if forced is not None:
        known = next(known for known in FORMATS if known.name == forced)
        wanted = " and ".join([known.prompt[0], known.decode[0], *known.needs])
        why = f"format {forced} needs columns {wanted} (case and punctuation do not matter)"
    else:
        lost = [
            role
            for role, aliases in (("prompt", PROMPTS), ("decode", DECODES))
            if not _pick(aliases, index)
        ]
        why = f"no column is known to hold {' or '.join(lost)} lengths"
    parts: list[str] = []
    for role, aliases in (("prompt", PROMPTS), ("decode", DECODES)):
        column = _pick(aliases, index)
        if not column:
            near = difflib.get_close_matches(
                aliases[0], [key for key in index if len(key) > 2], 1, 0.6
            ) or [k for k in index for a in difflib.get_close_matches(k, aliases, 1, 0.75) if a]
            column = index[near[0]][0] if near else "NAME"
        taken = any(part.endswith(f"={column}") for part in parts)
        if taken or not column.isprintable() or len(column) > 40:
            column = "NAME"
        parts.append(f"{role}={column}")
    return (
        f"{name}: {why}; the columns are {_listed(columns)}; "
        f"say which with --columns {','.join(parts)}"
    )
