"""How is a latency model a plain document, and what is read back from one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast, get_args

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.files.latency_stage import Stage, check_keys, converted, read_stage
from afdplan.model.checks import check_choice
from afdplan.model.chosen import chosen
from afdplan.model.coupling import UNCOUPLED, Coupling
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.model.layer_order import LayerOrder
from afdplan.model.parameters import COUPLING
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.model.variation import ExpertLoad, Scatter, ScatterLaw

__all__ = ["LATENCY_SCHEMA_VERSION", "latency_document", "latency_from_document"]

LATENCY_SCHEMA_VERSION = 1
_VARIATIONS: dict[str, type[Any]] = {
    "scatter": Scatter,
    "experts": ExpertLoad,
    "coupling": Coupling,
}


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
    coupling: Any = None
    validity: _Validity | None = None
    uncertainty: _Uncertainty | None = None
    attention_devices: int | None = None
    ffn_devices: int | None = None


def latency_document(model: LatencyModel) -> dict[str, Any]:
    """Return `model` as the plain document that a latency file holds."""
    document: dict[str, Any] = {
        "schema_version": LATENCY_SCHEMA_VERSION,
        **chosen(model, "name source time_unit layers step_overhead tokens_per_step drain"),
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
    if model.coupling != UNCOUPLED:
        document["coupling"] = _changed(model.coupling)
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
    check_keys("", document, known, ())
    version = document.get("schema_version")
    if version != LATENCY_SCHEMA_VERSION or isinstance(version, bool):
        found = "none" if version is None else f"{version!r:.40}"
        raise LatencyModelError(f"schema_version must be {LATENCY_SCHEMA_VERSION}, got {found}")
    check_keys("", document, known, ("time_unit", "attention", "ffn"))
    for name, struct in (("validity", _Validity), ("uncertainty", _Uncertainty)):
        if name in document:
            needed = ("coefficients",) if name == "uncertainty" else ()
            check_keys(name, document[name], struct.__struct_fields__, needed)
    file: _File = converted(document, _File)
    variations = {
        name: _variation(name, document[name]) for name in _VARIATIONS if name in document
    }
    kinds = file.attention if isinstance(file.attention, list) else [file.attention]
    links: dict[str, Stage] = {
        name: read_stage(name, document[name])
        for name in ("transfer", "send", "receive")
        if name in document
    }
    send, receive = _links(links)
    return LatencyModel(
        name=file.name or default_name,
        time_unit=cast(TimeUnit, file.time_unit),  # the model checks it
        attention=_attention([read_stage("attention", kind) for kind in kinds], file.layers),
        ffn=read_stage("ffn", file.ffn)[0],
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
    """Return [scatter], [experts] or [coupling]; errors name the section."""
    kind = _VARIATIONS[name]
    check_keys(name, table, tuple(f.name for f in fields(kind)), ())
    chosen = {one.name: one.choices for one in COUPLING if one.choices}
    for key, choices in (chosen | {"law": get_args(ScatterLaw)}).items():
        if isinstance(table.get(key), str):
            check_choice(f"[{name}] {key}", table[key], choices, LatencyModelError)
    try:
        return msgspec.convert(table, kind, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise LatencyModelError(f"[{name}] {error}".replace("Expected", "expected")) from None


def _uncertainty(table: Mapping[str, Any]) -> Uncertainty:
    given = {name: table[name] for name in ("covariance", "draws") if table[name] is not None}
    return Uncertainty(coefficients=tuple(table["coefficients"]), **given)


def _attention(stages: list[Stage], layers: int | None) -> tuple[AttentionLayers, ...]:
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


def _links(found: Mapping[str, Stage]) -> tuple[Transfer, Transfer]:
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
