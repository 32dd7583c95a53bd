"""Whom do transfers occupy, and what does a launch cost, by measured steps?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.report import documented, print_json, tell

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel, TimeUnit

__all__ = ["calibrate_coupling"]


def calibrate_coupling(
    data: Sequence[str], prior: LatencyModel | None, inputs: dict[str, Any], options: dict[str, Any]
) -> None:
    """Tell the share of transfers that occupies the FFN and the launch; give them to `prior`.

    Parameters
    ----------
    data
        One table of steps with the times of their stages.
    prior
        A latency model without either.
    inputs
        What was asked, for JSON.
    options
        Of the command.
    """
    from afdplan.calibration.occupancy import fit_occupancy
    from afdplan.files.measurements.staged_steps import read_staged_steps
    from afdplan.report.occupancy import occupancy_answer, occupancy_told

    if len(data) > 1:
        raise click.UsageError("give one table of steps and their stages at a time")
    if options["output"] and prior is None:
        raise click.UsageError(
            "a coupling is no latency model: give the one that it belongs to with --prior"
        )
    unit = options["time_unit"]
    steps = read_staged_steps(
        data[0],
        time_unit=unit,
        layers=options["layers"],
        microbatches=options["microbatches"] or 2,
    )
    occupied = options["occupied"]
    fit = fit_occupancy(steps, occupied)
    told_unit: TimeUnit = "abstract" if unit == "abstract" else "s"
    if options["output"] and prior is not None:
        from afdplan.files.latency_file import save_latency

        found = {
            name: getattr(fit.coupling, name) for name in ("send_ffn", "receive_ffn", "launch")
        }
        save_latency(replace(prior, coupling=replace(prior.coupling, **found)), options["output"])
    told = occupancy_told(fit, data[0], told_unit)
    if not options["as_json"]:
        tell(told)
        return

    print_json(
        documented(
            time_unit=told_unit,
            inputs=inputs,
            warnings=told.warnings,
            answer=occupancy_answer(fit),
        )
    )
