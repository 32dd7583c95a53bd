"""How are occupied workers and launches, fitted to measured steps, told?"""

from __future__ import annotations

from typing import Any

from afdplan.calibration.occupancy import OccupancyFit
from afdplan.model.chosen import chosen
from afdplan.model.latency import TimeUnit
from afdplan.report.quantities import counted, share, time
from afdplan.report.telling import Fact, Telling

__all__ = ["occupancy_answer", "occupancy_told"]

UNSURE = 0.25
"""Standard error of the share from which it is better given than fitted."""


def occupancy_answer(fit: OccupancyFit) -> dict[str, Any]:
    """Return what ``afdplan calibrate --coupling --json`` says."""
    return {
        "occupied_share": fit.share,
        "occupied_share_error": fit.share_error,
        **chosen(fit, "launch launch_error steps median_error worst_error"),
    }


def occupancy_told(fit: OccupancyFit, source: str, time_unit: TimeUnit) -> Telling:
    """Return the share, the launch, their errors, and how well they explain the steps."""
    launch, error = (time(value, time_unit) for value in (fit.launch, fit.launch_error))
    given = "as given" if fit.share_error is None else f"standard error {share(fit.share_error)}"
    unsure = fit.share_error is not None and fit.share_error > UNSURE
    return Telling(
        subject=source,
        answer=f"Transfers keep the FFN busy for {share(fit.share)} of their time, and each launch "
        f"takes {launch} more.",
        facts=(
            Fact("Share", f"{share(fit.share)}, {given}"),
            Fact("Launch", f"{launch}, standard error {error}"),
            Fact(
                "Explained",
                f"{counted(fit.steps, 'step')} to {share(fit.median_error)} in the middle, "
                f"{share(fit.worst_error)} worst",
            ),
        ),
        warnings=(
            "the steps hardly tell the share from the launch, transfers are too alike: give the "
            "share with --occupied",
        )
        if unsure
        else (),
    )
