"""What did the simulated bundle do, and how sure is it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from afdplan.model.answer import Answer
from afdplan.model.chosen import chosen
from afdplan.model.estimate import Estimate
from afdplan.simulation.distribution import Distribution
from afdplan.simulation.scenario import Scenario

__all__ = ["FailureRecord", "OfferedLoad", "PoolRecord", "SimulationResult", "best_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecord:
    """How the barrier-free FFN pool worked.

    Attributes
    ----------
    calls_per_departure
        Microbatches served at once, mean over departures.
    time_between_departures
        Mean [time].
    call_wait
        From a call's arrival at the pool to its departure, mean [time].
    """

    calls_per_departure: float
    time_between_departures: float
    call_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord:
    """What failures of the bundle cost.

    Attributes
    ----------
    failures
        How many were played in the window, all replications.
    lost_requests, lost_tokens
        Requests in slots that they ended, and the tokens generated for them.
    share
        Useful tokens over those that the same steps give if the bundle always works.
    """

    failures: int
    lost_requests: int
    lost_tokens: float
    share: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult(Answer):
    """What a simulated bundle did. Printing it gives the main numbers; `answer` gives all.

    Attributes
    ----------
    scenario
        What was simulated.
    throughput_per_instance
        Tokens per time and worker, ``tokens / time / (A + F)`` [tokens/time].
    cycle_time
        Per layer and microbatch, (step time - step overhead) / (L m) [time].
    step_time
        Of a microbatch, from one output token to the next [time].
    request_time_per_output_token
        (end - start of service) / tokens, over finished requests [time].
    attention_idle_fraction, ffn_idle_fraction
        Share of the time, all attention workers and the FFN.
    attention_idle_causes, ffn_idle_causes
        The same share split by cause; "other side" is waiting for FFN or attention.
    slot_occupancy
        Share of slots that held a request, over time.
    kv_tokens_per_worker
        All microbatches of one attention worker, sampled once per step [tokens].
    maximum_kv_tokens_per_worker
        The largest seen [tokens].
    waiting_time, queue_length
        From arrival to start of service [time]; requests waiting, over time; None if saturated.
    waiting_steps_p999
        Steps that all but one in a thousand requests wait at most: from their arrival; saturated,
        from when the first of them would have been let in, had nobody been preferred.
    offered_load
        Arrivals beside what the bundle can finish; None if saturated.
    requests_completed, tokens_generated, steps
        In the window, of the first replication.
    requests_entered, requests_in_slots, requests_queued, requests_rejected
        At the end of the first replication: entered = completed + in slots + preempted and
        queued + rejected + lost by failures (the whole run, warm-up included).
    preemptions, recomputed_tokens
        In the window, all replications.
    replications
        Independent runs behind the intervals; 1 means batch means.
    warmup_fraction
        Share of the run left out at its beginning.
    interval_method
        Where the intervals come from.
    is_reliable
        Whether the run was long enough for its intervals.
    pool
        Departures of barrier-free execution; None with a barrier.
    failures
        What failures cost; None unless devices fail. Tokens of lost requests are no throughput.
    warnings
        One sentence each.
    """

    scenario: Scenario
    throughput_per_instance: Estimate
    cycle_time: Estimate
    step_time: Distribution
    request_time_per_output_token: Distribution
    attention_idle_fraction: Estimate
    ffn_idle_fraction: Estimate
    attention_idle_causes: Mapping[str, float]
    ffn_idle_causes: Mapping[str, float]
    slot_occupancy: Estimate
    kv_tokens_per_worker: Distribution
    maximum_kv_tokens_per_worker: float
    waiting_time: Distribution | None
    queue_length: Estimate | None
    waiting_steps_p999: float
    requests_completed: int
    tokens_generated: int
    steps: int
    requests_entered: int
    requests_in_slots: int
    requests_queued: int
    requests_rejected: int
    preemptions: int
    recomputed_tokens: float
    replications: int
    warmup_fraction: float
    interval_method: str
    is_reliable: bool
    offered_load: OfferedLoad | None = None
    pool: PoolRecord | None = None
    failures: FailureRecord | None = None
    warnings: tuple[str, ...] = field(default=())

    def answer(self) -> dict[str, Any]:
        """Return the names that `afdplan simulate --json` promises, and more."""

        def interval(estimate: Estimate) -> dict[str, float | None]:
            ends = {"low": estimate.low, "high": estimate.high}
            known = {name: end if isfinite(end) else None for name, end in ends.items()}
            return {"value": estimate.value, **known}

        bundle = self.scenario.bundle
        named = {
            "step_time": self.step_time.mean,
            "step_time_p99": self.step_time.p99,
            "request_time_per_output_token": self.request_time_per_output_token.mean,
            "request_time_per_output_token_p99": self.request_time_per_output_token.p99,
            "attention_idle_fraction": self.attention_idle_fraction,
            "ffn_idle_fraction": self.ffn_idle_fraction,
            "slot_occupancy": self.slot_occupancy,
            "kv_tokens_per_worker": self.kv_tokens_per_worker.mean,
        }
        waiting: dict[str, Any] = {}
        if self.waiting_time is not None and self.queue_length is not None:
            waiting = {
                "waiting_time": self.waiting_time.values(),
                "queue_length": interval(self.queue_length),
            }
            named["waiting_time"] = self.waiting_time.mean
        return {
            **chosen(bundle, "attention_workers ffn_workers"),
            "throughput_per_instance": interval(self.throughput_per_instance),
            "objective": interval(self.objective),
            "cycle_time": interval(self.cycle_time),
            "step_time": self.step_time.values(),
            "request_time_per_output_token": self.request_time_per_output_token.values(),
            "attention_idle_fraction": self.attention_idle_fraction.value,
            "ffn_idle_fraction": self.ffn_idle_fraction.value,
            "attention_idle_causes": dict(self.attention_idle_causes),
            "ffn_idle_causes": dict(self.ffn_idle_causes),
            "slot_occupancy": self.slot_occupancy.value,
            "kv_tokens_per_worker": self.kv_tokens_per_worker.values()
            | {"maximum": self.maximum_kv_tokens_per_worker},
            **waiting,
            **chosen(
                self,
                "waiting_steps_p999 requests_completed tokens_generated steps requests_entered "
                "requests_in_slots requests_queued requests_rejected preemptions "
                "recomputed_tokens replications warmup_fraction pool",
            ),
            "failures": None
            if self.failures is None
            else {
                **chosen(self.failures, "failures lost_requests lost_tokens"),
                "share": interval(self.failures.share),
            },
            "confidence": self.scenario.confidence,
            "interval_method": self.interval_method,
            "offered_load": None
            if self.offered_load is None
            else {
                "arrival_rate": self.offered_load.arrival_rate,
                "capacity": interval(self.offered_load.capacity),
                **chosen(self.offered_load, "utilization is_stable"),
            },
            "intervals": {name: interval(estimate) for name, estimate in named.items()},
        }

    @property
    def objective(self) -> Estimate:
        """Tokens per time and unit of cost, ``A + w F`` of them, as `recommend_ratio` has it."""
        bundle = self.scenario.bundle
        cost = bundle.attention_workers + self.scenario.ffn_weight * bundle.ffn_workers
        workers = bundle.attention_workers + bundle.ffn_workers
        return self.throughput_per_instance.moved(workers / cost)

    @property
    def title(self) -> str:
        """What was played, in one line."""
        bundle, m = self.scenario.bundle, self.scenario.microbatches
        return (
            f"{bundle.attention_workers}A-{bundle.ffn_workers}F, {m} "
            f"microbatch{'es' if m > 1 else ''} of {bundle.batch_size:,} slots per attention "
            f"worker, {self._mode}, " + ("open arrivals" if self.scenario.arrivals else "saturated")
        )

    @property
    def _mode(self) -> str:
        if self.scenario.execution == "synchronous":
            return self.scenario.overlap
        return self.scenario.execution


def best_of(results: Sequence[SimulationResult]) -> SimulationResult:
    """Return the bundle with the most tokens per cost."""
    return max(results, key=lambda result: result.objective.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedLoad:
    """Arrivals beside what the bundle finishes when it always has enough to do.

    Attributes
    ----------
    arrival_rate
        Requests per time.
    capacity
        Requests per time that leave a saturated bundle, finished or refused, with an interval.
    """

    arrival_rate: float
    capacity: Estimate

    @property
    def is_stable(self) -> bool:
        """Whether the queue stays finite, the interval of the capacity allowed for."""
        return self.arrival_rate < self.capacity.low

    @property
    def utilization(self) -> float:
        """Arrivals over capacity."""
        return self.arrival_rate / self.capacity.value
