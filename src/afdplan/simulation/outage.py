"""What does the failure of a device do to a running bundle?

The whole bundle stops at the time of the failure: the requests in its slots are lost with what they
generated since they entered, and after `restart` it fills its slots with the next ones. Looked at
between steps, so that the step in which it happens still counts. A bundle that stands still does
not fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from afdplan.model.words import counted
from afdplan.simulation import state as ix
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.sources import stream
from afdplan.simulation.state import State

__all__ = ["failure_gaps", "failure_warnings", "stop_bundle"]

FEW_FAILURES = 30
"""Below which an interval says nothing."""


def failure_gaps(scenario: Scenario, replication: int) -> Iterator[float]:
    """Yield the times of work between failures of the bundle [s], exponential."""
    if scenario.failures is None:
        while True:
            yield ix.FAR
    mean = 1 / scenario.failures.rate(scenario.devices)
    generator = stream(scenario.seed, replication, "failures")
    while True:
        yield mean * float(generator.standard_exponential())


def stop_bundle(state: State, restart: float, gap: float) -> None:
    """Empty all slots at the failure that is due, and say when the bundle works and fails again.

    Parameters
    ----------
    state
        Between two steps.
    restart
        From the failure until the bundle works again [time].
    gap
        From then to its next failure [time].
    """
    n, x = state.integers, state.floats
    due, steps = state.whole("due")[0], state.whole("steps")[0]
    held = due >= n[ix.STEP]
    done = steps[held] - (due[held] - n[ix.STEP] + 1)
    lost = int(state.constants["numerator"] * done.sum())
    n[ix.UNITS] -= lost
    n[ix.LOST_UNITS] += lost
    n[ix.LOST] += int(held.sum())
    n[ix.FAILURES] += 1
    n[ix.ACTIVE] = 0
    for part in ("loads", "held", "growing", "active", "present", "reserved"):
        state.whole(part)[:] = 0
    state.free_slots()
    x[ix.OPENS] = max(x[ix.CLOCK], x[ix.FAILS] + restart)
    x[ix.FAILS] = x[ix.OPENS] + gap


def failure_warnings(scenario: Scenario, failures: int) -> Iterator[str]:
    """Yield what to mind about so many failures of a bundle."""
    if None in (scenario.latency.attention_devices, scenario.latency.ffn_devices):
        yield (
            f"failures are those of {counted(scenario.devices, 'device')}, one per worker where "
            "the latency model does not say how many: name attention_devices and ffn_devices in it"
        )
    if failures < FEW_FAILURES:
        yield (
            f"{counted(failures, 'failure')} came in the time that was played: too few to tell "
            "what they cost, ask for more requests per worker"
        )
