"""How does a table of results grow on disk, block by block, and appear only when complete?"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import InvalidInputError
from afdplan.files.atomic import writing

__all__ = ["TableWriter"]


class TableWriter:
    """Writes rows to a CSV or Parquet file that exists only once all are written.

    Parameters
    ----------
    path
        Where; its name ends in ``.csv`` or ``.parquet``.
    columns
        Names.
    whole_columns
        Which of them hold integers.
    missing_below
        Numbers below this become empty, in `missing_columns`.
    missing_columns
        Columns in which a number can be missing.

    Raises
    ------
    InvalidInputError
        If the name ends otherwise or the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Sequence[str],
        *,
        whole_columns: Sequence[str] = (),
        missing_columns: Sequence[str] = (),
        missing_below: float = 0.0,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".csv", ".parquet"):
            raise InvalidInputError(
                f"a table's name must end in .csv or .parquet, got {str(path)!r}"
            )
        if self.path.is_dir():
            raise InvalidInputError(f"cannot write {path}: it is a directory; name a file")
        self.columns = tuple(columns)
        self.whole = frozenset(whole_columns)
        self.missing = frozenset(missing_columns)
        self.missing_below = missing_below
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}.tmp")
        self._file: BinaryIO | None = None

    def __enter__(self) -> TableWriter:
        with writing(self.path):
            self._file = self._temporary.open("xb")
            self._file.write((",".join(self.columns) + "\n").encode())
        return self

    def write(self, rows: FloatArray) -> None:
        """Append rows, one column of `rows` per name."""
        import polars as pl

        data: dict[str, Any] = {}
        for k, name in enumerate(self.columns):
            values = pl.Series(name, np.ascontiguousarray(rows[:, k]))
            if name in self.missing:
                values = values.set(values < self.missing_below, None)
            data[name] = values.cast(pl.Int64) if name in self.whole else values
        if self._file is None:
            raise InvalidInputError(f"{self.path} is not open for writing")
        with writing(self.path):
            pl.DataFrame(data).write_csv(self._file, include_header=False)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with writing(self.path):
                if self._file is not None:
                    self._file.close()
                if kind is None:
                    self._publish()
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def _publish(self) -> None:
        if self.path.suffix.lower() == ".csv":
            self._temporary.replace(self.path)
            return
        import polars as pl

        types = {name: pl.Int64 if name in self.whole else pl.Float64 for name in self.columns}
        parquet = self._temporary.with_suffix(".parquet.tmp")
        try:
            pl.scan_csv(self._temporary, schema=types).sink_parquet(parquet)
            parquet.replace(self.path)
        finally:
            with contextlib.suppress(OSError):
                parquet.unlink(missing_ok=True)
