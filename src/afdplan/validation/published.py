"""What does the model say of systems that others have measured?

Each system is calibrated on a stated subset of what was published; the rest is predicted.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from afdplan.calibration.sweep import fit_sweep
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.sweep import RatioSweep
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem

__all__ = ["PublishedPoint", "PublishedSystem", "published_systems"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPoint:
    """One measured design beside the model.

    Attributes
    ----------
    ratio
        As published, for example ``7:1``.
    measured, predicted
        Step time [s].
    is_calibration
        Whether the model was fitted to this very point.
    """

    ratio: str
    measured: float
    predicted: float
    is_calibration: bool

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSystem:
    """One publication.

    Attributes
    ----------
    title, setup, source, url
        What and where.
    calibration
        What the model was given.
    points
        Measured designs; empty where the model cannot be compared.
    regret
        Share of the best measured throughput lost at the ratio that the model picks among the
        measured ones; None with fewer than two.
    note
        What must be known to read the row.
    """

    title: str
    setup: str
    source: str
    url: str
    calibration: str
    points: tuple[PublishedPoint, ...]
    regret: float | None
    note: str

    @property
    def largest_error(self) -> float | None:
        """Signed step-time error that is largest by size among the predicted points."""
        errors = [point.error for point in self.points if not point.is_calibration]
        return max(errors, key=abs) if errors else None


def published_systems() -> list[PublishedSystem]:
    """Return every published system beside the model.

    Examples
    --------
    >>> system = published_systems()[0]
    >>> [point.ratio for point in system.points if not point.is_calibration]
    ['7:1', '15:1']
    """
    text = (files("afdplan.data") / "measurements" / "published.toml").read_text("utf-8")
    data = tomllib.loads(text)
    return [
        _sweep(data["fastafd-qwen3-235b"]),
        _breakdown(data["xdeepserve-deepseek-r1"]),
        _impossible(data["afd-plugin-deepseek-v32"]),
    ]


def _sweep(facts: dict[str, Any]) -> PublishedSystem:
    """Fit the model on some ratios of a sweep, predict the others."""
    units = np.array(facts["attention_units"])
    times = np.array(facts["step_ms"]) * 1e-3
    given = np.isin(units, facts["calibrated_on"])

    def points(chosen: np.ndarray) -> RatioSweep:
        return RatioSweep(
            attention_workers=units[chosen],
            ffn_workers=facts["ffn_units"],
            batch_size=facts["batch_size"],
            microbatches=facts["microbatches"],
            mean_tokens=facts["mean_tokens"],
            step_times=times[chosen],
        )

    fit = fit_sweep(points(given), layers=facts["layers"])
    predicted = np.array([e.value for e in fit.predict(points(np.ones_like(given)))])
    share = units / (units + facts["ffn_units"])
    measured_throughput = share / times
    picked = int(np.argmax(share / predicted))
    return PublishedSystem(
        **_named(facts),
        calibration="step times at ratios "
        + ", ".join(f"{a}:{facts['ffn_units']}" for a in facts["calibrated_on"]),
        points=tuple(
            PublishedPoint(
                ratio=f"{a}:{facts['ffn_units']}",
                measured=float(time),
                predicted=float(value),
                is_calibration=bool(is_given),
            )
            for a, time, value, is_given in zip(units, times, predicted, given, strict=True)
        ),
        regret=float(1 - measured_throughput[picked] / measured_throughput.max()),
        note="equal lengths, all requests aligned: no barrier of random loads in it; "
        "15:1 was read off a figure",
    )


def _breakdown(facts: dict[str, Any]) -> PublishedSystem:
    """Predict one step from the published times of its stages."""
    # The domains take turns on the experts, which all of them together keep half busy: a trip
    # sees one service of the experts, not three.
    latency = LatencyModel.linear(
        attention=(0.0, facts["attention_ms"] * 1e-3),
        ffn=(0.0, facts["ffn_ms"] * 1e-3),
        layers=facts["layers"],
        time_unit="s",
        step_overhead=facts["overhead_ms"] * 1e-3,
        tokens_per_step=facts["tokens_per_step"],
    )
    trips = {"send": facts["send_ms"], "receive": facts["receive_ms"]}
    latency = latency.with_coefficients(
        {f"{name}.intercept": value * 1e-3 for name, value in trips.items()}
    )
    problem = RatioProblem(
        law=IndependentLengths(prompt="2048", decode="2048"),
        latency=latency,
        batch_size=facts["batch_size"],
        microbatches=facts["microbatches"],
    )
    workers = np.array([float(facts["attention_workers"] / facts["domains"])])
    step = float(CycleModel(problem, problem.slot_loads()).evaluate(workers).mean[0])
    dies = facts["attention_workers"] + facts["ffn_workers"]
    requests = facts["attention_workers"] * facts["batch_size"] * facts["microbatches"]
    rate = requests * facts["tokens_per_step"] / step / dies
    return PublishedSystem(
        **_named(facts),
        calibration="published times of attention, experts and transfers of one layer",
        points=(
            PublishedPoint(
                ratio=f"{facts['attention_workers']}:{facts['ffn_workers']}",
                measured=facts["step_ms"] * 1e-3,
                predicted=step,
                is_calibration=False,
            ),
        ),
        regret=None,
        note=f"{rate:,.0f} tokens/s per die, measured {facts['tokens_per_second_per_die']:,.0f}; "
        "the authors' own sum of the same stages, so a check of the round, not of a forecast",
    )


def _named(facts: dict[str, Any]) -> dict[str, str]:
    return {name: facts[name] for name in ("title", "setup", "source", "url")}


def _impossible(facts: dict[str, Any]) -> PublishedSystem:
    """Name what the model cannot reproduce, and why."""
    return PublishedSystem(
        **_named(facts),
        calibration="",
        points=(),
        regret=None,
        note=f"not reproducible: {facts['reason']}",
    )
