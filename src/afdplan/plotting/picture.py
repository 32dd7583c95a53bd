"""How does a drawn figure become the bytes of a PNG or SVG file?"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from afdplan.errors import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_picture_name", "picture_bytes"]

_FORMATS = (".png", ".svg")


def check_picture_name(path: str | Path) -> str:
    """Return the format that the name of a picture asks for, ``png`` or ``svg``.

    Raises
    ------
    InvalidInputError
        If the name ends otherwise.

    Examples
    --------
    >>> check_picture_name("load.SVG")
    'svg'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise InvalidInputError(
            f"a picture's name must end in {' or '.join(_FORMATS)}, got {str(path)!r}"
        )
    return suffix[1:]


def picture_bytes(figure: Figure, kind: str) -> bytes:
    """Return the figure as the bytes of a ``png`` or ``svg`` file; the same figure, same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "afdplan"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
