"""What does the failure of a device do to a running bundle?

The whole bundle stops at the time of the failure: the requests in its slots are lost with what they
generated since they entered, and after `restart` it fills its slots with the next ones. Looked at
between steps, so that the step in which it happens still counts. A bundle that stands still does
not fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from afdplan.simulation import state as ix
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.sources import stream
from afdplan.simulation.state import State

__all__ = ["failure_gaps", "stop_bundle"]


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
    due = state.whole("due")
    held = due[0] >= n[ix.STEP]
    done = state.whole("steps")[held] - (due[0][held] - n[ix.STEP] + 1)
    lost = int(state.constants["numerator"] * done.sum())
    n[ix.UNITS] -= lost
    n[ix.LOST_UNITS] += lost
    n[ix.LOST] += int(held.sum())
    n[ix.FAILURES] += 1
    n[ix.ACTIVE] = 0
    for part in ("loads", "growing", "active", "present", "reserved"):
        state.whole(part)[:] = 0
    state.free_slots()
    x[ix.OPENS] = max(x[ix.CLOCK], x[ix.FAILS] + restart)
    x[ix.FAILS] = x[ix.OPENS] + gap
