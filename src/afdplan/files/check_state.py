"""What does `afdplan check` remember from one run to the next?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from afdplan.errors import InvalidInputError
from afdplan.files.atomic import write_atomic
from afdplan.files.document import explained, read_document
from afdplan.files.measurements.counters import Snapshot

__all__ = ["CheckState", "read_state", "write_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """The standing of a plan, and the counters that were read last.

    Attributes
    ----------
    standing
        ``stands``, ``watch`` or ``replan``.
    snapshot
        Counters from which the next ones are subtracted; None if requests came from a trace.
    """

    standing: Literal["stands", "watch", "replan"] = "stands"
    snapshot: Snapshot | None = None


class _Series(msgspec.Struct):
    metric: str
    model: str
    engine: dict[str, str]
    values: dict[str, float]


class _State(msgspec.Struct):
    standing: Literal["stands", "watch", "replan"]
    counters: list[_Series] | None = None


def read_state(path: str) -> CheckState:
    """Return what a state file remembers; a new one begins with ``stands``.

    Raises
    ------
    InvalidInputError
        If it is no such file.
    """
    with explained(path, InvalidInputError):
        is_known = Path(path).exists()
    if not is_known:
        return CheckState()
    document = read_document(path, "a state of afdplan check")
    try:
        state = msgspec.convert(document, _State)
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            f"{path}: standing must be stands, watch or replan, and counters as they were written "
            f"({error}); remove the file to start again"
        ) from None
    if state.counters is None:
        return CheckState(standing=state.standing)
    series = {
        (one.metric, one.model, tuple(sorted(one.engine.items()))): one.values
        for one in state.counters
    }
    return CheckState(standing=state.standing, snapshot=Snapshot(source=path, series=series))


def write_state(path: str, state: CheckState) -> None:
    """Replace a state file, whole or not at all."""
    counters = None
    if state.snapshot is not None:
        counters = [
            {"metric": metric, "model": model, "engine": dict(engine), "values": dict(values)}
            for (metric, model, engine), values in state.snapshot.series.items()
        ]
    document = {"standing": state.standing, "counters": counters}
    write_atomic(path, json.dumps(document).encode() + b"\n")
