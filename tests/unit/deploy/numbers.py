"""Which numbers does a started program get: on its command line, in objects, in variables?"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.deployed import Ran

__all__ = ["numbers_of"]

NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.])")
ADDRESS = re.compile(r"\b10\.0\.0\.\d\b")
OURS = re.compile(r"[A-Z][A-Z_]*")
NOT_OURS = {"TOLD", "TOLD_HOLD", "SHLVL", "PATH", "PWD", "OLDPWD", "LC_CTYPE", "NODE"}

Numbers = dict[str, tuple[float, ...]]


def numbers_of(told: Ran, variables: set[str]) -> Numbers:
    """Return every number by the flag, the path in an object or the variable that holds it."""
    found: Numbers = {}
    flag = ""
    for word in told.words:
        if word.startswith("--"):
            flag, _, word = word.partition("=")
        if word.startswith("{"):
            _object(flag, json.loads(word), found)
        else:
            _keep(flag, word, found)
    for name in sorted(variables):
        _keep(name, told.environment[name], found)
    return found


def _object(path: str, value: Any, found: Numbers) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _object(f"{path}.{key}", one, found)
    elif isinstance(value, list):
        for one in value:
            _object(path, one, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found[path] = (*found.get(path, ()), float(value))


def _keep(name: str, text: str, found: Numbers) -> None:
    for number in NUMBER.findall(ADDRESS.sub("HOST", text)):
        found[name] = (*found.get(name, ()), float(number))
