"""What do emitted scripts really run? They are run, with programs that only tell their words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["HOSTS", "Ran", "ran", "scripts", "value", "words_of"]

HOSTS = {"FFN_HOST": "10.0.0.1", "ATTENTION_HOST": "10.0.0.2", "SERVER_HOST": "10.0.0.3"}
PROGRAMS = ("vllm", "python", "ray")
TELLER = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["TOLD"], "a") as file:
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    told = {{"words": words, "environment": dict(os.environ)}}
    file.write(json.dumps(told) + "\\n")
if "TOLD_HOLD" in os.environ:
    import time
    time.sleep(1.5)
"""


class Ran(NamedTuple):
    """One program that a script ran."""

    words: list[str]
    environment: dict[str, str]


def scripts(folder: Path) -> list[Path]:
    """Return the role scripts of the first bundle."""
    return sorted((folder / "bundle-001").glob("*.sh"))


def ran(
    script: Path, node: int, room: Path, *, together: bool = False, **environment: str
) -> list[Ran]:
    """Return the programs that a script runs on a node, in order, or several `together`.

    Of those, if one ends all do and the script fails: each lives for a while.
    """
    room.mkdir(parents=True, exist_ok=True)
    told = room / "told.jsonl"
    told.unlink(missing_ok=True)
    for name in PROGRAMS:
        (room / name).write_text(TELLER)
        (room / name).chmod(0o755)
    text = "".join(f"{name}={host}\n" for name, host in HOSTS.items())
    env_file = script.parent / "cluster.env"
    if env_file.exists():
        env_file.write_text(text)
    hold = {"TOLD_HOLD": "1"} if together else {}
    path = f"{room}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [str(script), str(node)],
        check=not together,
        env={"PATH": path, "TOLD": str(told), **environment, **hold},
        timeout=60,
    )
    return [Ran(**json.loads(line)) for line in told.read_text().splitlines()]


def words_of(script: Path, node: int, room: Path) -> list[str]:
    """Return the words of the last program that a script runs."""
    return ran(script, node, room)[-1].words


def value(words: list[str], flag: str) -> Any:
    """Return what follows a flag, from JSON where it is JSON."""
    text = words[words.index(flag) + 1]
    return json.loads(text) if text.startswith("{") else text
