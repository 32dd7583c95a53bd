"""Which models and devices ship with afdplan, and which one does a name mean?"""

from __future__ import annotations

import difflib
import json
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from afdplan.calibration.architecture import ModelArchitecture
from afdplan.calibration.hardware import Hardware, hardware_from_table
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.errors import InvalidInputError
from afdplan.files.document import is_there
from afdplan.files.hardware_file import read_hardware_file
from afdplan.files.model_config import read_model_config
from afdplan.model.kinds import check_path

__all__ = [
    "find_hardware",
    "find_model",
    "known_type",
    "model_type",
    "served_name",
    "shipped_hardware",
    "shipped_models",
]

Kind = Literal["models", "hardware"]
_CALLED: dict[Kind, tuple[str, str]] = {
    "models": ("model", "the path of a config.json"),
    "hardware": ("hardware", "the path of a TOML or JSON file"),
}
"""What messages call one of a kind, and what may stand in place of its name."""


@cache
def _shipped(kind: Kind) -> dict[str, dict[str, Any]]:
    """Return the shipped files of one kind by stem; read once."""
    folder = resources.files("afdplan.data") / kind
    tables = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        stem, _, suffix = file.name.rpartition(".")
        if suffix == "json":
            tables[stem] = json.loads(file.read_text(encoding="utf-8"))
        elif suffix == "toml":
            tables[stem] = tomllib.loads(file.read_text(encoding="utf-8"))
    return tables


def shipped_models() -> dict[str, ModelArchitecture]:
    """Return the models that ship with afdplan, by short name.

    Examples
    --------
    >>> shipped_models()["mixtral-8x22b"].experts
    8
    """
    return {stem: architecture_from_config(config) for stem, config in _shipped("models").items()}


def shipped_hardware() -> dict[str, Hardware]:
    """Return the devices that ship with afdplan, by short name.

    Examples
    --------
    >>> shipped_hardware()["h200"].memory_bandwidth
    4800000000000.0
    """
    return {stem: hardware_from_table(table) for stem, table in _shipped("hardware").items()}


def _fold(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


@cache
def _names(kind: Kind) -> dict[str, str]:
    """Return every accepted spelling and the stem that it means."""
    names: dict[str, str] = {}
    for stem, table in _shipped(kind).items():
        facts = table["afdplan"] if kind == "models" else table
        spellings = [stem, facts["name"], *facts.get("aliases", [])]
        if kind == "models":
            spellings += [spelling.rpartition("/")[2] for spelling in spellings]
        for spelling in spellings:
            names.setdefault(_fold(spelling), stem)
    return names


def _located(kind: Kind, name: str | Path) -> tuple[str | None, Path]:
    """Return the stem that a shipped name means, None of others, and the file of that name."""
    check_path(name)
    known = _names(kind)
    stem, path = known.get(_fold(str(name))), Path(name)
    if stem is None and not is_there(path):
        raise _refuse(kind, known, str(name))
    return stem, path


def _refuse(kind: Kind, known: dict[str, str], name: str) -> InvalidInputError:
    what, file = _CALLED[kind]
    nearest = difflib.get_close_matches(_fold(name), known, n=5, cutoff=0.5)
    near = list(dict.fromkeys(known[spelling] for spelling in nearest))[:3]
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(_shipped(kind))}"
    return InvalidInputError(
        f"{what} must be a shipped name (`afdplan {kind}` lists them) or {file}, "
        f"got {name!r:.120}; {hint}"
    )


def find_model(name: str | Path) -> ModelArchitecture:
    """Return the model that `name` means.

    Parameters
    ----------
    name
        A shipped name or Hugging Face id in any case, or the path of a `config.json` or of a
        folder that holds one.

    Raises
    ------
    InvalidInputError
        If nothing of that name is shipped and no such file exists (the nearest names are given),
        or the file does not describe a known architecture.

    Examples
    --------
    >>> find_model("DEEPSEEK-AI/deepseek-v3").layers
    61
    """
    return architecture_from_config(*_model_config(name))


def model_type(name: str | Path) -> str:
    """Return ``model_type`` in the configuration of the model that `name` means.

    Raises
    ------
    InvalidInputError
        As `find_model` does for the name.

    Examples
    --------
    >>> model_type("deepseek-v3")
    'deepseek_v3'
    """
    config, _, _ = _model_config(name)
    return str(config.get("model_type", ""))


def _model_config(name: str | Path) -> tuple[dict[str, Any], str, str]:
    """Return configuration, name and origin of a model."""
    stem, path = _located("models", name)
    if stem is not None:
        return _shipped("models")[stem], "", stem
    folder = path if path.is_dir() else path.parent
    return read_model_config(path), folder.name, str(path)


def find_hardware(name: str | Path) -> Hardware:
    """Return the device that `name` means.

    Parameters
    ----------
    name
        A shipped name in any case, or the path of a TOML or JSON file.

    Raises
    ------
    InvalidInputError
        If nothing of that name is shipped and no such file exists (the nearest names are given),
        or the file breaks a rule.

    Examples
    --------
    >>> find_hardware("h100").name
    'H100-SXM'
    """
    stem, path = _located("hardware", name)
    if stem is not None:
        return hardware_from_table(_shipped("hardware")[stem], stem)
    return hardware_from_table(read_hardware_file(path), str(path))


def known_type(model: str) -> str:
    """Return the model type of a name or file; empty where it cannot be had.

    Examples
    --------
    >>> known_type("qwen3-30b-a3b"), known_type("of-our-own")
    ('qwen3_moe', '')
    """
    try:
        return model_type(model) if model else ""
    except InvalidInputError:
        return ""


def served_name(model: str) -> str:
    """Return what a serving system calls a shipped model; paths stay as they are.

    Examples
    --------
    >>> served_name("deepseek-v3"), served_name("of/our-own")
    ('deepseek-ai/DeepSeek-V3', 'of/our-own')
    """
    if not model:
        return ""
    try:
        found = find_model(model)
    except InvalidInputError:
        return model
    return found.name if any(m.name == found.name for m in shipped_models().values()) else model
