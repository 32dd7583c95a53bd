"""How does a stage stand in a latency file: its curve, and what is beside it?"""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.model.curve import CURVES, Curve

__all__ = ["Stage", "check_keys", "converted", "read_stage", "stage_curve"]


class _Attention(msgspec.Struct, kw_only=True):
    """What stands in [attention] beside its curve."""

    time_per_request: float = 0.0
    time_per_context: float = 0.0
    context_window: int | None = None
    layers: int | None = None


class _Link(msgspec.Struct, kw_only=True):
    """What stands in [transfer], [send] or [receive] beside its curve."""

    load: str = "worker"


class _Ffn(msgspec.Struct):
    """[ffn] is its curve."""


Stage = tuple[Curve, Any]


def check_keys(where: str, table: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    """Raise unless `table` is a table with only `known` and all `needed` keys."""
    at = f" in [{where}]" if where else ""
    if not isinstance(table, dict):
        raise LatencyModelError(f"{where or 'the file'} must be a table of keys, got {table!r:.60}")
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise LatencyModelError(f"unknown key {key!r:.60}{at}; {hint}")
    for key in needed:
        if key not in table:
            raise LatencyModelError(f"key {key!r} is missing{at}")


def read_stage(name: str, table: Any) -> Stage:
    """Return the curve of a stage and what stands beside it; errors name the stage."""
    struct = {"attention": _Attention, "ffn": _Ffn, "compute": _Ffn}.get(name, _Link)
    extras = struct.__struct_fields__
    every = {field for curve in CURVES.values() for field in curve.field_names()}
    check_keys(name, table, ("kind", *sorted(every), *extras), ("kind",))
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in CURVES:
        raise LatencyModelError(
            f"kind in [{name}] must be one of {', '.join(CURVES)}, got {kind!r:.60}"
        )
    curve = CURVES[kind]
    known = curve.field_names()
    needed = tuple(field for field in known if field not in curve.may_lack)
    check_keys(f"{name}] of kind [{kind}", table, ("kind", *known, *extras), needed)
    values = {field: table[field] for field in known if field in table}
    for field, value in values.items():
        if not _is_numeric(value):
            raise LatencyModelError(
                f"{field} in [{name}] must be a number or a list of numbers, got {value!r:.60}"
            )
    try:
        return curve(**values), converted({k: table[k] for k in extras if k in table}, struct)
    except LatencyModelError as error:
        raise LatencyModelError(f"[{name}] {error}") from None


def stage_curve(name: str, table: Any) -> Curve:
    """Return the curve of a table; `name` is what messages call it.

    Raises
    ------
    LatencyModelError
        If a key is unknown or missing, or a value out of its domain.
    """
    return read_stage(name, table)[0]


def _is_numeric(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def converted(table: Any, struct: type[Any]) -> Any:
    """Return a table as a struct; a wrong type raises `LatencyModelError`."""
    try:
        return msgspec.convert(table, struct, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        where = str(error).replace("`$.", "`").replace("Expected", "expected")
        raise LatencyModelError(f"wrong type: {where}") from None
