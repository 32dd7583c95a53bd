"""Can this Hugging Face `config.json` be trusted, and what does it say?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afdplan.files.document import is_there, read_document

__all__ = ["read_model_config"]


def read_model_config(path: str | Path) -> dict[str, Any]:
    """Return the JSON object of a model's `config.json`, unread keys included.

    Parameters
    ----------
    path
        The file, or the folder of a checkpoint that holds a `config.json`.

    Returns
    -------
    dict
        The object as it stands in the file.

    Raises
    ------
    InvalidInputError
        If the file is missing, larger than 16 MB, not UTF-8, not one JSON object, too deeply
        nested, holds a key twice in one object, or holds a number that JSON does not know (NaN,
        Infinity).
    """
    if str(path) != "-" and is_there(path) and Path(path).is_dir():
        path = Path(path) / "config.json"
    return read_document(path, "a model's config.json", is_json=True)
