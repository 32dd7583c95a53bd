"""How is a latency model read from a file or by its built-in name, and written again?

The format is TOML, or JSON with the same names. Decoding is strict: an unknown key is an error
that names the nearest known one, so that a misspelt coefficient never becomes a silent zero.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.files.atomic import write_atomic
from afdplan.files.document import is_there, read_document
from afdplan.files.latency_document import LATENCY_SCHEMA_VERSION, latency_document
from afdplan.model.curve import Curve, LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.latency import (
    AttentionLayers,
    LatencyModel,
    TimeUnit,
    Transfer,
    TransferLoad,
    Validity,
)
from afdplan.model.uncertainty import Uncertainty

__all__ = [
    "LATENCY_SCHEMA_VERSION",
    "built_in_latency_names",
    "latency_document",
    "latency_from_document",
    "load_latency",
    "save_latency",
]

_BUILT_IN = Path(__file__).parent.parent / "data" / "latency"

# A list of numbers as the writer spreads it: one number per line.
_NUMBERS = re.compile(r"\[\n((?:\s*[-+.\w]+,\n)+)\s*\]")

# Keys of each kind of curve: first those that must be there, then those that may.
_CURVE_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear": (("slope", "intercept"), ()),
    "roofline": (("floor", "slope"), ("intercept",)),
    "table": (("loads", "times"), ()),
}
_STAGE_KEYS = {
    "attention": ("time_per_request", "context_window", "layers"),
    "ffn": (),
    "transfer": ("load",),
    "send": ("load",),
    "receive": ("load",),
}


class _Stage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stage as it stands in a file; which keys belong to which kind is checked before."""

    kind: str
    floor: float | None = None
    slope: float | None = None
    intercept: float | None = None
    loads: list[float] | None = None
    times: list[float] | None = None
    time_per_request: float = 0.0
    context_window: int | None = None
    layers: int | None = None
    load: str = "worker"


class _Validity(msgspec.Struct, kw_only=True):
    attention_tokens: tuple[float, float] | None = None
    ffn_tokens: tuple[float, float] | None = None
    batch_size: tuple[float, float] | None = None


class _Uncertainty(msgspec.Struct, kw_only=True):
    coefficients: list[str]
    covariance: list[list[float]]


