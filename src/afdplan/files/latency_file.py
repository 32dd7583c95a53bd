"""How is a latency model read from a file or by its built-in name, and written again?

The format is TOML, or JSON with the same names. Decoding is strict: an unknown key is an error
that names the nearest known one, so that a misspelt coefficient never becomes a silent zero.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import msgspec

from afdplan.errors import LatencyModelError, placed
from afdplan.files.atomic import write_atomic
from afdplan.files.document import is_there, read_document
from afdplan.files.latency_document import latency_document, latency_from_document
from afdplan.model.kinds import check_latency, check_path
from afdplan.model.latency import LatencyModel

__all__ = ["built_in_latency_names", "load_latency", "save_latency"]

_BUILT_IN = Path(__file__).parent.parent / "data" / "latency"

# A list of numbers as the writer spreads it: one number per line.
_NUMBERS = re.compile(r"\[\n((?:\s*[-+.\w]+,\n)+)\s*\]")


def built_in_latency_names() -> list[str]:
    """Return the names of the latency models that come with afdplan, sorted.

    Examples
    --------
    >>> "deepseek-v3-ascend-910c" in built_in_latency_names()
    True
    """
    return sorted(path.stem for path in _BUILT_IN.glob("*.toml"))


def load_latency(name_or_path: str | Path) -> LatencyModel:
    """Return the latency model of a built-in name or of a TOML or JSON file.

    Parameters
    ----------
    name_or_path
        A built-in name, or a file. What holds a slash or ends in ``.toml`` or ``.json`` is a
        file; anything else is first looked up among the built-in names.

    Raises
    ------
    LatencyModelError
        If there is no such model, or the file cannot be read or breaks a rule; the message names
        the file, the key, the rule and the value.

    Examples
    --------
    >>> model = load_latency("deepseek-v3-ascend-910c")
    >>> model.time_unit, model.ffn(1000)
    ('abstract', 183.0)
    """
    path, text, names = name_or_path, str(name_or_path), built_in_latency_names()
    if isinstance(path, str) and not _looks_like_path(text):
        if text in names:
            path = _BUILT_IN / f"{text}.toml"
        elif not is_there(path):
            near = difflib.get_close_matches(text, names, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise LatencyModelError(
                f"no latency model named {text!r}: {hint}built-in: {', '.join(names)}; "
                "or give a TOML or JSON file; for times of a model on a device give --model and "
                "--hardware, in Python call derived_model(MODEL, HARDWARE).latency"
            )
    document = read_document(path, "a latency model", LatencyModelError)
    if {"architectures", "model_type"} & set(document):
        raise LatencyModelError(
            f"{text} is the config.json of a model, which holds no times: give it as --model with "
            "--hardware, in Python to derived_model"
        )
    with placed(text):
        return latency_from_document(document, Path(path).stem)


def save_latency(model: LatencyModel, path: str | Path) -> None:
    """Write `model` to `path`, as JSON if it ends in ``.json`` and as TOML otherwise.

    Reading the file again gives an equal model.

    Parameters
    ----------
    model
        The model to write.
    path
        The file; it is replaced whole or not at all.

    Raises
    ------
    InvalidInputError
        If the file cannot be written.
    """
    check_latency(model, "model")
    check_path(path)
    document = latency_document(model)
    try:
        if str(path).endswith(".json"):
            content = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        else:
            import tomli_w

            content = _NUMBERS.sub(_on_one_line, tomli_w.dumps(document)).encode()
    except UnicodeEncodeError:
        raise LatencyModelError("name, source and assumptions must be valid Unicode text") from None
    write_atomic(path, content)


def _on_one_line(found: re.Match[str]) -> str:
    """Return a list of numbers on one line: a covariance is read row by row."""
    numbers = found.group(1).split()
    return "[" + " ".join(numbers).removesuffix(",") + "]"


def _looks_like_path(text: str) -> bool:
    return text == "-" or "/" in text or "\\" in text or text.endswith((".toml", ".json"))
