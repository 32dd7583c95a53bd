"""Names of files that no system takes: every argument and option refuses them in one line."""

from __future__ import annotations

import pytest

from tests.cli.invoke import invoke
from tests.property import fuzzing

NAMES = {
    "long": "a" * 5000,
    "deep": "a/" * 3000 + "x.json",
    "nul": "x\0y",
    "surrogate": "\ud800",
    "below a file": "{trace}/x",
}
DEAR = {"--timeline", "--per-request", "--per-step", "--plot", "--report", "--engine"}
"""Options whose file is written after a simulation or drawing: their check is `check_folder`'s."""


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return fuzzing.Room(tmp_path_factory.mktemp("paths"))


def calls(command, room):
    """Yield calls of a command without the name of one file: it goes where None stands."""
    files = {name: str(path) for name, path in room.files.items()}
    files["out"] = str(room.folder / "out" / "deployment")
    base = [part.format(**files) for part in fuzzing.BASES[command]]
    for k, part in enumerate(fuzzing.BASES[command]):
        if part.startswith("{"):
            yield [*base[:k], None, *base[k + 1 :]]
    for option in fuzzing.options_of(command):
        takes_file = type(option.type).__name__ in ("Completed", "Path")
        if takes_file and option.opts[0] not in DEAR | {"--profile"}:
            yield [*base, option.opts[0], None]


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("command", ["workload", "ratio", "plan", "calibrate", "compare",
                                     "deploy", "check", "sweep", "simulate", "models"])  # fmt: skip
def test_names_that_no_system_takes(command, kind, room, monkeypatch):
    monkeypatch.chdir(room.folder)  # what can be written is written there
    name = NAMES[kind].format(**room.files)
    for call in calls(command, room):
        given = [name if part is None else part for part in call]
        outcome = invoke(command, *given, "--json")
        assert outcome.code in (0, 1, 2), given
        if outcome.code:
            assert outcome.error_line
