"""What does a project file say, and where is it: values that commands need not be told again?

A table of options by the names of the command line, with ``_`` or ``-`` between words, and tables
``[profile.NAME]`` that change some of them:

    trace = "requests.csv"
    columns = "prompt=ctx,decode=out"
    model = "deepseek-v3"
    hardware = "h200"
    tpot = "50ms"

    [profile.night]
    tpot = "100ms"
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError, reason
from afdplan.files.document import is_there, open_source
from afdplan.files.parsed import from_toml
from afdplan.model import parameters as ask
from afdplan.model.words import nearest

__all__ = ["PROJECT_NAME", "ProjectFile", "find_project", "read_project"]

PROJECT_NAME = "afdplan.toml"
_FILES = tuple(one.key for one in (ask.TRACE, ask.LATENCY, *ask.NAMED))
"""Values that may name a file, beside the project's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """Options of a project.

    Attributes
    ----------
    path
        Where it stands.
    values
        By the keys of options, as they are written on a command line.
    profiles
        The same of each named profile: what it changes.
    """

    path: Path
    values: Mapping[str, str]
    profiles: Mapping[str, Mapping[str, str]]

    def merged(self, profile: str | None) -> dict[str, tuple[str, str]]:
        """Return every value with its origin, those of a profile before those of the project.

        Raises
        ------
        InvalidInputError
            If there is no such profile; the nearest is named.
        """
        found = {key: (value, str(self.path)) for key, value in self.values.items()}
        if profile is None:
            return found
        if profile not in self.profiles:
            known = list(self.profiles) or ["none"]
            raise InvalidInputError(
                f"{self.path} has no profile {profile!r:.60}; {nearest(profile, known)}"
            )
        origin = f"{self.path} [profile.{profile}]"
        return found | {key: (value, origin) for key, value in self.profiles[profile].items()}


def find_project(folder: Path) -> Path | None:
    """Return the project file of a folder or of the nearest one above it; None if there is none.

    Raises
    ------
    InvalidInputError
        If what has its name is no file, a broken link for example: its options would be missed.
    """
    for place in (folder, *folder.parents):
        path = place / PROJECT_NAME
        if path.is_file():
            return path
        if os.path.lexists(path):
            raise InvalidInputError(f"{path} must be a file: mend it, or give --project none")
    return None


def read_project(path: Path, known: Iterable[str]) -> ProjectFile:
    """Return what a project file says.

    Parameters
    ----------
    path
        The file; names of files in it are meant beside it.
    known
        Keys of options that it may hold.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or holds a key that is not known (the nearest is named) or a value
        that is neither text nor a number.
    """
    with open_source(path, "a project file") as source:
        text = source.text()
    try:
        document = from_toml(text)
    except (RecursionError, ValueError) as error:  # a number of 5,000 digits is no TOML error
        raise InvalidInputError(f"cannot read {path}: {reason(error)}") from None
    keys = list(known)
    profiles = document.pop("profile", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise InvalidInputError(f"{path}: profiles must be tables such as [profile.night]")
    return ProjectFile(
        path=path,
        values=_values(document, path, "", keys),
        profiles={
            name: _values(table, path, f" in [profile.{name}]", keys)
            for name, table in profiles.items()
        },
    )


def _values(table: Mapping[str, Any], path: Path, where: str, known: list[str]) -> dict[str, str]:
    values = {}
    names = known if where else [*known, "profile"]
    for name, value in table.items():
        key = name.replace("-", "_")
        if key not in known:
            raise InvalidInputError(f"{path}: unknown key {name:.60}{where}; {nearest(key, names)}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidInputError(
                f"{path}: {name}{where} must be text or a number, as on the command line, "
                f"got {value!r:.60}"
            )
        values[key] = str(value)
        if key in _FILES and is_there(path.parent / values[key]):
            values[key] = str(path.parent / values[key])
    return values
