"""What does a study file say, before anybody asks what it means?

The format is TOML, or JSON with the same names; docs/studies.md describes it. This reader knows the
sections and their shapes; which variables exist and what they may hold is known to the studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.files.document import read_document
from afdplan.model.words import nearest

__all__ = ["STUDY_SCHEMA_VERSION", "StudyDocument", "read_study_file"]

STUDY_SCHEMA_VERSION = 1
_TABLES = ("fixed", "grid", "zip", "sample", "windows", "workloads", "latencies")
_KEYS = ("schema_version", "name", "compute", *_TABLES)

Scalar = str | int | float | bool
_SCALARS = (str, int, float, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDocument:
    """The sections of a study file as they stand there.

    Attributes
    ----------
    name, compute
        What the study is called, and what is computed for every case.
    fixed
        Variables with one value.
    grid
        Variables with a list of values each, all combinations.
    zip
        Variables with lists of one length that go together.
    sample
        ``cases``, ``seed`` and variables drawn from a list or a range.
    windows
        How traces are cut; empty if they are not.
    workloads, latencies
        Named definitions that variables may refer to.
    folder
        Where relative paths start.
    whole
        The document itself, for the manifest.
    """

    name: str
    compute: str
    fixed: dict[str, Scalar]
    grid: dict[str, list[Scalar]]
    zip: dict[str, list[Scalar]]
    sample: dict[str, Any]
    windows: dict[str, Any]
    workloads: dict[str, dict[str, Any]]
    latencies: dict[str, dict[str, Any]]
    folder: Path
    whole: dict[str, Any]


def read_study_file(path: str | Path) -> StudyDocument:
    r"""Return the sections of a study file, or of the manifest of results (to run it again).

    Raises
    ------
    InvalidInputError
        If the file cannot be read, has an unknown key or section, or a section of another shape.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "study.toml"
    >>> _ = file.write_text('compute = "ratio"\n[grid]\nbatch_size = [64, 128]\n')
    >>> read_study_file(file).grid
    {'batch_size': [64, 128]}
    """
    shown = str(path)
    document = read_document(path, "a study")
    folder = Path(path).resolve().parent
    if "study_digest" in document:  # a manifest
        folder = Path(str(document.get("folder", folder)))
        document = document.get("study", {})
        if not isinstance(document, dict):
            raise InvalidInputError(f"{shown}: study must be a table of the study file's keys")
    return _sections(document, shown, folder, Path(path).stem)


def _sections(
    document: dict[str, Any], shown: str, folder: Path, default_name: str
) -> StudyDocument:
    for key in document:
        if key not in _KEYS:
            raise InvalidInputError(f"{shown}: unknown key {key}; {nearest(key, _KEYS)}")
    version = document.get("schema_version", STUDY_SCHEMA_VERSION)
    if version != STUDY_SCHEMA_VERSION or isinstance(version, bool):
        raise InvalidInputError(
            f"{shown}: schema_version must be {STUDY_SCHEMA_VERSION}, got {version!r:.40}"
        )
    for key in ("name", "compute"):
        if not isinstance(document.get(key, ""), str):
            raise InvalidInputError(f"{shown}: {key} must be text, got {document[key]!r:.40}")
    if not document.get("compute"):
        raise InvalidInputError(
            f'{shown}: compute must say what to compute, for example compute = "ratio"'
        )
    for key in _TABLES:
        if not isinstance(document.get(key, {}), dict):
            raise InvalidInputError(f"{shown}: [{key}] must be a table, got {document[key]!r:.40}")
    sections = {key: document.get(key, {}) for key in _TABLES}
    for name, value in sections["fixed"].items():
        if not isinstance(value, _SCALARS):
            raise InvalidInputError(
                f"{shown}: {name} in [fixed] must be one value, got {value!r:.60}; "
                "lists of values belong in [grid] or [zip]"
            )
    for section in ("grid", "zip"):
        for name, values in sections[section].items():
            _check_list(f"{shown}: {name} in [{section}]", values)
    for section in ("workloads", "latencies"):
        for name, table in sections[section].items():
            if not isinstance(table, dict):
                raise InvalidInputError(
                    f"{shown}: {section}.{name} must be a table, got {table!r:.40}"
                )
    return StudyDocument(
        name=document.get("name", default_name),
        compute=document["compute"],
        folder=folder,
        whole=document,
        **sections,
    )


def _check_list(where: str, values: Any) -> None:
    if not isinstance(values, list):
        raise InvalidInputError(
            f"{where} must be a list of values, got {values!r:.60}; one value belongs in [fixed]"
        )
    if not values:
        raise InvalidInputError(f"{where} must not be empty: give one or more values")
    for value in values:
        if not isinstance(value, _SCALARS):
            raise InvalidInputError(
                f"{where} must hold numbers or texts, got {value!r:.60}; "
                "name a [workloads.NAME] or [latencies.NAME] table for more"
            )
