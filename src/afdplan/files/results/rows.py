"""How do rows of a study travel from the worker that computed them to the folder of results?

As an Arrow stream: the worker makes the columns, so that whoever collects the rows of many
workers only puts them one after the other.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

__all__ = ["decode_rows", "encode_rows", "rows_schema"]


def rows_schema(columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the type of each column of the results.

    Parameters
    ----------
    columns
        Names to ``count``, ``number``, ``text``, ``flag``, ``counts`` or ``numbers``.
    """
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


def encode_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> bytes:
    """Return rows as an Arrow stream with the columns of `rows_schema`.

    Examples
    --------
    >>> packed = encode_rows([{"case": 1, "status": "done"}], {"case": "count", "status": "text"})
    >>> decode_rows([packed, packed]).rows()
    [(1, 'done'), (1, 'done')]
    """
    import polars as pl

    packed = io.BytesIO()
    frame = pl.DataFrame(list(rows), schema=rows_schema(columns), orient="row")
    frame.write_ipc_stream(packed, compression="lz4")
    return packed.getvalue()


def decode_rows(packed: Sequence[bytes]) -> pl.DataFrame:
    """Return the table of one or more packed pieces, in their order."""
    import polars as pl

    return pl.concat([pl.read_ipc_stream(io.BytesIO(piece)) for piece in packed])
