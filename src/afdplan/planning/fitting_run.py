"""What does a scenario give in Python, where the memory of named devices must hold the requests?

As in `fitting.py`; apart from it, for the simulator brings its compiler.
"""

from __future__ import annotations

from typing import Any

from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.kinds import check_kind
from afdplan.model.trace import Trace
from afdplan.planning.fitting import Fit, fitting
from afdplan.simulation import run
from afdplan.simulation.scenario import Scenario

__all__ = ["simulate"]


def _of_scenario(scenario: Scenario, **_: Any) -> Fit:
    check_kind("scenario", scenario, Scenario, "it takes a bundle, a latency and lengths")
    lengths, bundle = scenario.lengths, scenario.bundle
    law = EmpiricalLengths(lengths) if isinstance(lengths, Trace) else lengths
    return law, scenario.latency, bundle.batch_size, bundle.microbatches


simulate = fitting(run.simulate, _of_scenario)
