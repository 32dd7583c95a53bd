"""What does a report page show of a calibration: fitted curves and what they miss?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from afdplan.calibration.stage import StageFit
from afdplan.calibration.sweep import SweepFit
from afdplan.plotting.calibrate import ratio_grid_of, residual_panels
from afdplan.plotting.figure import Axis, Chart, Figure, Layer, Role

__all__ = ["stage_figures", "sweep_figures"]

FloatArray = npt.NDArray[np.float64]
MOST_DOTS = 600
"""More than an eye tells apart, and every one costs the reader's machine."""


def stage_figures(fits: Sequence[StageFit], time_unit: str) -> tuple[Figure, ...]:
    """Return two figures per stage: curve over measurements, and relative errors.

    Parameters
    ----------
    fits
        The fitted stages.
    time_unit
        ``s`` (shown in microseconds) or ``abstract``.
    """
    scale, unit = (1e6, "us") if time_unit == "s" else (1.0, "abstract")
    figures: list[Figure] = []
    for panel in residual_panels(fits):
        role: Role = "attention" if panel.stage == "attention" else "communication"
        if panel.stage == "ffn":
            role = "ffn"
        name = "FFN" if panel.stage == "ffn" else panel.stage
        shown = _spread(panel.loads)
        loads = panel.loads[shown]
        wide = loads.min() > 0 and loads.max() > 20 * loads.min()
        axis = Axis(
            label="KV tokens" if panel.stage == "attention" else "tokens",
            scale="log" if wide else "linear",
        )
        words = [
            f"{load:,.6g} tokens: {scale * measured:,.4g} {unit}, {error:+.1f} % off the curve"
            for load, measured, error in zip(
                loads, panel.times[shown], panel.residuals[shown], strict=True
            )
        ]
        few = (
            ""
            if shown.size == panel.loads.size
            else (f" {shown.size} of {panel.loads.size:,} measurements are shown, evenly by load.")
        )
        figures.append(
            Figure(
                identifier=f"fit-{panel.stage}".replace("_", "-"),
                title=f"{name}: {panel.form}",
                caption="The fitted curve with its 95 % interval, over what was measured." + few,
                charts={
                    "": Chart(
                        x=axis,
                        y=Axis(label=f"time [{unit}]", from_zero=True),
                        layers=[
                            Layer(
                                kind="band",
                                name="95 % interval of the curve",
                                role="best",
                                columns={
                                    "x": panel.curve_loads,
                                    "low": scale * panel.curve_low,
                                    "high": scale * panel.curve_high,
                                },
                            ),
                            Layer(
                                kind="dot",
                                name="measured",
                                role=role,
                                columns={"x": loads, "y": scale * panel.times[shown]},
                                words=words,
                            ),
                            Layer(
                                kind="line",
                                name="fitted",
                                role="best",
                                columns={
                                    "x": panel.curve_loads,
                                    "y": scale * panel.curve_times,
                                },
                            ),
                        ],
                    )
                },
            )
        )
        figures.append(
            _residual_figure(
                f"residual-{panel.stage}".replace("_", "-"),
                f"{name}: what the curve misses",
                axis,
                loads,
                panel.residuals[shown],
                panel.band,
                words,
                role,
            )
        )
    return tuple(figures)


def sweep_figures(fit: SweepFit) -> tuple[Figure, ...]:
    """Return measured and fitted step times over the ratio, and relative errors."""
    ratio = fit.sweep.attention_workers / fit.sweep.ffn_workers
    grid = ratio_grid_of(fit.sweep)
    at = grid.attention_workers / grid.ffn_workers
    order = np.argsort(at, kind="stable")
    predicted = fit.predict(grid)
    value, low, high = (
        1e3 * np.array([getattr(estimate, name) for estimate in predicted])[order]
        for name in ("value", "low", "high")
    )
    measured = 1e3 * fit.sweep.step_times
    axis = Axis(label="attention workers per FFN worker", head="A/F =")
    words = [
        f"{count:g} to {ffn:g}: {step:,.4g} ms, {100 * error:+.1f} % off the fit"
        for count, ffn, step, error in zip(
            fit.sweep.attention_workers,
            fit.sweep.ffn_workers,
            measured,
            fit.residuals,
            strict=True,
        )
    ]
    return (
        Figure(
            identifier="sweep",
            title="Step time over the ratio",
            caption=f"The {fit.maximum} maximum of attention, FFN and round trip, with its 95 % "
            "interval, over what was measured.",
            charts={
                "": Chart(
                    x=axis,
                    y=Axis(label="step time [ms]", from_zero=True),
                    layers=[
                        Layer(
                            kind="band",
                            name="95 % interval",
                            role="neutral",
                            columns={"x": at[order], "low": low, "high": high},
                        ),
                        Layer(
                            kind="line",
                            name="fitted",
                            role="best",
                            columns={"x": at[order], "y": value},
                        ),
                        Layer(
                            kind="dot",
                            name="measured",
                            columns={"x": ratio, "y": measured},
                            words=words,
                        ),
                    ],
                )
            },
        ),
        _residual_figure(
            "residual",
            "What the fit misses",
            axis,
            ratio,
            100 * fit.residuals,
            200 * fit.noise,
            words,
            "main",
        ),
    )


def _spread(loads: FloatArray) -> npt.NDArray[np.intp]:
    """Return at most `MOST_DOTS` indices, evenly by the rank of their load."""
    order = np.argsort(loads, kind="stable")
    if order.size <= MOST_DOTS:
        return order
    return order[np.linspace(0, order.size - 1, MOST_DOTS).round().astype(np.intp)]


def _residual_figure(
    identifier: str,
    title: str,
    axis: Axis,
    loads: FloatArray,
    errors: FloatArray,
    band: float,
    words: Sequence[str],
    role: Role,
) -> Figure:
    ends = [float(loads.min()), float(loads.max())]
    return Figure(
        identifier=identifier,
        title=title,
        caption="Relative error of each measurement; the band is twice the noise.",
        charts={
            "": Chart(
                x=axis,
                y=Axis(label="measured / fitted - 1 [%]", from_zero=True),
                layers=[
                    Layer(
                        kind="band",
                        name="twice the noise",
                        role="neutral",
                        columns={"x": ends, "low": [-band] * 2, "high": [band] * 2},
                    ),
                    Layer(kind="rule_y", role="neutral", columns={"y": [0]}),
                    Layer(
                        kind="dot",
                        name="measured",
                        role=role,
                        columns={"x": loads, "y": errors},
                        words=words,
                    ),
                ],
                height=220,
            )
        },
    )
