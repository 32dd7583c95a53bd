"""Does the simulator agree with the plan, and with the choice between its neighbours?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from afdplan.model.estimate import Estimate
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.plan import Plan
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario

__all__ = ["Verification", "verify_plan"]

LIVES = 3
"""Requests that each slot finishes per run; as many runs as the interval needs."""
DECLARED_MEAN, DECLARED_P99 = 0.01, 0.02
"""Declared relative errors of mean and p99 of the step time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One design, predicted and simulated.

    Attributes
    ----------
    name
        ``recommended`` or how it differs.
    design
        What was simulated, one bundle of it.
    predicted_mean, predicted_p99
        Of the step time by theory [s].
    simulated_mean, simulated_p99
        Of the step time, with intervals [s].
    tokens_per_second_per_device
        Simulated, of one bundle.
    """

    name: str
    design: Design
    predicted_mean: float
    predicted_p99: float
    simulated_mean: Estimate
    simulated_p99: Estimate
    tokens_per_second_per_device: float

    @property
    def mean_error(self) -> float:
        """Relative error of the predicted mean; negative if the theory is too fast."""
        return self.predicted_mean / self.simulated_mean.value - 1

    @property
    def p99_error(self) -> float:
        """Relative error of the predicted 99th percentile."""
        return self.predicted_p99 / self.simulated_p99.value - 1

    @property
    def agrees(self) -> bool:
        """Whether the errors are within what the theory declares, intervals allowed for.

        A percentile whose interval has no upper end refutes from below only.
        """
        mean_noise = self.simulated_mean.relative_half_width
        p99 = self.simulated_p99
        return (
            abs(self.mean_error) <= DECLARED_MEAN + mean_noise
            and self.predicted_p99 >= p99.low - DECLARED_P99 * p99.value
            and self.predicted_p99 <= p99.high + DECLARED_P99 * p99.value
        )


def verify_plan(
    plan: Plan, *, seed: int = 0, progress: Callable[[float], None] | None = None
) -> tuple[Verification, ...]:
    """Return the recommended design and its neighbours in A, each simulated.

    Parameters
    ----------
    plan
        The answer of `make_plan`.
    seed
        Of the simulation; all designs see the same requests.
    progress
        Called with the share done, 0 to 1.

    Notes
    -----
    The simulator and the theory share no code. Requests are drawn independently from the law.
    """
    cases: list[tuple[str, PlannedDesign]] = [("recommended", plan.split)]
    for other in plan.alternatives:
        if other.kind == "attention_workers":
            cases.append((other.change, other.plan))
    found = []
    for k, (name, planned) in enumerate(cases):
        design = planned.design
        scenario = Scenario(
            bundle=design.bundle,
            latency=plan.source.latency(
                design.attention_devices, design.ffn_workers, design.batch_size
            ),
            lengths=plan.law,
            placement=plan.space.placement,
            requests_per_worker=LIVES * design.requests_per_attention_worker,
            seed=seed,
        )
        result = simulate(scenario, progress=_part(progress, k, len(cases)))
        step = result.step_time
        tokens = design.bundle.attention_workers * design.requests_per_attention_worker
        rate = tokens * planned.tokens_per_step / step.mean.value
        found.append(
            Verification(
                name=name,
                design=design,
                predicted_mean=planned.step_time.mean,
                predicted_p99=planned.step_time.p99,
                simulated_mean=step.mean,
                simulated_p99=step.p99,
                tokens_per_second_per_device=rate / design.bundle_devices,
            )
        )
    return tuple(found)


def _part(
    progress: Callable[[float], None] | None, index: int, count: int
) -> Callable[[float], None] | None:
    if progress is None:
        return None
    return lambda share: progress((index + share) / count)
