"""Which times of a prefill worker fit measured prompts?

With n tokens behind c cached ones in chunks of C, the time is linear in what is sought,

    time = passes * floor + slope * sum over passes (tokens - knee)^+ + pair * pairs(c, c + n)

for a given knee: relative errors are least in squares over non-negative numbers, and every token
count that was measured is tried as the knee. A knee is kept if it brings a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.model import plan_parameters as ask
from afdplan.model.curve import Curve, LinearCurve, RooflineCurve
from afdplan.model.prefill import PairCost, PrefillModel, causal_pairs

__all__ = ["PrefillFit", "fit_prefill"]

FEWEST = 4
BETTER = 0.9
"""Share of the error that a knee must leave at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillFit:
    """A fitted worker and how well it fits.

    Attributes
    ----------
    model
        The worker.
    prompts
        How many were measured.
    median_error, largest_error
        Of the fitted over the measured times, relative.
    """

    model: PrefillModel
    prompts: int
    median_error: float
    largest_error: float


def fit_prefill(
    tokens: npt.ArrayLike,
    times: npt.ArrayLike,
    *,
    cached: npt.ArrayLike = 0,
    name: str = "prefill",
    chunk_tokens: int = ask.PREFILL_CHUNK.default,
    devices: int = 1,
) -> PrefillFit:
    """Return the prefill worker that fits measured prompts.

    Parameters
    ----------
    tokens, cached
        Computed and cached tokens of each prompt, served alone.
    times
        Of each [s].
    name, chunk_tokens, devices
        Of the worker.

    Raises
    ------
    InvalidInputError
        If a value is out of its domain.
    InsufficientDataError
        If fewer than four different prompt lengths were measured.

    Examples
    --------
    >>> tokens = np.array([100, 1000, 2000, 4000, 8000])
    >>> fit = fit_prefill(tokens, 0.01 + 2e-5 * tokens + 1e-10 * tokens * (tokens + 1) / 2)
    >>> fit.model.compute.kind, round(fit.model.compute(1000.0), 6)
    ('linear', 0.03)
    """
    n = np.asarray(tokens, dtype=np.float64)
    taken = np.asarray(times, dtype=np.float64)
    held = np.broadcast_to(np.asarray(cached, dtype=np.float64), n.shape)
    if n.shape != taken.shape or n.ndim != 1 or not np.isfinite(taken).all() or (taken <= 0).any():
        raise InvalidInputError("times must be numbers > 0 [s], one per prompt")
    if (n < 1).any() or (held < 0).any():
        raise InvalidInputError("tokens must be >= 1 and cached tokens >= 0, one per prompt")
    if np.unique(n).size < FEWEST:
        raise InsufficientDataError(
            f"times of at least {FEWEST} different prompt lengths are needed, got "
            f"{np.unique(n).size}"
        )
    whole = np.floor(n / chunk_tokens)
    rest = n - whole * chunk_tokens
    pairs = causal_pairs(held, n)

    def fitted(knee: float) -> tuple[float, FloatArray]:
        from scipy.optimize import nnls

        beyond = whole * max(chunk_tokens - knee, 0.0) + np.maximum(rest - knee, 0.0)
        columns = np.column_stack([whole + (rest > 0), beyond, pairs]) / taken[:, None]
        scale = np.maximum(columns.max(axis=0), 1e-300)
        found, error = nnls(columns / scale, np.ones(n.size))
        return float(error), found / scale

    error, (floor, slope, pair) = fitted(0.0)
    compute: Curve = LinearCurve(intercept=float(floor), slope=float(slope))
    for knee in np.unique(rest[rest > 0])[:-1]:
        lower, (base, rise, cost) = fitted(float(knee))
        if lower < BETTER * error and lower > 0 and rise > 0:
            error, pair = lower, cost
            compute = RooflineCurve(
                floor=float(base), slope=float(rise), intercept=float(base - rise * knee)
            )
    model = PrefillModel(
        name=name,
        compute=compute,
        pairs=(PairCost(time=float(pair)),),
        chunk_tokens=chunk_tokens,
        devices=devices,
        source=f"fitted to {n.size} measured prompts",
        assumptions=("sending the KV cache takes no time: nobody measured it",),
    )
    apart = np.abs(model.times(n, held) / taken - 1)
    return PrefillFit(
        model=model,
        prompts=int(n.size),
        median_error=float(np.median(apart)),
        largest_error=float(apart.max()),
    )
