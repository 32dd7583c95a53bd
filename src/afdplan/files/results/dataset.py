"""How do the rows of a study lie on disk, so that no kill, full disk or second run can spoil them?

A folder with `manifest.json` and parts ``part-<number>.parquet``. A part is written whole or not at
all and never touched again, so whoever reads ``part-*.parquet``, also while a study runs or after a
kill, sees every row once. How few files there are is up to the writer, which gathers more rows the
longer a study runs (`afdplan.studies.run`). Earlier versions merged parts into
``part-<first>-<last>.parquet``; those that such a part covers do not count.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from afdplan.errors import InvalidInputError
from afdplan.files.atomic import write_atomic, writing
from afdplan.files.document import is_there, read_document
from afdplan.files.results.parts import broken, part_name, part_range, read_part, write_part
from afdplan.files.results.rows import rows_schema

__all__ = ["RESULTS_SCHEMA_VERSION", "ResultsDataset", "read_manifest"]

RESULTS_SCHEMA_VERSION = 1
_MANIFEST = "manifest.json"


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of a results folder.

    Raises
    ------
    InvalidInputError
        If the folder holds no results of a study, or results in a layout of another version.
    """
    shown = Path(folder)
    path = shown / _MANIFEST
    if not is_there(path):
        raise InvalidInputError(
            f"{shown} holds no results of a study (no {_MANIFEST}): name a folder that "
            "afdplan sweep wrote"
        )
    manifest = read_document(path, "a manifest of results", is_json=True, limit=1 << 30)
    if not isinstance(manifest.get("columns"), dict):
        raise InvalidInputError(f"{path} is no manifest of a study: name another folder")
    version = manifest.get("schema_version")
    if version != RESULTS_SCHEMA_VERSION:
        raise InvalidInputError(
            f"{shown} has results of layout version {version!r:.20}, this afdplan reads "
            f"{RESULTS_SCHEMA_VERSION}: use afdplan {manifest.get('afdplan_version', '?')!s:.20}, "
            "or run the study again into another folder"
        )
    return manifest


def _named(folder: str | Path) -> Path:
    """Return a folder's path, or raise where tables cannot be written for its name."""
    path = Path(folder)
    shown = os.fsencode(path).decode(errors="replace")
    if shown != str(path):
        raise InvalidInputError(
            f"{shown}: a folder of results needs a name in UTF-8: rename it or name another"
        )
    return path


class ResultsDataset:
    """The results of one study in one folder; one writer at a time.

    Parameters
    ----------
    folder
        Where the manifest and the parts are.
    manifest
        As read or to be written: `columns` maps names to ``count``, ``number``, ``text``,
        ``flag``, ``counts`` or ``numbers``.

    Examples
    --------
    >>> import tempfile
    >>> manifest = {"columns": {"case": "count", "status": "text"}}
    >>> results = ResultsDataset.create(tempfile.mkdtemp(), manifest)
    >>> import polars as pl
    >>> results.append(pl.DataFrame({"case": [1], "status": ["done"]}))
    >>> results.scan().collect().rows()
    [(1, 'done')]
    >>> results.close()
    """

    def __init__(self, folder: str | Path, manifest: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.manifest = dict(manifest)
        self._lock: Any = None
        self._next: int | None = None  # read from the folder before the first writing

    @classmethod
    def create(cls, folder: str | Path, manifest: Mapping[str, Any]) -> ResultsDataset:
        """Return a new dataset; its manifest is written now, so that a bad folder fails early.

        Raises
        ------
        InvalidInputError
            If the folder cannot be written or already holds results, or its name is not UTF-8.
        """
        path = _named(folder)
        with writing(path):
            if path.exists() and not path.is_dir():
                raise InvalidInputError(f"cannot write {path}: it is no folder; name another")
            path.mkdir(parents=True, exist_ok=True)
        if (path / _MANIFEST).exists():
            raise InvalidInputError(f"{path} already holds results: name another folder")
        results = cls(path, {"schema_version": RESULTS_SCHEMA_VERSION, **manifest})
        results.lock()
        content = json.dumps(results.manifest, indent=2, ensure_ascii=False) + "\n"
        write_atomic(path / _MANIFEST, content.encode())
        return results

    @classmethod
    def open(cls, folder: str | Path) -> ResultsDataset:
        """Return the dataset in a folder, for reading; see `read_manifest` for what it raises."""
        return cls(_named(folder), read_manifest(folder))

    def lock(self) -> None:
        """Keep other writers out until `close`; the lock ends with the process, however it ends.

        Raises
        ------
        InvalidInputError
            If another process writes here.
        """
        with writing(self.folder):
            self._lock = (self.folder / ".lock").open("a")
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise InvalidInputError(
                f"another afdplan sweep writes into {self.folder}: wait for it or name another "
                "folder"
            ) from None

    def close(self) -> None:
        """Let other writers in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def parts(self) -> list[Path]:
        """Return the parts that count, oldest first: those that no merged part replaces."""
        found = []
        for path in self.folder.iterdir():
            numbers = part_range(path)
            if numbers is not None:
                found.append((numbers[0], -numbers[1], path))
        kept, covered = [], 0
        for _, last, path in sorted(found):
            if -last > covered:
                kept.append(path)
                covered = -last
        return kept

    def repair(self) -> None:
        """Remove what a killed run left behind: unfinished files and parts already merged."""
        kept = set(self.parts())
        for path in self.folder.iterdir():
            left_behind = path.name.endswith(".tmp") and path.name.startswith((".part-", ".manif"))
            if left_behind or (part_range(path) and path not in kept):
                path.unlink(missing_ok=True)

    def append(self, frame: pl.DataFrame) -> None:
        """Write rows as a new part, whole or not at all.

        Parameters
        ----------
        frame
            With the columns of the manifest; empty changes nothing.

        Raises
        ------
        InvalidInputError
            If the disk is full or the folder cannot be written; earlier rows are not touched.
        """
        if not frame.height:
            return
        if self._next is None:
            ranges = (part_range(path) for path in self.parts())
            self._next = 1 + max((numbers[1] for numbers in ranges if numbers), default=0)
        write_part(self.folder / part_name(self._next), frame.lazy())
        self._next += 1

    def remove(self, status: str) -> int:
        """Remove the rows of a status and return how many; each part changes atomically."""
        removed = 0
        for path in self.parts():
            found = int((read_part(path, ["status"])["status"] == status).sum())
            if found:
                rest = pl.scan_parquet(path, glob=False).filter(pl.col("status") != status)
                write_part(path, rest, [path])
                removed += found
        return removed

    def progress(self) -> Iterator[pl.DataFrame]:
        """Yield `case` and `status` of every row, part by part."""
        for path in self.parts():
            yield read_part(path, ["case", "status"])

    def scan(self) -> pl.LazyFrame:
        """Return all rows as a lazy table, in no particular order.

        Raises
        ------
        InvalidInputError
            If a part cannot be read.
        """
        schema = rows_schema(self.manifest["columns"])
        parts = self.parts()
        if not parts:
            return pl.DataFrame(schema=schema).lazy()
        for path in parts:
            self._check(path, schema)
        return pl.scan_parquet(parts, glob=False)

    def _check(self, path: Path, schema: Mapping[str, Any]) -> None:
        try:
            found = dict(pl.scan_parquet(path, glob=False).collect_schema())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise broken(path, error) from None
        if found != schema:
            raise InvalidInputError(
                f"{path} has other columns than the manifest says: it is no part of these results; "
                "remove it"
            )

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        total = 0
        for path in self.parts():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total
