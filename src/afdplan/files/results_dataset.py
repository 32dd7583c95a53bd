"""How do the rows of a study lie on disk, so that no kill, full disk or second run can spoil them?

A folder with `manifest.json` and parts ``part-<first>-<last>.parquet``. A part is written whole or
not at all. Small parts are merged into larger ones; a merged part names the range of parts that it
replaces, so that a kill between writing it and removing those leaves nothing doubled.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afdplan.errors import InvalidInputError
from afdplan.files.atomic import write_atomic

if TYPE_CHECKING:
    import polars as pl

__all__ = ["RESULTS_SCHEMA_VERSION", "ResultsDataset", "read_manifest"]

RESULTS_SCHEMA_VERSION = 1
_MANIFEST = "manifest.json"
_PART = re.compile(r"part-(\d{8})-(\d{8})\.parquet")
_SMALL_PARTS = 64


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of a results folder.

    Raises
    ------
    InvalidInputError
        If the folder holds no results of a study, or results in a layout of another version.
    """
    shown = Path(folder)
    path = shown / _MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InvalidInputError(
            f"{shown} holds no results of a study (no {_MANIFEST}): name a folder that "
            "afdplan sweep wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise InvalidInputError(f"cannot read {path}: {reason.lower()}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("columns"), dict):
        raise InvalidInputError(f"{path} is no manifest of a study: name another folder")
    version = manifest.get("schema_version")
    if version != RESULTS_SCHEMA_VERSION:
        raise InvalidInputError(
            f"{shown} has results of layout version {version!r:.20}, this afdplan reads "
            f"{RESULTS_SCHEMA_VERSION}: use afdplan {manifest.get('afdplan_version', '?')!s:.20}, "
            "or run the study again into another folder"
        )
    return manifest


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
    >>> results.append([{"case": 1, "status": "done"}])
    >>> results.scan().collect().rows()
    [(1, 'done')]
    >>> results.close()
    """

    def __init__(self, folder: str | Path, manifest: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.manifest = dict(manifest)
        self._next = 1
        self._lock: Any = None

    @classmethod
    def create(cls, folder: str | Path, manifest: Mapping[str, Any]) -> ResultsDataset:
        """Return a new dataset; its manifest is written now, so that a bad folder fails early.

        Raises
        ------
        InvalidInputError
            If the folder cannot be written or already holds results.
        """
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise InvalidInputError(f"cannot write {path}: it is no folder; name another")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(
                f"cannot make the folder {path}: {(error.strerror or str(error)).lower()}"
            ) from None
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
        return cls(folder, read_manifest(folder))

    def lock(self) -> None:
        """Keep other writers out until `close`; the lock ends with the process, however it ends.

        Raises
        ------
        InvalidInputError
            If another process writes here.
        """
        try:
            self._lock = (self.folder / ".lock").open("a")
        except OSError as error:
            raise InvalidInputError(
                f"cannot write {self.folder}: {(error.strerror or str(error)).lower()}"
            ) from None
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
            match = _PART.fullmatch(path.name)
            if match:
                found.append((int(match[1]), -int(match[2]), path))
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
            if left_behind or (_PART.fullmatch(path.name) and path not in kept):
                path.unlink(missing_ok=True)
        self._next = max((_range(path)[1] for path in kept), default=0) + 1

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as a new part, whole or not at all.

        Raises
        ------
        InvalidInputError
            If the disk is full or the folder cannot be written; earlier rows are not touched.
        """
        import polars as pl

        if not rows:
            return
        schema = _schema(self.manifest["columns"])
        self._write(self._next, self._next, pl.DataFrame(list(rows), schema=schema, orient="row"))
        self._next += 1

    def merge(self, smallest: int = _SMALL_PARTS) -> None:
        """Merge the small parts into one if there are at least `smallest` of them."""
        import polars as pl

        small = [path for path in self.parts() if _range(path)[0] == _range(path)[1]]
        if len(small) < max(smallest, 2):
            return
        frame = pl.concat([self._read(path) for path in small]).sort("case")
        # Small parts are the newest: what lies between the first and the last is merged here.
        self._write(_range(small[0])[0], _range(small[-1])[1], frame)
        for path in small:
            path.unlink(missing_ok=True)

    def remove(self, status: str) -> int:
        """Remove the rows of a status and return how many; each part changes atomically."""
        import polars as pl

        removed = 0
        for path in self.parts():
            frame = self._read(path)
            kept = frame.filter(pl.col("status") != status)
            if kept.height == frame.height:
                continue
            removed += frame.height - kept.height
            self._write(*_range(path), kept)
        return removed

    def progress(self) -> Iterator[pl.DataFrame]:
        """Yield `case`, `case_hash` and `status` of every row, part by part."""
        for path in self.parts():
            yield self._read(path, ["case", "case_hash", "status"])

    def scan(self) -> pl.LazyFrame:
        """Return all rows as a lazy table, in no particular order.

        Raises
        ------
        InvalidInputError
            If a part cannot be read.
        """
        import polars as pl

        schema = _schema(self.manifest["columns"])
        parts = self.parts()
        if not parts:
            return pl.DataFrame(schema=schema).lazy()
        for path in parts:
            self._check(path, schema)
        return pl.scan_parquet(parts)

    def _check(self, path: Path, schema: Mapping[str, Any]) -> None:
        import polars as pl

        try:
            found = pl.read_parquet_schema(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _broken(path, error) from None
        if found != schema:
            raise InvalidInputError(
                f"{path} has other columns than the manifest says: it is no part of these results; "
                "remove it"
            )

    def _read(self, path: Path, columns: list[str] | None = None) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(path, columns=columns, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _broken(path, error) from None

    def _write(self, first: int, last: int, frame: pl.DataFrame) -> None:
        import io

        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        name = f"part-{first:08d}-{last:08d}.parquet"
        write_atomic(self.folder / name, buffer.getvalue())

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        total = 0
        for path in self.parts():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total


def _range(path: Path) -> tuple[int, int]:
    match = _PART.fullmatch(path.name)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _broken(path: Path, error: Exception) -> InvalidInputError:
    reason = " ".join(str(error).split())[:120]
    return InvalidInputError(
        f"cannot read {path}: {reason}; remove that file and run again with --resume"
    )


def _schema(columns: Mapping[str, str]) -> dict[str, Any]:
    import polars as pl

    types = {
        "count": pl.Int64(),
        "number": pl.Float64(),
        "text": pl.String(),
        "flag": pl.Boolean(),
        "counts": pl.List(pl.Int64()),
        "numbers": pl.List(pl.Float64()),
    }
    return {name: types[data] for name, data in columns.items()}
