"""Which latency model fits what was measured, and how is it told and drawn?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.model import parameters as ask
from afdplan.model.chosen import picked

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel
    from afdplan.model.measurement import Measurements
    from afdplan.model.sweep import RatioSweep
    from afdplan.report.page import Section
    from afdplan.report.telling import Telling

__all__ = ["FORMS", "Fit", "fit_points", "fit_stages"]

FORMS = ("auto", "linear", "per-request", "roofline", "table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A calibrated model, and how to tell it; its sections wait until someone wants them."""

    model: LatencyModel
    told: Telling
    answer: dict[str, Any]
    sections: Callable[[], tuple[Section, ...]]


def fit_points(
    points: RatioSweep, name: str, prior: LatencyModel | None, options: dict[str, Any]
) -> Fit:
    """Return the model that fits a sweep; what was not measured comes from `prior`."""
    from afdplan.calibration.best_ratio import best_ratio
    from afdplan.calibration.sweep import fit_sweep
    from afdplan.calibration.sweep_model import sweep_latency_model
    from afdplan.report.calibrate import sweep_answer, sweep_told

    fit = fit_sweep(
        points,
        **picked(options, "layers step_overhead maximum transfer_time noise"),
        prior=prior,
    )
    model = sweep_latency_model(fit, name=name, tokens_per_step=options["tokens_per_step"])
    model = _with_devices(model, options)
    best = best_ratio(fit, model.ffn_weight or 1.0)

    def sections() -> tuple[Section, ...]:
        from afdplan.report.page_calibrate import sweep_sections

        return sweep_sections(fit)

    return Fit(
        model=model,
        told=sweep_told(fit, model, best, points.notes),
        answer=sweep_answer(fit, model, best),
        sections=sections,
    )


def fit_stages(
    parts: list[Measurements], name: str, prior: LatencyModel | None, options: dict[str, Any]
) -> Fit:
    """Return the model of the stages measured; the others come from `prior`."""
    from afdplan.calibration.assemble import assemble
    from afdplan.calibration.gather import gather, suspect_units
    from afdplan.calibration.stage import fit_stage
    from afdplan.report.calibrate import fit_answer, fit_told, fit_warnings

    together = gather(parts)
    stages = [samples for samples in together.stages if samples.stage != "step"]
    forms = _by_stage("form", options["forms"], [s.stage for s in stages])
    windows = _by_stage("window", options["windows"], [s.stage for s in stages])
    for form in forms.values():
        if form not in FORMS:
            raise click.UsageError(f"--form must be one of {', '.join(FORMS)}, got {form!r}")
    fits = [
        fit_stage(
            samples,
            form=forms.get(samples.stage, "auto"),  # type: ignore[arg-type]  # checked above
            window=_window(windows[samples.stage]) if samples.stage in windows else None,
        )
        for samples in stages
    ]
    model = assemble(
        fits,
        name=name,
        time_unit=together.time_unit,
        source=together.source,
        **picked(options, "layers transfer_load step_overhead tokens_per_step"),
        prior=prior,
    )
    model = _with_devices(model, options)
    warnings = suspect_units(together, options["layers"]) + fit_warnings(fits)
    notes = list(together.notes)
    if len(stages) < len(together.stages):
        notes.append("Whole steps among the stages are not used.")

    def sections() -> tuple[Section, ...]:
        from afdplan.report.page_calibrate import stage_sections

        return stage_sections(fits, model)

    return Fit(
        model=model,
        told=fit_told(fits, model, warnings, notes),
        answer=fit_answer(fits, model),
        sections=sections,
    )


def _with_devices(model: LatencyModel, options: dict[str, Any]) -> LatencyModel:
    """Return a model that knows the devices per worker that were said."""
    given = {one.key: options[one.key] for one in ask.DEVICES_PER_WORKER}
    said = {key: devices for key, devices in given.items() if devices is not None}
    known = replace(model, **said)
    if said and known.ffn_weight is None:
        raise click.UsageError("give both --attention-devices and --ffn-devices, or neither")
    return known


def _by_stage(option: str, given: Sequence[str], stages: Sequence[str]) -> dict[str, str]:
    """Return the value of each stage from ``VALUE`` (all stages) and ``STAGE=VALUE``."""
    chosen: dict[str, str] = {}
    for text in sorted(given, key=lambda text: "=" in text):
        stage, equals, value = text.partition("=")
        if not equals:
            chosen.update(dict.fromkeys(stages, stage))
        elif stage in stages:
            chosen[stage] = value
        else:
            raise click.UsageError(
                f"--{option} {text}: the data hold {', '.join(stages)}, not {stage}"
            )
    return chosen


def _window(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (1.0, 0.0)
    if not dots or not 0 <= bounds[0] <= bounds[1]:
        raise click.UsageError(f"--window must be LOW..HIGH with 0 <= LOW <= HIGH, got {text!r}")
    return bounds
