"""Can this Hugging Face `config.json` be trusted, and what does it say?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afdplan.files.document import is_there, read_document

__all__ = ["read_model_config"]

CONFIG = "config.json"
QUANTIZATION = "hf_quant_config.json"
"""Beside a config, ModelOpt states its formats in a second file."""


def read_model_config(path: str | Path) -> dict[str, Any]:
    """Return the JSON object of a model's `config.json`, unread keys included.

    Parameters
    ----------
    path
        The file, or the folder of a checkpoint that holds a `config.json`.

    Returns
    -------
    dict
        The object as it stands in the file; with ``hf_quant_config``, what stands in the file of
        that name beside it. NaN and infinities of keys that nobody reads do no harm.

    Raises
    ------
    InvalidInputError
        If the file is missing, larger than 16 MB, not UTF-8, not one JSON object, too deeply
        nested, or holds a key twice in one object.
    """
    if str(path) != "-" and is_there(path) and Path(path).is_dir():
        path = Path(path) / CONFIG
    config = read_document(path, "a model's config.json", is_json=True, is_finite=False)
    second = Path(path).with_name(Path(path).name.removesuffix(CONFIG) + QUANTIZATION)
    if Path(path).name.endswith(CONFIG) and Path(path).name != second.name and is_there(second):
        config[QUANTIZATION.removesuffix(".json")] = read_document(
            second, f"a checkpoint's {QUANTIZATION}", is_json=True, is_finite=False
        )
    return config
