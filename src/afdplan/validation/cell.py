"""What does theory say of one bundle, and how far is that from its simulation?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from afdplan.lengths.law import LengthLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.boarding import Boarding
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.parameters import Execution, Start, Window
from afdplan.model.trace import Trace
from afdplan.simulation.scenario import Scenario
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.cycle import StepTimes
from afdplan.theory.problem import Method, Overlap, Phase, RatioProblem
from afdplan.theory.step_model import step_model
from afdplan.theory.validity import (
    BARRIER_FREE_ERROR,
    BARRIER_FREE_MICROBATCHES,
    DECLARED_MICROBATCHES,
    DECLARED_ROUNDS,
    DECLARED_WORKERS,
    short_life_error,
)
from afdplan.validation.laboratory import Observation

__all__ = ["METHODS", "Cell", "CellGroup", "CellResult", "compare"]

METHODS: tuple[Method, ...] = ("mean-field", "gaussian", "exact")
CellGroup = Literal["grid", "feature", "short", "effect", "outside", "trace"]
Slots = tuple[SlotLoad, ...]

ROUNDS_SLACK = 0.98
"""Sampled laws miss their round mean by a per cent or two: 199 rounds count as 200."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One bundle on which theory is held against simulation.

    Attributes
    ----------
    name
        For people; unique.
    group
        ``grid``, ``feature`` (windows, drain, overlap ...), ``short`` (requests that live fewer
        rounds than the declared validity asks for), ``effect`` (scatter, experts, occupancy and
        uneven ratios at once), ``outside`` (otherwise out of it) or ``trace``.
    law, latency, bundle, overlap, phase, execution, boarding
        The bundle, its requests and how it is run.
    start, window
        Of the simulation.
    steps
        Output steps to simulate at least.
    precision
        Relative half-width of the throughput's interval to reach; that of the step time's 99th
        percentile gets twice as wide, as its band is.
    replications
        Independent runs; None leaves it to the simulator.
    replay
        A trace to be replayed in its order instead of resampling its requests.
    """

    name: str
    group: CellGroup
    law: LengthLaw
    latency: LatencyModel
    bundle: Bundle
    overlap: Overlap = "pipelined"
    phase: Phase = "random"
    execution: Execution = "synchronous"
    boarding: Boarding = field(default_factory=Boarding)
    start: Start = "stationary"
    window: Window = "steady"
    steps: int = 0
    precision: float | None = None
    replications: int | None = None
    replay: Trace | None = None

    @property
    def rounds(self) -> float:
        """``L E[D] / tokens_per_step``, rounds in the life of a request."""
        return self.latency.layers * self.law.mean_decode_tokens / self.latency.tokens_per_step

    @property
    def is_declared(self) -> bool:
        """Whether the cell lies in the declared validity."""
        workers, most, has_one_rhythm = self.bundle.attention_workers, DECLARED_MICROBATCHES, True
        if self.execution == "barrier-free":
            most = BARRIER_FREE_MICROBATCHES
            has_one_rhythm = self.played().stated_error(workers) <= BARRIER_FREE_ERROR
        return (
            has_one_rhythm
            and self.rounds >= ROUNDS_SLACK * DECLARED_ROUNDS
            and self.bundle.microbatches <= most
            and workers <= DECLARED_WORKERS
        )

    @property
    def stated_error(self) -> float:
        """Error that is stated of the step time."""
        error = short_life_error(self.rounds)
        if self.execution == "barrier-free":
            error = max(error, self.played().stated_error(self.bundle.attention_workers))
        return error

    def scenario(self, seed: int = 0) -> Scenario:
        """Return the simulation of this cell."""
        microbatches = 1 if self.overlap == "ideal" else self.bundle.microbatches
        steps_per_request = self.law.mean_decode_tokens / self.latency.tokens_per_step
        requests = self.steps * self.bundle.batch_size * microbatches / steps_per_request
        return Scenario(
            bundle=self.bundle,
            latency=self.latency,
            lengths=self.law if self.replay is None else self.replay,
            requests_per_worker=max(round(requests), 1),
            overlap=self.overlap,
            execution=self.execution,
            **asdict(self.boarding),
            start=self.start,
            window=self.window,
            seed=seed,
            precision=self.precision,
            p99_precision=None if self.precision is None else 2 * self.precision,
            replications=self.replications,
        )

    def replayed(self, trace: Trace) -> Cell:
        """Return the same bundle fed with `trace` in its order."""
        return replace(self, name=f"{self.name}, replayed", replay=trace, precision=None)

    def theory(
        self, method: Method, probabilities: tuple[float, ...] = (), slots: Slots | None = None
    ) -> StepTimes:
        """Return what `method` says of this bundle; all methods share the law of its `slots`."""
        problem = self._problem(method)
        workers = np.array([float(self.bundle.attention_workers)])
        model = step_model(problem, problem.slot_loads() if slots is None else slots)
        return model.evaluate(workers, probabilities)

    def played(self) -> BarrierFreeModel:
        """Return the theory without a barrier, which states an error and where its tail lies."""
        return BarrierFreeModel(self._problem("exact"), self.slots())

    def slots(self) -> Slots:
        """Return the law of a slot's load, as each kind of attention layers sees it."""
        return self._problem("exact").slot_loads()

    def _problem(self, method: Method) -> RatioProblem:
        return RatioProblem(
            law=self.law,
            latency=self.latency,
            batch_size=self.bundle.batch_size,
            ffn_workers=self.bundle.ffn_workers,
            microbatches=self.bundle.microbatches,
            overlap=self.overlap,
            method=method,
            phase=self.phase if method == "exact" else "random",
            execution=self.execution,
            **asdict(self.boarding),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """Theory beside simulation for one cell.

    Attributes
    ----------
    name, group, rounds, is_declared
        Of the cell.
    attention_workers, ffn_workers, batch_size, microbatches, layers
        Of its bundle and latency model.
    simulated
        What the simulation saw.
    errors
        Signed error of E[tau] by method, theory / simulation - 1.
    distance
        How far the exact method is from the simulation's interval, over the simulated value;
        0 inside.
    allowed
        Declared limit of `distance`, or the error that is stated outside the validity.
    p99_error
        Signed error of the 99th percentile of the step time, exact method.
    p99_distance
        How far what is said of that percentile (without a barrier an interval) is from the
        interval of the simulated one, over the simulated value.
    """

    name: str
    group: CellGroup
    rounds: float
    is_declared: bool
    attention_workers: int
    ffn_workers: int
    batch_size: int
    microbatches: int
    layers: int
    simulated: Observation
    errors: dict[Method, float]
    distance: float
    allowed: float
    p99_error: float
    p99_distance: float

    @property
    def error(self) -> float:
        """Signed error of the exact method."""
        return self.errors["exact"]

    @property
    def half_width(self) -> float:
        """Relative half-width of the simulation's interval of E[tau]."""
        return self.simulated.cycle_time.relative_half_width

    @property
    def is_inside(self) -> bool:
        """Whether the exact method lies in the simulation's interval."""
        return self.distance == 0.0


def compare(cell: Cell, observation: Observation, declared_error: float) -> CellResult:
    """Return theory beside what was observed.

    Parameters
    ----------
    cell
        The bundle.
    observation
        Its simulation.
    declared_error
        Limit in the declared validity.
    """
    slots = cell.slots()
    is_declared, group = cell.is_declared, cell.group
    if cell.execution == "barrier-free" and group == "grid" and not is_declared:
        group = "outside"
    steps = {method: cell.theory(method, (0.99,), slots) for method in METHODS}
    tau = observation.cycle_time
    exact = float(steps["exact"].cycle[0])
    p99 = float(steps["exact"].quantiles[0, 0])
    seen, tail = observation.step_time_p99, (p99, p99)
    if cell.execution == "barrier-free":
        tail = cell.played().p99_between(cell.bundle.attention_workers)
    return CellResult(
        name=cell.name,
        group=group,
        rounds=cell.rounds,
        is_declared=is_declared,
        attention_workers=cell.bundle.attention_workers,
        ffn_workers=cell.bundle.ffn_workers,
        batch_size=cell.bundle.batch_size,
        microbatches=1 if cell.overlap == "ideal" else cell.bundle.microbatches,
        layers=cell.latency.layers,
        simulated=observation,
        errors={name: float(step.cycle[0]) / tau.value - 1 for name, step in steps.items()},
        distance=_distance(exact, tau.low, tau.high) / tau.value,
        allowed=declared_error if is_declared else cell.stated_error,
        p99_error=p99 / seen.value - 1,
        p99_distance=_distance(np.clip(seen.value, *tail), seen.low, seen.high) / seen.value,
    )


def _distance(value: float, low: float, high: float) -> float:
    """Return how far `value` is from the interval; an interval has rounding's width at least."""
    slack = 1e-9 * abs(value)
    return max(low - value - slack, value - high - slack, 0.0)
