"""What do the measured operator tables of an installed `aiconfigurator` hold?"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError, UnsupportedError

__all__ = ["PINNED_VERSION", "latest_table", "read_table", "table_systems"]

PINNED_VERSION = "0.12.0"
_PACKAGE = "aiconfigurator_core"


def _systems() -> Path:
    """Return the folder with the tables of all systems, or raise with the mend."""
    mend = f"pip install aiconfigurator-core=={PINNED_VERSION}"
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise UnsupportedError(f"measured tables need the package aiconfigurator-core: {mend}")
    version = importlib.metadata.version("aiconfigurator-core")
    if version != PINNED_VERSION:
        raise UnsupportedError(
            f"measured tables are read from aiconfigurator-core {PINNED_VERSION}, whose faults are "
            f"known, got {version}: {mend}"
        )
    return Path(found.origin).parent / "systems" / "data"


def table_systems() -> tuple[str, ...]:
    """Return the systems that have tables, by the names aiconfigurator gives them.

    Raises
    ------
    UnsupportedError
        If the package is missing or of another version.
    """
    return tuple(sorted(folder.name for folder in _systems().iterdir() if folder.is_dir()))


def latest_table(system: str, operator: str, backend: str, file: str) -> Path:
    """Return the newest table file of one operator.

    Parameters
    ----------
    system, operator, backend
        As the folders are named: ``h200_sxm``, ``moe``, ``vllm``.
    file
        Name of the file without `.parquet`.

    Raises
    ------
    UnsupportedError
        If the package is missing, or has no such table.
    InvalidInputError
        If there is no such system.
    """
    if system not in table_systems():
        raise InvalidInputError(
            f"system must be one of {', '.join(table_systems())}, got {system!r:.80}"
        )
    folder = _systems() / system / operator / backend
    files = [path for path in folder.glob(f"*/{file}.parquet") if path.is_file()]
    if not files:
        raise UnsupportedError(
            f"aiconfigurator {PINNED_VERSION} has no {operator} table ({file}) of {backend} on "
            f"{system}; try another backend (trtllm, sglang, vllm)"
        )
    return max(files, key=lambda path: _version_key(path.parent.name))


def _version_key(version: str) -> tuple[tuple[int, ...], str]:
    digits = "".join(character if character.isdigit() else " " for character in version)
    return tuple(int(part) for part in digits.split()), version


def read_table(path: Path, conditions: dict[str, Any], columns: tuple[str, ...]) -> Any:
    """Return the columns of the rows that meet all conditions, as float arrays by name.

    Parameters
    ----------
    path
        Parquet file.
    conditions
        Wanted value by column; a column that the file lacks meets every condition.
    columns
        Columns to return.

    Returns
    -------
    dict
        Arrays of one length, which may be 0.
    """
    import polars as pl

    frame = pl.scan_parquet(path)
    names = frame.collect_schema().names()
    missing = [column for column in columns if column not in names]
    if missing:
        raise InvalidInputError(f"{path.name}: column {missing[0]} is missing")
    for column, value in conditions.items():
        if column in names:
            frame = frame.filter(pl.col(column) == value)
    rows = frame.select(pl.col(column).cast(pl.Float64) for column in columns).collect()
    return {column: rows[column].to_numpy() for column in columns}
