"""What is to be simulated: which bundle, which requests, which times, for how long?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from afdplan.errors import InvalidInputError, TimeUnitError, UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model import parameters as ask
from afdplan.model.boarding import Boarding, check_execution
from afdplan.model.bundle import Bundle
from afdplan.model.failures import Failures
from afdplan.model.latency import LatencyModel
from afdplan.model.parameter import check_fields
from afdplan.model.parameters import (
    ArrivalProcess,
    Execution,
    FfnTokens,
    Memory,
    Overlap,
    Placement,
    Start,
    Window,
)
from afdplan.model.trace import Trace
from afdplan.model.variation import ExpertLoad, Scatter

__all__ = ["Arrivals", "Scenario", "Variation"]

MOST_REQUESTS = 1_000_000_000
"""Of one replication: minutes of work."""
MOST_SLOTS = 4_000_000
"""Of one bundle: each takes a kilobyte."""
MOST_FAILURES = 20.0
"""Failures of the bundle while a mean request runs: none would finish."""
MOST_RESTARTS = 100.0
"""Failures of the bundle that would come while it restarts: it would work 1 % of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests come, where the bundle does not have more of them than it can hold.

    Attributes
    ----------
    process
        ``trace``, the times of the trace; ``poisson``; ``gamma``, independent gamma-distributed
        gaps.
    rate
        Mean arrivals of the bundle, lambda [requests/time], > 0. With ``trace`` it squeezes or
        stretches the times, so that bursts stay bursts; None keeps them (in seconds).
    cv
        Coefficient of variation of the gaps of ``gamma``, > 0; 1 is Poisson.

    Examples
    --------
    >>> Arrivals(process="poisson", rate=2.0).rate
    2.0
    """

    process: ArrivalProcess
    rate: float | None = ask.ARRIVAL_RATE.default
    cv: float = ask.ARRIVAL_CV.default

    def __post_init__(self) -> None:
        check_fields(self, (ask.ARRIVALS, ask.ARRIVAL_RATE, ask.ARRIVAL_CV), "{0.name}")
        if self.rate is None and self.process != "trace":
            raise InvalidInputError(f"{self.process} arrivals need a rate > 0: give rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How far service times scatter, in place of what the latency model says (factors of mean 1).

    Attributes
    ----------
    attention, send, ffn, receive
        Coefficient of variation of each stage, 0 (none) to 3. Attention draws one factor per
        worker, microbatch and layer; a transfer one per link; the FFN one per microbatch and layer.
    expert_imbalance
        Mean load of the busiest expert rank over the mean rank's, >= 1; above 1 in place of the
        latency model's expert load, with the same meaning.
    expert_imbalance_cv
        Coefficient of variation of the imbalance beyond 1, ``factor = 1 + (mean - 1) gamma``,
        0 to 3.
    """

    attention: float = ask.SCATTER.default
    send: float = ask.SCATTER.default
    ffn: float = ask.SCATTER.default
    receive: float = ask.SCATTER.default
    expert_imbalance: float = ask.EXPERT_IMBALANCE.default
    expert_imbalance_cv: float = ask.SCATTER.default

    def __post_init__(self) -> None:
        check_fields(self, ask.VARIATION, "{0.name}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenario:
    """One bundle, its requests and the length of the run.

    Attributes
    ----------
    bundle, latency
        The workers, slots and microbatches, and how long their stages take.
    lengths
        A `LengthLaw` draws independent requests; a `Trace` is replayed in its order (from the
        beginning again when it ends, unless its own arrivals are used).
    requests_per_worker
        Finished requests to wait for, per attention worker, N >= 1.
    seed
        Everything random follows from it, >= 0.
    overlap
        ``pipelined`` (microbatches in flight) or ``ideal`` (the paper's cycle; m is ignored).
    execution
        ``synchronous`` (all attention workers meet at a barrier) or ``barrier-free`` (each sends
        when it is ready, the FFN pool serves what waits).
    least_calls, longest_wait, most_tokens
        Boarding rule of the barrier-free pool, see `Boarding`.
    start
        ``stationary``: slots hold requests as an observer finds them; ``fresh``: all requests
        begin at time zero, as in the paper (with arrivals, the bundle begins empty).
    window
        ``steady`` leaves the warm-up out, ``all`` keeps the whole run, ``first-80`` ends it at
        80 % of the completions.
    arrivals
        None keeps every slot busy (saturated).
    placement
        Which free slot of the microbatch that ends its step an admitted request gets: that of
        the next worker in turn (``round-robin``); of the worker with ``fewest-requests`` or
        ``fewest-tokens`` in this microbatch; or, of as many waiting requests as there are free
        slots, the longest prompt to the lightest worker first, where the load is that of the
        worker's microbatch (``longest-prompt``) or of all its microbatches, which is what a
        router sees (``longest-prompt-rank``). ``longest-request`` knows outputs, too: requests
        and workers are told apart by the tokens they will hold until a worker's microbatch next
        gets a request, about ``E[D] / B`` steps. No router can. One greedy rule, no bound.
    placement_window
        K >= 1, for the longest prompts: K - 1 more waiting requests are looked at than there are
        free slots. Every free slot of a worker lighter than the mean keeps the longest of them,
        every other the shortest; one that was passed over K times goes first.
    kv_capacity
        KV tokens that one attention worker can hold, all microbatches [tokens]; None, no limit.
    memory
        ``reserve``: a request enters when its largest size fits; ``preempt``: when its present
        size fits, and the youngest leave (to be computed again) when memory overflows.
    ffn_tokens
        ``padded``: FFN and transfers work on ``A B`` slots; ``active``: on the requests present.
    variation
        Random service times and expert imbalance.
    failures
        How often devices fail and how long the bundle then stands still; None never.
    replications
        Independent runs; None takes one when it is long enough for batch means, else ten.
    precision
        Relative half-width of the throughput's interval to reach; the run is extended for it.
    p99_precision
        The same for the 99th percentile of the step time.
    confidence
        Coverage of all intervals, in (0, 1).

    Raises
    ------
    InvalidInputError, UnsupportedError, TimeUnitError
        If a value or a combination has no meaning.

    Examples
    --------
    >>> scenario = Scenario(
    ...     bundle=Bundle(attention_workers=8, batch_size=256),
    ...     latency=LatencyModel.linear(attention=(0.00165, 50), ffn=(0.083, 100)),
    ...     lengths=IndependentLengths(prompt="geometric:100", decode="geometric:500"))
    >>> scenario.requests_per_worker
    10000
    """

    bundle: Bundle
    latency: LatencyModel
    lengths: LengthLaw | Trace
    requests_per_worker: int = ask.SIMULATED_REQUESTS.default
    seed: int = ask.SEED.default
    overlap: Overlap = ask.OVERLAP.default
    execution: Execution = ask.EXECUTION.default
    least_calls: int = ask.LEAST_CALLS.default
    longest_wait: float | None = ask.LONGEST_WAIT.default
    most_tokens: int | None = ask.MOST_TOKENS.default
    start: Start = ask.START.default
    window: Window = ask.MEASURED.default
    arrivals: Arrivals | None = None
    placement: Placement = ask.PLACEMENT.default
    placement_window: int = ask.PLACEMENT_WINDOW.default
    kv_capacity: int | None = ask.KV_CAPACITY.default
    memory: Memory = ask.MEMORY.default
    ffn_tokens: FfnTokens = ask.FFN_TOKENS.default
    variation: Variation = field(default_factory=Variation)
    failures: Failures | None = None
    replications: int | None = ask.REPLICATIONS.default
    precision: float | None = ask.PRECISION.default
    p99_precision: float | None = ask.P99_PRECISION.default
    confidence: float = ask.CONFIDENCE.default

    def __post_init__(self) -> None:
        for name, kind in (("bundle", Bundle), ("latency", LatencyModel), ("variation", Variation)):
            if not isinstance(getattr(self, name), kind):
                raise InvalidInputError(f"{name} must be a {kind.__name__}")
        if not isinstance(self.failures, Failures | None):
            raise InvalidInputError("failures must be a Failures value or None")
        if not isinstance(self.lengths, EmpiricalLengths | IndependentLengths | Trace):
            raise InvalidInputError("lengths must be a length law or a Trace")
        check_fields(self, (ask.OVERLAP, *ask.SCENARIO))
        slots = self.bundle.attention_workers * self.bundle.requests_per_attention_worker
        if slots > MOST_SLOTS:
            rule = f"slots of all attention workers must be at most {MOST_SLOTS:,}, got {slots:,}"
            raise InvalidInputError(f"{rule}: play a smaller bundle")
        if self.target_completions > MOST_REQUESTS:
            raise InvalidInputError(
                f"a replication must have at most {MOST_REQUESTS:,} requests, got "
                f"{self.target_completions:,} of all attention workers: ask for fewer per worker"
            )
        if (
            self.ffn_tokens == "active"
            and self.expert_load is not None
            and self.expert_load.imbalance is None
        ):
            raise UnsupportedError(
                "ffn_tokens active changes how many tokens the experts share, and their load is "
                "drawn for full slots: use padded, or a measured expert imbalance"
            )
        coupling = self.latency.coupling
        if self.ffn_tokens == "active" and (coupling.is_occupying or coupling.fan_in == "whole"):
            raise UnsupportedError(
                "ffn_tokens active changes what each transfer holds, and whom transfers occupy, "
                "and with how many tokens, is known of full slots: use padded"
            )
        self._check_execution()
        self._check_arrivals()
        self._check_failures()

    def __str__(self) -> str:
        """Return in a sentence what is simulated."""
        name = self.lengths.source if isinstance(self.lengths, Trace) else self.lengths.name
        return (
            f"{self.bundle}: {self.requests_per_worker:,} requests per attention worker of {name}, "
            f"times of {self.latency.name}, seed {self.seed}."
        )

    def _check_failures(self) -> None:
        if self.failures is None:
            return
        if self.execution != "synchronous":
            raise UnsupportedError(
                "failures are played between steps of the whole bundle, which barrier-free workers "
                "do not have: leave device_mtbf out, or play synchronous execution"
            )
        if self.failures.repair or self.failures.spare_devices:
            raise UnsupportedError(
                "one bundle has no spare devices: give restart, the whole time until it works again"
            )
        if self.latency.time_unit != "s":
            raise TimeUnitError(
                "device_mtbf is in seconds and the latency model's time is abstract: give a "
                "latency model in seconds"
            )
        # Played, this would not end: no request outlives the failures of its own bundle.
        rate = self.failures.rate(self.devices)
        requests = float(self.bundle.batch_size)
        tokens = requests * self.bundle.attention_workers / self.bundle.ffn_workers
        step = self.latency.layers * self.latency.ffn(tokens)
        step += sum(
            kind.layers * kind.time(requests, self.bundle.batch_size)
            for kind in self.latency.attention
        )
        life = self.law.mean_decode_tokens / self.latency.tokens_per_step * step
        if rate * max(life / MOST_FAILURES, self.failures.restart / MOST_RESTARTS) > 1:
            raise InvalidInputError(
                f"device_mtbf must leave time for a request to finish: {self.devices} devices fail "
                f"{rate:.3g} times per second, a request takes {life:.3g} s at least and a restart "
                f"{self.failures.restart:.3g} s"
            )

    def _check_execution(self) -> None:
        rule = self.boarding
        check_execution(self.execution, self.latency, self.bundle, rule, self.overlap)
        if self.execution == "synchronous":
            return
        if self.placement != "round-robin":
            raise UnsupportedError(
                f"placement {self.placement} chooses among workers that end a step together; "
                "barrier-free workers take what waits when they end their own: leave it out"
            )
        if (
            rule.longest_wait is None
            and rule.least_calls > 1
            and (self.arrivals is not None or self.kv_capacity is not None)
        ):
            raise UnsupportedError(
                "least_calls above 1 can wait for ever where workers may be empty (arrivals, "
                "kv_capacity): give longest_wait"
            )
        if self.expert_load is not None and self.expert_load.imbalance is None:
            raise UnsupportedError(
                "barrier-free departures differ in size, and this expert load is drawn for full "
                "ones: give a measured expert imbalance"
            )

    def _check_arrivals(self) -> None:
        if self.placement_window > 1 and not self.placement.startswith("longest"):
            raise UnsupportedError(
                f"placement_window > 1 chooses by prompt: it needs placement longest-prompt, got "
                f"{self.placement}"
            )
        if self.memory == "preempt" and self.kv_capacity is None:
            raise UnsupportedError("memory preempt needs a limit: give kv_capacity")
        if self.arrivals is None:
            return
        if not isinstance(self.arrivals, Arrivals):
            raise InvalidInputError("arrivals must be an Arrivals value or None")
        if self.start == "stationary":
            raise UnsupportedError(
                "start stationary is known for full slots only: with arrivals use start fresh"
            )
        if self.arrivals.process == "trace":
            if not isinstance(self.lengths, Trace):
                raise UnsupportedError(
                    "arrivals of the trace need a trace to replay, got a law of lengths"
                )
            if self.lengths.arrival_times is None:
                raise UnsupportedError(
                    "the trace has no arrival times: use poisson or gamma arrivals with a rate"
                )
            if self.arrivals.rate is None and self.latency.time_unit != "s":
                raise TimeUnitError(
                    "the trace's arrivals are in seconds and the latency model's time is "
                    "abstract: give a rate in requests per time unit of the model"
                )
            if not self.lengths.duration:
                raise InvalidInputError(
                    "all requests of the trace arrive at once: use poisson arrivals with a rate"
                )

    @property
    def boarding(self) -> Boarding:
        """When the pool of barrier-free execution departs."""
        return Boarding(**{one.field: getattr(self, one.field) for one in ask.BOARDING})

    @property
    def scatter(self) -> Scatter:
        """Coefficients of variation of the stages: the variation's, else the latency model's."""
        own = {
            stage: getattr(self.variation, stage)
            for stage in ("attention", "send", "ffn", "receive")
            if getattr(self.variation, stage) > 0
        }
        return replace(self.latency.scatter, **own)

    @property
    def expert_load(self) -> ExpertLoad | None:
        """How unevenly experts are loaded: the variation's, else the latency model's."""
        if self.variation.expert_imbalance > 1:
            return ExpertLoad(
                imbalance=self.variation.expert_imbalance,
                imbalance_cv=self.variation.expert_imbalance_cv,
            )
        return self.latency.experts

    @property
    def law(self) -> LengthLaw:
        """The law of lengths, that of the trace's requests if a trace is replayed."""
        return EmpiricalLengths(self.lengths) if isinstance(self.lengths, Trace) else self.lengths

    @property
    def devices(self) -> int:
        """Devices of the bundle; a worker counts as one where nobody said how many it has."""
        attention = self.bundle.attention_workers * (self.latency.attention_devices or 1)
        return attention + self.bundle.ffn_workers * (self.latency.ffn_devices or 1)

    @property
    def ffn_weight(self) -> float:
        """Cost of an FFN worker over that of an attention worker; 1 where no devices are named."""
        return self.latency.ffn_weight or 1.0

    @property
    def foresight(self) -> int:
        """Steps over which ``longest-request`` weighs requests: one replacement per microbatch."""
        if self.placement != "longest-request":
            return 1
        life = self.law.mean_decode_tokens / self.latency.tokens_per_step
        return max(round(life / self.bundle.batch_size), 1)

    @property
    def microbatches(self) -> int:
        """Microbatches that the simulation plays: 1 with ideal overlap."""
        return 1 if self.overlap == "ideal" else self.bundle.microbatches

    @property
    def target_completions(self) -> int:
        """Finished requests after which a run ends, all workers."""
        return self.requests_per_worker * self.bundle.attention_workers
