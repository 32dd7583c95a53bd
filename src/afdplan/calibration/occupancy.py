"""Which share of a transfer keeps the FFN busy, and what does a launch cost, by measured steps?

Event files tell a, f and both transfers of a step, and how long the whole step took. What stages
alone do not explain is fitted: one share s of both transfers that occupies the FFN, and a launch,

    f' = f + launch + s (c_out + c_back)
    step = L max( m a, m f', m max(c_out, c_back), a + f + launch + c_out + c_back )

with the least squares of relative errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.calibration.least_squares import least_squares
from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.model.checks import check_number
from afdplan.model.coupling import Coupling
from afdplan.model.staged_steps import StagedSteps

__all__ = ["OccupancyFit", "fit_occupancy"]


SINGULAR = 1e-10
"""Least share of the larger curvature that the smaller has, for both to be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OccupancyFit:
    """What measured steps say of transfers that occupy the FFN, and of launches.

    Attributes
    ----------
    share, launch
        Share of both transfers that keeps the FFN busy, and the constant of a launch [time].
    share_error, launch_error
        Standard errors; None for a share that was given.
    median_error, worst_error
        Of the fitted steps, relative and unsigned.
    steps
        How many were fitted.
    """

    share: float
    launch: float
    share_error: float | None
    launch_error: float
    median_error: float
    worst_error: float
    steps: int

    @property
    def coupling(self) -> Coupling:
        """The same as a latency model says it."""
        return Coupling(send_ffn=self.share, receive_ffn=self.share, launch=self.launch)


def fit_occupancy(steps: StagedSteps, share: float | None = None) -> OccupancyFit:
    """Return the share of transfers that occupies the FFN and the launch, with errors.

    Parameters
    ----------
    steps
        Two at least, three if the share is sought.
    share
        The share, in [0, 1], where it is known; None to fit it.

    Raises
    ------
    InsufficientDataError
        If the steps cannot tell both apart, or are too few.

    Notes
    -----
    A share and a launch are told apart by transfers that differ in length: where they do not, give
    the share.

    Examples
    --------
    >>> from afdplan.model.staged_steps import StagedSteps
    >>> steps = StagedSteps(
    ...     attention=np.full(3, 2.0), ffn=np.array([5.0, 6.0, 8.0]), send=np.full(3, 0.2),
    ...     receive=np.full(3, 0.2), step=np.array([22.0, 26.0, 34.0]), layers=np.full(3, 2.0),
    ...     microbatches=np.full(3, 2.0))
    >>> round(fit_occupancy(steps, share=1.0).launch, 6)
    0.1
    """
    free = share is None
    if share is not None and check_number("share", share, error=InvalidInputError) > 1:
        raise InvalidInputError(f"share must be at most 1, got {share:g}")
    if steps.step.size < 2 + free:
        raise InsufficientDataError(
            f"a fit needs at least {2 + free} measured steps, got {steps.step.size}"
        )
    scale = float(np.median(steps.ffn + steps.attention))  # launches as shares of a stage

    def residuals(points: FloatArray) -> FloatArray:
        shares = points[:, 1:] if free else np.full((len(points), 1), share)
        return steps.times(shares, points[:, :1] * scale) / steps.step - 1

    corners = np.array([[0.0, 0.0], [1.0, 1.0]])[:, : 1 + free]
    starts = np.array([[0.0, 0.0], [0.05, 1.0], [0.3, 0.5]])[:, : 1 + free]
    found = least_squares(residuals, starts, corners[0], corners[1])
    missed = residuals(found[None])[0]
    width = 1e-6
    slopes = np.stack(
        [(residuals((found + width * way)[None])[0] - missed) / width for way in np.eye(1 + free)]
    )
    curved = slopes @ slopes.T
    if np.linalg.eigvalsh(curved)[0] <= SINGULAR * max(float(np.trace(curved)), SINGULAR):
        raise InsufficientDataError(
            "these steps do not tell launch and occupancy: "
            + (
                "transfers are equally long in all; give the share"
                if free
                else "no step waits for the FFN"
            )
        )
    variance = float((missed**2).sum()) / (missed.size - 1 - free)
    errors = np.sqrt(variance * np.linalg.inv(curved).diagonal())
    return OccupancyFit(
        share=float(found[1]) if free else float(share or 0.0),
        launch=float(found[0]) * scale,
        share_error=float(errors[1]) if free else None,
        launch_error=float(errors[0]) * scale,
        median_error=float(np.median(np.abs(missed))),
        worst_error=float(np.abs(missed).max()),
        steps=missed.size,
    )
