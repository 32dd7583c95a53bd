"""How sure are the coefficients of a latency model?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.model.checks import frozen_array

__all__ = ["Uncertainty"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncertainty:
    """How estimated coefficients err: normally with a covariance, or as draws from their law.

    Attributes
    ----------
    coefficients
        Names of the uncertain coefficients, as `afdplan.model.latency.coefficients_of` spells
        them: ``attention.slope``, ``ffn.floor``, ``transfer.intercept``, ``ffn.times.3``,
        ``step_overhead``, ... k of them.
    covariance
        Their covariance [products of their units], symmetric and positive semidefinite,
        shape (k, k); that of the draws, if those are given.
    draws
        Values as likely as the estimate [their units], shape (n, k), n >= 2: for laws that no
        covariance describes. None: the coefficients are normal.

    Raises
    ------
    LatencyModelError
        If a name is given twice, the matrix is no covariance, or both or neither are given.

    Examples
    --------
    >>> known = Uncertainty(coefficients=("ffn.slope",), covariance=[[0.04]])
    >>> known.standard_errors
    {'ffn.slope': 0.2}
    """

    coefficients: tuple[str, ...]
    covariance: FloatArray = field(default_factory=lambda: np.empty(0))
    draws: FloatArray | None = None

    def __post_init__(self) -> None:
        error = LatencyModelError
        names = tuple(self.coefficients)
        if not names or not all(isinstance(name, str) for name in names):
            raise error("uncertainty coefficients must be one or more names")
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise error(f"uncertainty coefficients must be named once, got {min(twice)} twice")
        if (self.draws is None) == (np.size(self.covariance) == 0):
            raise error("uncertainty needs a covariance or draws, one of the two")
        if self.draws is not None:
            object.__setattr__(self, "draws", _checked_draws(self.draws, len(names)))
            object.__setattr__(self, "covariance", np.atleast_2d(np.cov(self.draws, rowvar=False)))
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
        same = self.coefficients == other.coefficients
        if self.draws is None or other.draws is None:
            same = same and self.draws is None and other.draws is None
            return same and np.array_equal(self.covariance, other.covariance)
        return same and np.array_equal(self.draws, other.draws)

    def __hash__(self) -> int:
        return hash((self.coefficients, self.covariance.tobytes()))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard error of each coefficient [its unit]."""
        errors = np.sqrt(np.diag(self.covariance))
        return dict(zip(self.coefficients, errors.tolist(), strict=True))

    def scaled(self, factor: float) -> Uncertainty:
        """Return the uncertainty of the same coefficients with all times times `factor`."""
        if self.draws is not None:
            return Uncertainty(coefficients=self.coefficients, draws=self.draws * factor)
        return Uncertainty(
            coefficients=self.coefficients, covariance=self.covariance * factor * factor
        )


def _checked_draws(draws: Any, size: int) -> FloatArray:
    try:
        found = frozen_array(draws, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise LatencyModelError("uncertainty draws must be rows of numbers") from None
    if found.ndim != 2 or found.shape[0] < 2 or found.shape[1] != size:
        raise LatencyModelError(
            f"uncertainty draws must be 2 or more rows of {size} numbers, got shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise LatencyModelError("uncertainty draws must be finite")
    return found
