"""Which latency models do the cases of a study use: files, built-in names, or model x hardware?"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import latency_of
from afdplan.calibration.placement import Placement, place
from afdplan.errors import AfdplanError, InvalidInputError, TimeUnitError
from afdplan.files.latency_file import built_in_latency_names, latency_document, load_latency
from afdplan.files.study_file import StudyDocument, nearest
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.studies.study import latency_key

__all__ = ["Latencies", "read_latencies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """The latency models of a study by `latency_key`.

    Attributes
    ----------
    models
        A text in place of a model says why this combination has none.
    placements
        Model on hardware, where the times are derived.
    fingerprints
        Digests of the contents.
    time_unit
        Of all of them.
    """

    models: Mapping[str, LatencyModel | str]
    placements: Mapping[str, Placement]
    fingerprints: Mapping[str, str]
    time_unit: TimeUnit


def read_latencies(
    document: StudyDocument, names: Iterable[str], derived: Iterable[Mapping[str, Any]], where: str
) -> Latencies:
    """Return the latency models of a study.

    Parameters
    ----------
    document
        With the named definitions.
    names
        Values of `latency`: a name of [latencies], a built-in name or a file.
    derived
        Combinations of model, hardware and ffn_hardware.
    where
        How messages name the study.

    Raises
    ------
    InvalidInputError
        If a file or name is wrong. A combination that cannot work (weights that do not fit) is
        kept as its reason instead: its cases are refused, the others run.
    TimeUnitError
        If some models are in seconds and others in abstract time.
    """
    models: dict[str, LatencyModel | str] = {}
    placements: dict[str, Placement] = {}
    found = {latency_key({"latency": name}): _named(document, name, where) for name in names}
    found |= {latency_key(values): _placement(document, values, where) for values in derived}
    for key, one in found.items():
        if isinstance(one, Placement):
            placements[key] = one
            models[key] = latency_of(one)
        else:
            models[key] = one
    units = {model.time_unit for model in models.values() if isinstance(model, LatencyModel)}
    if len(units) > 1:
        raise TimeUnitError(
            f"{where}: latency models must have one time unit, got seconds and abstract time: "
            "make two studies"
        )
    if not units:
        reason = next(iter(models.values()))
        raise InvalidInputError(f"{where}: no combination of model and hardware works: {reason}")
    return Latencies(
        models=models,
        placements=placements,
        fingerprints={key: _fingerprint(model) for key, model in models.items()},
        time_unit=units.pop(),
    )


def _named(document: StudyDocument, name: str, where: str) -> LatencyModel | Placement | str:
    table = document.latencies.get(name)
    if table is None:
        return _file(document, name, where)
    place = f"{where}: [latencies.{name}]"
    if "file" in table:
        if len(table) > 1:
            raise InvalidInputError(f"{place}: file stands alone, got {', '.join(table)}")
        return _file(document, str(table["file"]), place)
    if not {"model", "hardware"} <= set(table):
        raise InvalidInputError(f"{place}: give file, or model and hardware")
    return _placement(document, table, place)


def _file(document: StudyDocument, name: str, where: str) -> LatencyModel:
    path = document.folder / name
    try:
        if name in built_in_latency_names():
            return load_latency(name)
        return load_latency(path if path.exists() else name)
    except InvalidInputError as error:
        raise type(error)(f"{where}: {error}") from None


def _placement(document: StudyDocument, table: Mapping[str, Any], where: str) -> Placement | str:
    """Return a model on hardware; a text says why they do not work together."""

    def local(name: Any) -> str:
        path = document.folder / str(name)
        return str(path) if path.exists() else str(name)

    options = dict(table)
    try:
        model = find_model(local(options.pop("model")))
        hardware = find_hardware(local(options.pop("hardware")))
        other = options.pop("ffn_hardware", None)
        ffn_hardware = None if other is None else find_hardware(local(other))
    except InvalidInputError as error:
        raise type(error)(f"{where}: {error}") from None
    known = list(inspect.signature(place).parameters)[2:]
    for key in options:
        if key not in known or key in ("ffn_hardware", "efficiencies"):
            raise InvalidInputError(f"{where}: unknown key {key}; {nearest(key, known)}")
    try:
        return place(model, hardware, ffn_hardware=ffn_hardware, **options)
    except AfdplanError as error:
        return " ".join(str(error).split())


def _fingerprint(model: LatencyModel | str) -> str:
    if isinstance(model, str):
        return f"none: {model}"
    text = json.dumps(latency_document(model), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
