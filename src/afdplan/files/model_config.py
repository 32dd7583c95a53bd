"""Can this Hugging Face `config.json` be trusted, and what does it say?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError

__all__ = ["read_model_config"]

LARGEST_CONFIG = 16 * 2**20
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
        If the file is missing, larger than 16 MiB, not UTF-8, not one JSON object, too deeply
        nested, or holds a key twice in one object.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "config.json"
    config = _read_object(path)
    second = path.with_name(path.name.removesuffix("config.json") + QUANTIZATION)
    if path.name.endswith("config.json") and path.name != second.name and second.is_file():
        config[QUANTIZATION.removesuffix(".json")] = _read_object(second)
    return config


def _read_object(path: Path) -> dict[str, Any]:
    """Return the one object of a file."""
    try:
        size = path.stat().st_size
        if size > LARGEST_CONFIG:
            raise InvalidInputError(
                f"{path}: a config.json has at most {LARGEST_CONFIG} bytes, got {size}; "
                "is this the file of the weights?"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidInputError(
            f"{path}: no such file; give the config.json of the model or its folder"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{path}: must be UTF-8 text, byte {error.start} is not; is this a config.json?"
        ) from None
    try:
        value = json.loads(text, object_pairs_hook=_object_without_repeats)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{path}: must be JSON, {error.msg.lower()} at line {error.lineno}, "
            f"column {error.colno}"
        ) from None
    except RecursionError:
        raise InvalidInputError(f"{path}: JSON is nested too deeply for a model config") from None
    except ValueError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"{path}: must hold one JSON object, got {type(value).__name__}")
    return value


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"every key must occur once in an object, got {repeated!r} twice")
    return result
