"""How are the times of a prefill worker read from a file, and written again?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from afdplan.errors import InvalidInputError, LatencyModelError
from afdplan.files.atomic import write_atomic
from afdplan.files.document import Readable, read_document
from afdplan.files.latency_stage import stage_curve
from afdplan.model import plan_parameters as ask
from afdplan.model.chosen import chosen
from afdplan.model.prefill import PairCost, PrefillModel

__all__ = ["PREFILL_SCHEMA_VERSION", "load_prefill", "prefill_document", "save_prefill"]

PREFILL_SCHEMA_VERSION = 1


class _Pair(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    time: float
    window: int | None = None


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A prefill file: seconds and tokens."""

    schema_version: int
    compute: dict[str, Any]
    name: str = ""
    pairs: list[_Pair] = []
    chunk_tokens: int = ask.PREFILL_CHUNK.default
    devices: int = 1
    transfer_per_token: float = 0.0
    transfer_latency: float = 0.0
    most_tokens: float | None = None
    source: str = ""
    assumptions: list[str] = []


def load_prefill(path: Readable) -> PrefillModel:
    """Return the prefill worker of a TOML or JSON file; all times are seconds.

    Raises
    ------
    LatencyModelError
        If the file cannot be read or breaks a rule; the message names the file and the key.
    """
    document = read_document(path, "a prefill model", LatencyModelError)
    try:
        file = msgspec.convert(document, _File, strict=True)
        if file.schema_version != PREFILL_SCHEMA_VERSION:
            raise LatencyModelError(
                f"schema_version must be {PREFILL_SCHEMA_VERSION}, got {file.schema_version}"
            )
        return PrefillModel(
            name=file.name or str(path),
            compute=stage_curve("compute", file.compute),
            pairs=tuple(PairCost(time=pair.time, window=pair.window) for pair in file.pairs),
            chunk_tokens=file.chunk_tokens,
            devices=file.devices,
            transfer_per_token=file.transfer_per_token,
            transfer_latency=file.transfer_latency,
            most_tokens=float("inf") if file.most_tokens is None else file.most_tokens,
            source=file.source,
            assumptions=tuple(file.assumptions),
        )
    except msgspec.ValidationError as error:
        words = str(error).replace("`$.", "`").replace("Object", "the file", 1)
        raise LatencyModelError(f"{path}: {words[0].lower()}{words[1:]}") from None
    except InvalidInputError as error:
        raise LatencyModelError(f"{path}: {error}") from None


def prefill_document(model: PrefillModel) -> dict[str, Any]:
    """Return what a prefill file holds of `model`."""
    document: dict[str, Any] = {
        "schema_version": PREFILL_SCHEMA_VERSION,
        **chosen(model, "name source devices chunk_tokens transfer_per_token transfer_latency"),
        "assumptions": list(model.assumptions),
        "compute": model.compute.document(),
        "pairs": [
            {"time": kind.time} | ({} if kind.window is None else {"window": kind.window})
            for kind in model.pairs
        ],
    }
    if model.most_tokens < float("inf"):
        document["most_tokens"] = model.most_tokens
    return document


def save_prefill(model: PrefillModel, path: str | Path) -> None:
    """Write `model` as TOML; reading the file again gives an equal model."""
    import tomli_w

    write_atomic(path, tomli_w.dumps(prefill_document(model)).encode())
