"""How are the options of a project told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from afdplan.report.quantities import counted
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

__all__ = ["Setting", "config_answer", "config_told"]


class Setting(NamedTuple):
    """An option: its value, None if none, and where that comes from."""

    name: str
    value: str | None
    origin: str


def config_answer(
    path: str | None, profiles: Sequence[str], settings: Sequence[Setting]
) -> dict[str, Any]:
    """Return the names that ``afdplan config --json`` promises."""
    return {
        "file": path,
        "profiles": list(profiles),
        "values": [setting._asdict() for setting in settings],
    }


def config_told(path: str | None, profiles: Sequence[str], settings: Sequence[Setting]) -> Telling:
    """Return what is said of the options: those of the project first."""
    ours = [setting for setting in settings if setting.origin != "default"]
    rest = [setting for setting in settings if setting.origin == "default" and setting.value]
    answer = "There is no afdplan.toml here or above: defaults hold where nothing is typed."
    if path is not None:
        answer = f"{path} gives {counted(len(ours), 'option')}."
    words = [Fact("Profiles", ", ".join(profiles))] if profiles else []
    return Telling(
        answer=answer,
        words=tuple(words),
        tables=(
            TextTable(
                title="Options that have a value",
                columns=("option", "value", "origin"),
                rows=[(one.name, one.value or "", one.origin) for one in (*ours, *rest)],
                left=3,
            ),
        ),
    )
