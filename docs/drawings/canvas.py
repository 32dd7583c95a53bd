"""What do all pictures share: sizes, colours, the paper's baseline, the bundled trace?"""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from afdplan.files.latency_file import load_latency
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.trace import Trace
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem

BLUE, ORANGE, RED, GREEN, GREY = "#1f5fa8", "#c77700", "#b3261e", "#2e7d4f", "0.45"
PAPER = load_latency("deepseek-v3-ascend-910c")
BASELINE = IndependentLengths(prompt="geometric:100", decode="geometric:500")


@cache
def bundled_trace() -> Trace:
    """Return the 20,000 requests that ship with afdplan."""
    return read_trace(example_trace_path())


def plain_axes(panels: int = 1, width: float = 8.0, height: float = 3.4) -> tuple[Figure, list]:
    """Return a figure with panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, panels)).tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def titled(axes: Axes, text: str) -> None:
    """Say above a panel, on its left, what it shows."""
    axes.set_title(text, loc="left", fontsize=10)


def cycle_model(law: LengthLaw, **options: object) -> CycleModel:
    """Return the cycle of the published latency model at B = 256 unless told otherwise."""
    chosen = {"latency": PAPER, "batch_size": 256} | options
    problem = RatioProblem(law=law, **chosen)  # type: ignore[arg-type]
    return CycleModel(problem, problem.slot_loads())


def add_simulated(axes: Axes, workers: tuple[int, ...], quantity: str, **style: object) -> None:
    """Add simulated points of the paper's baseline with their 95 % intervals."""
    found = []
    for count in workers:
        bundle = Bundle(attention_workers=count, batch_size=256)
        scenario = Scenario(
            bundle=bundle, latency=PAPER, lengths=BASELINE, requests_per_worker=20_000 // count
        )
        found.append(getattr(simulate(scenario), quantity))
    values = np.array([one.value for one in found])
    spread = [values - [one.low for one in found], [one.high for one in found] - values]
    chosen = {"label": "simulated, 95 % interval", "color": "black"} | style
    axes.errorbar(workers, values, np.maximum(spread, 0.0), fmt=".", capsize=3, markersize=5,
                  **chosen)  # type: ignore[arg-type]  # fmt: skip
