"""How is a latency model read from a file or by its built-in name, and written again?

The format is TOML, or JSON with the same names. Decoding is strict: an unknown key is an error
that names the nearest known one, so that a misspelt coefficient never becomes a silent zero.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.files.atomic import write_atomic
from afdplan.files.document import is_there, read_document
from afdplan.model.curve import CURVES, Curve, LinearCurve
from afdplan.model.latency import AttentionLayers, LatencyModel, TimeUnit, Transfer
from afdplan.model.layer_order import LayerOrder
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.model.variation import ExpertLoad, Scatter

__all__ = [
    "LATENCY_SCHEMA_VERSION",
    "built_in_latency_names",
    "latency_document",
    "latency_from_document",
    "load_latency",
    "save_latency",
    "stage_curve",
]

_BUILT_IN = Path(__file__).parent.parent / "data" / "latency"

# A list of numbers as the writer spreads it: one number per line.
_NUMBERS = re.compile(r"\[\n((?:\s*[-+.\w]+,\n)+)\s*\]")

LATENCY_SCHEMA_VERSION = 1
_VARIATIONS: dict[str, type[Any]] = {"scatter": Scatter, "experts": ExpertLoad}
_STAGES = ("attention", "ffn", "transfer", "send", "receive")


class _Attention(msgspec.Struct, kw_only=True):
    """What stands in [attention] beside its curve."""

    time_per_request: float = 0.0
    time_per_context: float = 0.0
    context_window: int | None = None
    layers: int | None = None


class _Link(msgspec.Struct, kw_only=True):
    """What stands in [transfer], [send] or [receive] beside its curve."""

    load: str = "worker"


class _Ffn(msgspec.Struct):
    """[ffn] is its curve."""


_Extras = _Attention | _Ffn | _Link
_Stage = tuple[Curve, Any]


class _Validity(msgspec.Struct, kw_only=True):
    attention_tokens: tuple[float, float] | None = None
    ffn_tokens: tuple[float, float] | None = None
    batch_size: tuple[float, float] | None = None


class _Uncertainty(msgspec.Struct, kw_only=True):
    coefficients: list[str]
    covariance: list[list[float]] | None = None
    draws: list[list[float]] | None = None


class _File(msgspec.Struct, kw_only=True):
    """A latency file, stage by stage."""

    schema_version: int
    time_unit: str
    attention: Any
    ffn: Any
    name: str = ""
    source: str = ""
    layers: int | None = None
    layer_order: str | list[int] = "blocks"
    transfer: Any = None
    send: Any = None
    receive: Any = None
    step_overhead: float = 0.0
    tokens_per_step: float = 1.0
    drain: bool = False
    assumptions: list[str] = []
    scatter: Any = None
    experts: Any = None
    validity: _Validity | None = None
    uncertainty: _Uncertainty | None = None
    attention_devices: int | None = None
    ffn_devices: int | None = None


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


def _stage(name: str, table: Any) -> _Stage:
    """Return the curve of a stage and what stands beside it; errors name the stage."""
    struct = {"attention": _Attention, "ffn": _Ffn, "compute": _Ffn}.get(name, _Link)
    extras = struct.__struct_fields__
    every = {field for curve in CURVES.values() for field in curve.field_names()}
    _check_keys(name, table, ("kind", *sorted(every), *extras), ("kind",))
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in CURVES:
        raise LatencyModelError(
            f"kind in [{name}] must be one of {', '.join(CURVES)}, got {kind!r:.60}"
        )
    curve = CURVES[kind]
    known = curve.field_names()
    needed = tuple(field for field in known if field not in curve.may_lack)
    _check_keys(f"{name}] of kind [{kind}", table, ("kind", *known, *extras), needed)
    values = {field: table[field] for field in known if field in table}
    for field, value in values.items():
        if not _is_numeric(value):
            raise LatencyModelError(
                f"{field} in [{name}] must be a number or a list of numbers, got {value!r:.60}"
            )
    try:
        return curve(**values), _converted({k: table[k] for k in extras if k in table}, struct)
    except LatencyModelError as error:
        raise LatencyModelError(f"[{name}] {error}") from None


def stage_curve(name: str, table: Any) -> Curve:
    """Return the curve of a table; `name` is what messages call it.

    Raises
    ------
    LatencyModelError
        If a key is unknown or missing, or a value out of its domain.
    """
    return _stage(name, table)[0]


def _is_numeric(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _converted(table: Any, struct: type[Any]) -> Any:
    try:
        return msgspec.convert(table, struct, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        where = str(error).replace("`$.", "`").replace("Expected", "expected")
        raise LatencyModelError(f"wrong type: {where}") from None


def latency_document(model: LatencyModel) -> dict[str, Any]:
    """Return `model` as the plain document that a latency file holds."""
    document: dict[str, Any] = {
        "schema_version": LATENCY_SCHEMA_VERSION,
        "name": model.name,
        "source": model.source,
        "time_unit": model.time_unit,
        "layers": model.layers,
        "step_overhead": model.step_overhead,
        "tokens_per_step": model.tokens_per_step,
        "drain": model.drain,
        "assumptions": list(model.assumptions),
    }
    for name in ("attention_devices", "ffn_devices"):
        if getattr(model, name) is not None:
            document[name] = getattr(model, name)
    kinds = []
    for kind in model.attention:
        stage = kind.curve.document() | {"time_per_request": kind.time_per_request}
        if kind.time_per_context > 0:
            stage["time_per_context"] = kind.time_per_context
        if kind.context_window is not None:
            stage["context_window"] = kind.context_window
        if len(model.attention) > 1:
            stage["layers"] = kind.layers
        kinds.append(stage)
    document["attention"] = kinds if len(kinds) > 1 else kinds[0]
    if model.layer_order != "blocks":
        order = model.layer_order
        document["layer_order"] = order if isinstance(order, str) else list(order)
    document["ffn"] = model.ffn.document()
    links = {"send": model.send, "receive": model.receive}
    if model.send == model.receive:
        links = {"transfer": model.send}
    for name, link in links.items():
        document[name] = link.curve.document() | {"load": link.load}
    if model.scatter != Scatter():
        document["scatter"] = _changed(model.scatter)
    if model.experts is not None:
        document["experts"] = _changed(model.experts)
    bounds = {
        name: list(value)
        for name in ("attention_tokens", "ffn_tokens", "batch_size")
        if (value := getattr(model.validity, name)) is not None
    }
    if bounds:
        document["validity"] = bounds
    if model.uncertainty is not None:
        known = model.uncertainty
        document["uncertainty"] = {"coefficients": list(known.coefficients)} | (
            {"covariance": known.covariance.tolist()}
            if known.draws is None
            else {"draws": known.draws.tolist()}
        )
    return document


def latency_from_document(document: dict[str, Any], default_name: str) -> LatencyModel:
    """Return the model of a parsed file, the inverse of `latency_document`."""
    known = tuple(_File.__struct_fields__)
    _check_keys("", document, known, ())
    version = document.get("schema_version")
    if version != LATENCY_SCHEMA_VERSION or isinstance(version, bool):
        found = "none" if version is None else f"{version!r:.40}"
        raise LatencyModelError(f"schema_version must be {LATENCY_SCHEMA_VERSION}, got {found}")
    _check_keys("", document, known, ("time_unit", "attention", "ffn"))
    for name, struct in (("validity", _Validity), ("uncertainty", _Uncertainty)):
        if name in document:
            needed = ("coefficients",) if name == "uncertainty" else ()
            _check_keys(name, document[name], struct.__struct_fields__, needed)
    file: _File = _converted(document, _File)
    variations = {
        name: _variation(name, document[name]) for name in _VARIATIONS if name in document
    }
    kinds = file.attention if isinstance(file.attention, list) else [file.attention]
    links: dict[str, _Stage] = {
        name: _stage(name, document[name])
        for name in ("transfer", "send", "receive")
        if name in document
    }
    send, receive = _links(links)
    return LatencyModel(
        name=file.name or default_name,
        time_unit=cast(TimeUnit, file.time_unit),  # the model checks it
        attention=_attention([_stage("attention", kind) for kind in kinds], file.layers),
        ffn=_stage("ffn", file.ffn)[0],
        send=send,
        receive=receive,
        layer_order=cast(LayerOrder, file.layer_order),  # the model checks it
        **variations,
        step_overhead=file.step_overhead,
        tokens_per_step=file.tokens_per_step,
        drain=file.drain,
        validity=Validity(**msgspec.structs.asdict(file.validity or _Validity())),
        source=file.source,
        assumptions=tuple(file.assumptions),
        attention_devices=file.attention_devices,
        ffn_devices=file.ffn_devices,
        uncertainty=None
        if file.uncertainty is None
        else _uncertainty(msgspec.structs.asdict(file.uncertainty)),
    )


def _changed(variation: Any) -> dict[str, Any]:
    """Return what differs from the defaults, tables of numbers as lists."""
    values = ((f.name, getattr(variation, f.name), f.default) for f in fields(variation))
    return {
        name: [list(row) for row in value] if isinstance(value, tuple) else value
        for name, value, default in values
        if value != default
    }


def _variation(name: str, table: Any) -> Any:
    """Return [scatter] or [experts]; errors name the section."""
    kind = _VARIATIONS[name]
    _check_keys(name, table, tuple(f.name for f in fields(kind)), ())
    try:
        return msgspec.convert(table, kind, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise LatencyModelError(f"[{name}] {error}".replace("Expected", "expected")) from None


def _uncertainty(table: Mapping[str, Any]) -> Uncertainty:
    given = {name: table[name] for name in ("covariance", "draws") if table[name] is not None}
    return Uncertainty(coefficients=tuple(table["coefficients"]), **given)


def _attention(stages: list[_Stage], layers: int | None) -> tuple[AttentionLayers, ...]:
    if not stages:
        raise LatencyModelError("attention must be one table or a list of one or more")
    counts = [beside.layers for _, beside in stages]
    if len(stages) == 1:
        if None not in (counts[0], layers) and counts[0] != layers:
            raise LatencyModelError(
                f"layers must agree, got {layers} for the file and {counts[0]} in [attention]"
            )
        counts = [next((n for n in (counts[0], layers) if n is not None), 1)]
    elif None in counts:
        raise LatencyModelError(
            "each of several [[attention]] kinds needs its layers, kind "
            f"{counts.index(None) + 1} has none"
        )
    elif layers is not None and layers != sum(counts):
        raise LatencyModelError(
            f"layers must be the sum over [[attention]], got {layers}, sum {sum(counts)}"
        )
    return tuple(
        AttentionLayers(
            curve=curve,
            layers=count,
            time_per_request=beside.time_per_request,
            time_per_context=beside.time_per_context,
            context_window=beside.context_window,
        )
        for (curve, beside), count in zip(stages, counts, strict=True)
    )


def _links(found: Mapping[str, _Stage]) -> tuple[Transfer, Transfer]:
    """Return both directions of the link; without any, transfers take no time."""
    if "transfer" in found and len(found) > 1:
        raise LatencyModelError("give [transfer] for both directions, or [send] and [receive]")
    if len(found) == 1 and "transfer" not in found:
        missing = "receive" if "send" in found else "send"
        raise LatencyModelError(f"[{missing}] is missing: give both directions, or [transfer]")
    if not found:
        none = Transfer(curve=LinearCurve(slope=0.0, intercept=0.0))
        return none, none
    send, receive = (
        Transfer(curve=curve, load=beside.load)
        for curve, beside in (found.get("transfer") or found[name] for name in ("send", "receive"))
    )
    return send, receive
