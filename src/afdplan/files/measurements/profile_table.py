"""How are measured points written for `afdplan calibrate`, and their environment beside them?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from afdplan.files.atomic import write_atomic

__all__ = ["COLUMNS", "environment_path", "write_profile"]

COLUMNS = ("stage", "load", "requests", "latency", "spread")


class Point(Protocol):
    """A measured point; see `afdplan.calibration.profile.Measurement`."""

    @property
    def stage(self) -> str: ...
    @property
    def load(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def latency(self) -> float: ...
    @property
    def spread(self) -> float: ...


def environment_path(path: str | Path) -> Path:
    """Return where the environment of a table is written: `name.environment.json` beside it."""
    path = Path(path)
    return path.with_name(f"{path.stem}.environment.json")


def write_profile(
    path: str | Path, points: Iterable[Point], environment: Mapping[str, Any]
) -> None:
    """Write a CSV table of points, and the environment as JSON beside it.

    Parameters
    ----------
    path
        The table; columns ``stage, load, requests, latency, spread``, times in seconds.
    points
        The rows.
    environment
        Device, versions, settings.

    Raises
    ------
    InvalidInputError
        If a file cannot be written; the table is written last, so it is never without its
        environment.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in points:
        writer.writerow(
            [
                point.stage,
                point.load,
                point.requests,
                f"{point.latency:.6e}",
                f"{point.spread:.3e}",
            ]
        )
    document = json.dumps(environment, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomic(environment_path(path), document.encode())
    write_atomic(path, text.getvalue().encode())
