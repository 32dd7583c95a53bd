"""How sure are the coefficients of a latency model, and which other models are as likely?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_count, frozen_array
from afdplan.model.curve import Curve, TabulatedCurve

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel

__all__ = ["Uncertainty", "coefficients_of", "replace_coefficients", "sample_latency"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncertainty:
    """Covariance of estimated coefficients, which are taken to err normally.

    Attributes
    ----------
    coefficients
        Names of the uncertain coefficients, as `coefficients_of` spells them: ``attention.slope``,
        ``ffn.floor``, ``transfer.intercept``, ``ffn.times.3``, ``step_overhead``, ... k of them.
    covariance
        Their covariance [products of their units], symmetric and positive semidefinite,
        shape (k, k).

    Raises
    ------
    LatencyModelError
        If a name is given twice or the matrix is no covariance.

    Examples
    --------
    >>> known = Uncertainty(coefficients=("ffn.slope",), covariance=[[0.04]])
    >>> known.standard_errors
    {'ffn.slope': 0.2}
    """

    coefficients: tuple[str, ...]
    covariance: FloatArray

    def __post_init__(self) -> None:
        error = LatencyModelError
        names = tuple(self.coefficients)
        if not names or not all(isinstance(name, str) for name in names):
            raise error("uncertainty coefficients must be one or more names")
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise error(f"uncertainty coefficients must be named once, got {min(twice)} twice")
        try:
            matrix = frozen_array(self.covariance, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise error("uncertainty covariance must be a square matrix of numbers") from None
        if matrix.shape != (len(names), len(names)):
            raise error(
                f"uncertainty covariance must have shape ({len(names)}, {len(names)}) for "
                f"{len(names)} coefficients, got {matrix.shape}"
            )
        if not np.isfinite(matrix).all():
            raise error("uncertainty covariance must be finite")
        variances = np.diag(matrix)
        if (variances < 0).any():
            at = int(np.argmax(variances < 0))
            raise error(f"uncertainty variance of {names[at]} must be >= 0, got {variances[at]:g}")
        # Coefficients differ by orders of magnitude: judge the matrix as correlations.
        scale = np.sqrt(np.where(variances > 0, variances, 1.0))
        correlation = matrix / np.outer(scale, scale)
        if not np.allclose(correlation, correlation.T, rtol=0, atol=1e-8):
            raise error("uncertainty covariance must be symmetric")
        if np.linalg.eigvalsh(correlation).min() < -1e-6:
            raise error(
                "uncertainty covariance must be positive semidefinite: a correlation exceeds 1"
            )
        object.__setattr__(self, "coefficients", names)
        object.__setattr__(self, "covariance", matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Uncertainty):
            return NotImplemented
        return self.coefficients == other.coefficients and np.array_equal(
            self.covariance, other.covariance
        )

    def __hash__(self) -> int:
        return hash((self.coefficients, self.covariance.tobytes()))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard error of each coefficient [its unit]."""
        errors = np.sqrt(np.diag(self.covariance))
        return dict(zip(self.coefficients, errors.tolist(), strict=True))

    def scaled(self, factor: float) -> Uncertainty:
        """Return the uncertainty of the same coefficients with all times times `factor`."""
        return Uncertainty(
            coefficients=self.coefficients, covariance=self.covariance * factor * factor
        )


def _curve_coefficients(curve: Curve) -> dict[str, float]:
    if isinstance(curve, TabulatedCurve):
        return {f"times.{k + 1}": float(time) for k, time in enumerate(curve.times)}
    names = ("floor", "slope", "intercept")
    return {name: getattr(curve, name) for name in names if hasattr(curve, name)}


def coefficients_of(model: LatencyModel) -> dict[str, float]:
    """Return every coefficient of `model` that has the unit of a time, by its dotted name.

    Attention of one kind is ``attention.slope``; of several kinds ``attention.1.slope``,
    ``attention.2.slope``, ... in their order. Where both directions of the link are equal,
    ``transfer.slope`` stands for both, beside ``send.slope`` and ``receive.slope``. Entries of a
    table are ``ffn.times.1``, ``ffn.times.2``, ...

    Parameters
    ----------
    model
        The model to read.

    Examples
    --------
    >>> from afdplan.model.latency import LatencyModel
    >>> model = LatencyModel.linear(attention=(1.0, 2.0), ffn=(3.0, 4.0), transfer=(5.0, 6.0))
    >>> found = coefficients_of(model)
    >>> found["attention.slope"], found["ffn.intercept"], found["transfer.slope"]
    (1.0, 4.0, 5.0)
    """
    found: dict[str, float] = {}
    for k, kind in enumerate(model.attention):
        prefix = "attention" if len(model.attention) == 1 else f"attention.{k + 1}"
        inner = {**_curve_coefficients(kind.curve), "time_per_request": kind.time_per_request}
        found |= {f"{prefix}.{name}": value for name, value in inner.items()}
    stages = {"ffn": model.ffn, "send": model.send.curve, "receive": model.receive.curve}
    if model.send == model.receive:
        stages["transfer"] = model.send.curve
    for prefix, curve in stages.items():
        found |= {f"{prefix}.{name}": value for name, value in _curve_coefficients(curve).items()}
    found["step_overhead"] = model.step_overhead
    return found


