"""How unevenly are the experts loaded, as a running system wrote it down?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.report import documented, print_json, tell

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel

__all__ = ["calibrate_experts"]


def calibrate_experts(
    data: Sequence[str],
    prior: LatencyModel | None,
    inputs: dict[str, Any],
    *,
    output: str | None,
    as_json: bool,
) -> None:
    """Tell how the load of experts compares, and give it to the model that `prior` is.

    Parameters
    ----------
    data
        One dump or log.
    prior
        A latency model, whose times are those of experts loaded alike.
    inputs
        What was asked, for JSON.
    output
        Where to write `prior` with the load of its experts; None to tell only.
    as_json
        Whether to print JSON.
    """
    from afdplan.calibration.expert_load import fit_expert_load, with_expert_load
    from afdplan.files.measurements.expert_load import read_expert_load
    from afdplan.report.expert_load import expert_answer, expert_told

    if len(data) > 1:
        raise click.UsageError("give one dump or log of expert loads at a time")
    if output and prior is None:
        raise click.UsageError(
            "expert loads are no times: give the latency model that they belong to with --prior"
        )
    fit = fit_expert_load(read_expert_load(data[0]), prior.experts if prior else None)
    told = expert_told(fit)
    if prior is not None:
        model = with_expert_load(prior, fit)
        told = replace(
            told, warnings=(*told.warnings, *model.assumptions[len(prior.assumptions) :])
        )
        if output:
            from afdplan.files.latency_file import save_latency

            save_latency(model, output)
    if not as_json:
        tell(told)
        return

    print_json(
        documented(
            time_unit=prior.time_unit if prior else "s",
            inputs=inputs,
            warnings=told.warnings,
            answer=expert_answer(fit),
        )
    )
