"""Which other latency models are as likely as the estimated one?"""

from __future__ import annotations

import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_count
from afdplan.model.latency import LatencyModel, coefficients_of, stage_curves

__all__ = ["sample_latency"]


def sample_latency(
    model: LatencyModel, generator: np.random.Generator, draws: int
) -> list[LatencyModel]:
    """Return `draws` models whose coefficients are drawn from the model's uncertainty.

    Stored draws are taken evenly as they are (at random beyond their number). Otherwise
    coefficients are normal around their estimates. A draw out of its domain (a negative slope) is
    thrown away and drawn again, unless the curve knows a nearest one (`Curve.nearest`).

    Parameters
    ----------
    model
        A model with an `Uncertainty`; without one every draw is the model itself.
    generator
        Source of randomness.
    draws
        Number of models, >= 1.

    Raises
    ------
    LatencyModelError
        If fewer than one draw in a hundred is within the domain: then the fit says next to
        nothing about a coefficient, and an interval would be made up.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from afdplan.model.uncertainty import Uncertainty
    >>> model = LatencyModel.linear(attention=(1.0, 2.0), ffn=(3.0, 4.0))
    >>> model = replace(model, uncertainty=Uncertainty(
    ...     coefficients=("ffn.slope",), covariance=[[0.01]]))
    >>> slopes = [draw.ffn.slope for draw in sample_latency(model, np.random.default_rng(1), 200)]
    >>> bool(abs(np.mean(slopes) - 3.0) < 0.05 and abs(np.std(slopes) - 0.1) < 0.02)
    True
    """
    draws = check_count("draws", draws)
    if model.uncertainty is None:
        return [model] * draws
    names = model.uncertainty.coefficients
    stored = model.uncertainty.draws
    if stored is not None:
        rows = np.linspace(0, len(stored) - 1, draws).round().astype(int)
        if draws > len(stored):
            rows = generator.integers(len(stored), size=draws)
        return [
            model.with_coefficients(dict(zip(names, row, strict=True)))
            for row in stored[rows].tolist()
        ]
    known = coefficients_of(model)
    mean = np.array([known[name] for name in names])
    covariance = model.uncertainty.covariance
    deviation = np.sqrt(np.diag(covariance))
    scale = np.where(deviation > 0, deviation, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    factor = scale[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
    at = {name: k for k, name in enumerate(names)}
    curves = [
        (
            curve,
            {name: at[full] for name in curve.coefficients() if (full := f"{stage}.{name}") in at},
        )
        for stage, curve in stage_curves(model).items()
    ]
    found: list[LatencyModel] = []
    for _ in range(100 * draws):
        point = mean + factor @ generator.standard_normal(mean.size)
        changes = dict(zip(names, point.tolist(), strict=True))
        for curve, members in curves:
            drawn = curve.nearest({name: point[k] for name, k in members.items()})
            changes |= {names[members[name]]: value for name, value in drawn.items()}
        try:
            found.append(model.with_coefficients(changes))
        except LatencyModelError:
            continue
        if len(found) == draws:
            return found
    raise LatencyModelError(
        "the stored uncertainty puts fewer than one draw in a hundred within the domain "
        f"({len(found)} of {100 * draws}): calibrate with more data"
    )