def check_coefficients(model: LatencyModel, names: tuple[str, ...] | list[str]) -> None:
    """Raise `LatencyModelError` if `model` has no coefficient of one of these `names`."""
    known = coefficients_of(model)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise LatencyModelError(
                f"the latency model has no coefficient {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}")
            )


def _replace_curve(curve: Curve, prefix: str, values: Mapping[str, float]) -> Curve:
    changes = {
        name: values[f"{prefix}.{name}"]
        for name in _curve_coefficients(curve)
        if f"{prefix}.{name}" in values
    }
    if not changes:
        return curve
    if isinstance(curve, TabulatedCurve):
        times = curve.times.copy()
        for name, value in changes.items():
            times[int(name.removeprefix("times.")) - 1] = value
        return replace(curve, times=times)
    rebuilt: Curve = replace(curve, **changes)  # type: ignore[arg-type]  # names are its fields
    return rebuilt


def replace_coefficients(model: LatencyModel, values: Mapping[str, float]) -> LatencyModel:
    """Return `model` with the named coefficients changed.

    Its uncertainty stays, unless it speaks of ``transfer`` and the two directions now differ.

    Parameters
    ----------
    model
        The model to change.
    values
        New value of each named coefficient; names as `coefficients_of` gives them.

    Raises
    ------
    LatencyModelError
        If a name is unknown or a value is out of its domain.
    """
    check_coefficients(model, list(values))
    kinds = []
    for k, kind in enumerate(model.attention):
        prefix = "attention" if len(model.attention) == 1 else f"attention.{k + 1}"
        per_request = values.get(f"{prefix}.time_per_request", kind.time_per_request)
        curve = _replace_curve(kind.curve, prefix, values)
        kinds.append(replace(kind, curve=curve, time_per_request=per_request))
    send, receive = model.send, model.receive
    for prefix in ("transfer", "send"):
        send = replace(send, curve=_replace_curve(send.curve, prefix, values))
    for prefix in ("transfer", "receive"):
        receive = replace(receive, curve=_replace_curve(receive.curve, prefix, values))
    changed = replace(
        model,
        attention=tuple(kinds),
        ffn=_replace_curve(model.ffn, "ffn", values),
        send=send,
        receive=receive,
        step_overhead=values.get("step_overhead", model.step_overhead),
        uncertainty=None,
    )
    known = model.uncertainty
    if known is None or not set(known.coefficients) <= coefficients_of(changed).keys():
        return changed
    return replace(changed, uncertainty=known)


def sample_latency(
    model: LatencyModel, generator: np.random.Generator, draws: int
) -> list[LatencyModel]:
    """Return `draws` models whose coefficients are drawn from the model's uncertainty.

    Coefficients are normal around their estimates. A draw out of its domain (a negative slope) is
    thrown away and drawn again; the times of a table are instead made monotone by the same
    isotonic regression that fits them, for independent errors on a plateau would almost never be.

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
    >>> from afdplan.model.latency import LatencyModel
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
    known = coefficients_of(model)
    mean = np.array([known[name] for name in names])
    covariance = model.uncertainty.covariance
    deviation = np.sqrt(np.diag(covariance))
    scale = np.where(deviation > 0, deviation, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    factor = scale[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
    tables: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        stage, table, _ = name.partition(".times.")
        if table:
            tables.setdefault(stage, []).append(k)
    found: list[LatencyModel] = []
    for _ in range(100 * draws):
        point = mean + factor @ generator.standard_normal(mean.size)
        for members in tables.values():
            point[members] = _monotone(point[members])
        try:
            model_drawn = replace_coefficients(model, dict(zip(names, point.tolist(), strict=True)))
        except LatencyModelError:
            continue
        found.append(model_drawn)
        if len(found) == draws:
            return found
    raise LatencyModelError(
        "the stored uncertainty puts fewer than one draw in a hundred within the domain "
        f"({len(found)} of {100 * draws}): calibrate with more data"
    )


def _monotone(times: FloatArray) -> FloatArray:
    from scipy.optimize import isotonic_regression

    fitted: FloatArray = np.maximum(isotonic_regression(times).x, 0.0)
    return fitted
