"""What does a latency file hold for a given model?"""

from __future__ import annotations

from typing import Any

from afdplan.model.curve import Curve, RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel

__all__ = ["LATENCY_SCHEMA_VERSION", "latency_document"]

LATENCY_SCHEMA_VERSION = 1


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
        stage = _curve_document(kind.curve) | {"time_per_request": kind.time_per_request}
        if kind.context_window is not None:
            stage["context_window"] = kind.context_window
        if len(model.attention) > 1:
            stage["layers"] = kind.layers
        kinds.append(stage)
    document["attention"] = kinds if len(kinds) > 1 else kinds[0]
    document["ffn"] = _curve_document(model.ffn)
    links = {"send": model.send, "receive": model.receive}
    if model.send == model.receive:
        links = {"transfer": model.send}
    for name, link in links.items():
        document[name] = _curve_document(link.curve) | {"load": link.load}
    bounds = {
        name: list(value)
        for name in ("attention_tokens", "ffn_tokens", "batch_size")
        if (value := getattr(model.validity, name)) is not None
    }
    if bounds:
        document["validity"] = bounds
    if model.uncertainty is not None:
        document["uncertainty"] = {
            "coefficients": list(model.uncertainty.coefficients),
            "covariance": model.uncertainty.covariance.tolist(),
        }
    return document


def _curve_document(curve: Curve) -> dict[str, Any]:
    if isinstance(curve, TabulatedCurve):
        return {"kind": "table", "loads": curve.loads.tolist(), "times": curve.times.tolist()}
    if isinstance(curve, RooflineCurve):
        return {
            "kind": "roofline",
            "floor": curve.floor,
            "slope": curve.slope,
            "intercept": curve.intercept,
        }
    return {"kind": "linear", "slope": curve.slope, "intercept": curve.intercept}
