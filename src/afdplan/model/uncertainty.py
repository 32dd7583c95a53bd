"""How sure are the coefficients of a latency model?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.errors import LatencyModelError
from afdplan.model.checks import frozen_array

__all__ = ["Uncertainty"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncertainty:
    """Covariance of estimated coefficients, which are taken to err normally.

    Attributes
    ----------
    coefficients
        Names of the uncertain coefficients, as `afdplan.model.latency.coefficients_of` spells
        them: ``attention.slope``, ``ffn.floor``, ``transfer.intercept``, ``ffn.times.3``,
        ``step_overhead``, ... k of them.
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
