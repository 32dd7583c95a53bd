"""Which latency models do the cases of a study use: files, built-in names, or model x hardware?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError, TimeUnitError, placed
from afdplan.files.document import is_there
from afdplan.files.latency_document import latency_document
from afdplan.files.latency_file import built_in_latency_names, load_latency
from afdplan.files.study_file import StudyDocument
from afdplan.model import parameters as ask
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.model.words import nearest
from afdplan.studies.study import NAMED, latency_key

__all__ = ["Latencies", "read_latencies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """The latency models of a study by `latency_key`.

    Attributes
    ----------
    models
        As read; a choice that has been loaded where they are derived.
    fingerprints
        Digests of the contents.
    time_unit
        Of all of them.
    """

    models: Mapping[str, LatencyModel | LatencyChoice]
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
        If a file or name is wrong. Whether a combination works (weights that fit) shows case by
        case: some are refused, the others run.
    TimeUnitError
        If some models are in seconds and others in abstract time.
    """
    models: dict[str, LatencyModel | LatencyChoice] = {
        latency_key({"latency": name}): _named(document, name, where) for name in names
    }
    models |= {latency_key(values): _derived(document, values, where) for values in derived}
    units: set[TimeUnit] = {
        model.time_unit if isinstance(model, LatencyModel) else "s" for model in models.values()
    }
    if len(units) > 1:
        raise TimeUnitError(
            f"{where}: latency models must have one time unit, got seconds and abstract time: "
            "make two studies"
        )
    return Latencies(
        models=models,
        fingerprints={key: _fingerprint(model) for key, model in models.items()},
        time_unit=units.pop(),
    )


def _named(document: StudyDocument, name: str, where: str) -> LatencyModel | LatencyChoice:
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
    return _derived(document, table, place)


def _file(document: StudyDocument, name: str, where: str) -> LatencyModel:
    path = document.folder / name
    with placed(where):
        if name in built_in_latency_names():
            return load_latency(name)
        return load_latency(path if is_there(path) else name)


def _derived(document: StudyDocument, table: Mapping[str, Any], where: str) -> LatencyChoice:
    """Return a model on hardware with all that its names stand for."""
    known = {one.name: one for one in (*ask.DERIVED, *ask.DEVICES_PER_WORKER)}
    known |= {one.field: one for one in known.values()}  # as in Python
    given = {}
    for key, value in table.items():
        if key not in known:
            raise InvalidInputError(f"{where}: unknown key {key}; {nearest(key, list(known))}")
        one = known[key]
        path = document.folder / str(value)
        with placed(where):
            checked = one.check(str(path) if one in NAMED and is_there(path) else value)
        given[one.name] = checked
    with placed(where):
        return LatencyChoice.of(given).loaded()


def _fingerprint(model: LatencyModel | LatencyChoice) -> str:
    text = (
        json.dumps(latency_document(model), sort_keys=True)
        if isinstance(model, LatencyModel)
        else repr([getattr(model, one.name) for one in NAMED])  # cases add the rest
    )
    return hashlib.sha256(text.encode()).hexdigest()