class _File(msgspec.Struct, kw_only=True):
    """A latency file, stage by stage."""

    schema_version: int
    time_unit: str
    attention: _Stage | list[_Stage]
    ffn: _Stage
    name: str = ""
    source: str = ""
    layers: int | None = None
    transfer: _Stage | None = None
    send: _Stage | None = None
    receive: _Stage | None = None
    step_overhead: float = 0.0
    tokens_per_step: float = 1.0
    drain: bool = False
    assumptions: list[str] = []
    validity: _Validity | None = None
    uncertainty: _Uncertainty | None = None


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
    text = str(name_or_path)
    path = Path(name_or_path)
    names = built_in_latency_names()
    if not isinstance(name_or_path, Path) and not _looks_like_path(text):
        if text in names:
            path = _BUILT_IN / f"{text}.toml"
        elif not is_there(path):
            near = difflib.get_close_matches(text, names, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise LatencyModelError(
                f"no latency model named {text!r}: {hint}built-in: {', '.join(names)}; "
                "or give a TOML or JSON file"
            )
    document = read_document(
        path if path.parent == _BUILT_IN else name_or_path, "a latency model", LatencyModelError
    )
    try:
        return latency_from_document(document, path.stem)
    except LatencyModelError as error:
        raise LatencyModelError(f"{text}: {error}") from None


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


def _check_keys(where: str, table: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    """Raise unless `table` is a table with only `known` and all `needed` keys."""
    at = f" in [{where}]" if where else ""
    if not isinstance(table, dict):
        raise LatencyModelError(f"{where or 'the file'} must be a table of keys, got {table!r:.60}")
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise LatencyModelError(f"unknown key {key!r:.60}{at}; {hint}")
    for key in needed:
        if key not in table:
            raise LatencyModelError(f"key {key!r} is missing{at}")


def _check_stage(where: str, table: Any) -> None:
    """Raise unless `table` holds the keys of its kind of curve, all finite."""
    extras = _STAGE_KEYS[where]
    every = {key for pair in _CURVE_KEYS.values() for keys in pair for key in keys}
    _check_keys(where, table, ("kind", *sorted(every), *extras), ("kind",))
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in _CURVE_KEYS:
        choices = ", ".join(_CURVE_KEYS)
        raise LatencyModelError(f"kind in [{where}] must be one of {choices}, got {kind!r:.60}")
    needed, optional = _CURVE_KEYS[kind]
    _check_keys(f"{where}] of kind [{kind}", table, ("kind", *needed, *optional, *extras), needed)
    for key, value in table.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise LatencyModelError(f"{key} in [{where}] must be a finite number, got {value}")


def latency_from_document(document: dict[str, Any], default_name: str) -> LatencyModel:
    """Return the model of a parsed file, the inverse of `latency_document`."""
    known = tuple(_File.__struct_fields__)
    _check_keys("", document, known, ())
    version = document.get("schema_version")
    if version != LATENCY_SCHEMA_VERSION or isinstance(version, bool):
        found = "none" if version is None else f"{version!r:.40}"
        raise LatencyModelError(f"schema_version must be {LATENCY_SCHEMA_VERSION}, got {found}")
    _check_keys("", document, known, ("time_unit", "attention", "ffn"))
    for name in _STAGE_KEYS:
        if name in document:
            stages = document[name]
            several = name == "attention" and isinstance(stages, list)
            for stage in stages if several else [stages]:
                _check_stage(name, stage)
    for name, struct in (("validity", _Validity), ("uncertainty", _Uncertainty)):
        if name in document:
            needed = ("coefficients", "covariance") if name == "uncertainty" else ()
            _check_keys(name, document[name], struct.__struct_fields__, needed)
    try:
        file = msgspec.convert(document, _File, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        where = str(error).replace("`$.", "`").replace("Expected", "expected")
        raise LatencyModelError(f"wrong type: {where}") from None
    send, receive = _links(file)
    return LatencyModel(
        name=file.name or default_name,
        time_unit=cast(TimeUnit, file.time_unit),  # the model checks it
        attention=_attention(file),
        ffn=_curve("ffn", file.ffn),
        send=send,
        receive=receive,
        step_overhead=file.step_overhead,
        tokens_per_step=file.tokens_per_step,
        drain=file.drain,
        validity=Validity(**msgspec.structs.asdict(file.validity or _Validity())),
        source=file.source,
        assumptions=tuple(file.assumptions),
        uncertainty=None
        if file.uncertainty is None
        else _uncertainty(msgspec.structs.asdict(file.uncertainty)),
    )


def _uncertainty(table: Mapping[str, Any]) -> Uncertainty:
    return Uncertainty(coefficients=tuple(table["coefficients"]), covariance=table["covariance"])


def _curve(where: str, stage: _Stage) -> Curve:
    """Return the curve of one stage; errors name the stage."""
    arguments = {
        key: value
        for key in ("floor", "slope", "intercept", "loads", "times")
        if (value := getattr(stage, key)) is not None
    }
    curves: dict[str, Any] = {
        "linear": LinearCurve,
        "roofline": RooflineCurve,
        "table": TabulatedCurve,
    }
    try:
        curve: Curve = curves[stage.kind](**arguments)
    except LatencyModelError as error:
        raise LatencyModelError(f"[{where}] {error}") from None
    return curve


def _attention(file: _File) -> tuple[AttentionLayers, ...]:
    stages = file.attention if isinstance(file.attention, list) else [file.attention]
    if not stages:
        raise LatencyModelError("attention must be one table or a list of one or more")
    if len(stages) == 1:
        inner = stages[0].layers
        if inner is not None and file.layers is not None and inner != file.layers:
            raise LatencyModelError(
                f"layers must agree, got {file.layers} for the file and {inner} in [attention]"
            )
        counts = [next((n for n in (inner, file.layers) if n is not None), 1)]
    else:
        missing = [k + 1 for k, stage in enumerate(stages) if stage.layers is None]
        if missing:
            raise LatencyModelError(
                f"each of several [[attention]] kinds needs its layers, kind {missing[0]} has none"
            )
        counts = [stage.layers for stage in stages if stage.layers is not None]
        if file.layers is not None and file.layers != sum(counts):
            raise LatencyModelError(
                f"layers must be the sum over [[attention]], got {file.layers}, sum {sum(counts)}"
            )
    return tuple(
        AttentionLayers(
            curve=_curve("attention", stage),
            layers=count,
            time_per_request=stage.time_per_request,
            context_window=stage.context_window,
        )
        for stage, count in zip(stages, counts, strict=True)
    )


def _links(file: _File) -> tuple[Transfer, Transfer]:
    """Return both directions of the link; without any, transfers take no time."""
    if file.transfer is not None and (file.send is not None or file.receive is not None):
        raise LatencyModelError("give [transfer] for both directions, or [send] and [receive]")
    if file.transfer is None and (file.send is None) != (file.receive is None):
        missing = "receive" if file.receive is None else "send"
        raise LatencyModelError(f"[{missing}] is missing: give both directions, or [transfer]")
    links = []
    for name in ("send", "receive"):
        stage = file.transfer or getattr(file, name)
        if stage is None:
            links.append(Transfer(curve=LinearCurve(slope=0.0, intercept=0.0)))
        else:
            links.append(Transfer(curve=_curve(name, stage), load=cast(TransferLoad, stage.load)))
    return links[0], links[1]
