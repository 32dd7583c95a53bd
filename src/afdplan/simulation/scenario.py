"""What is to be simulated: which bundle, which requests, which times, for how long?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from afdplan.errors import InvalidInputError, TimeUnitError, UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.checks import check_choice, check_count, check_number
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace

__all__ = [
    "Arrivals",
    "FfnTokens",
    "Memory",
    "Overlap",
    "Placement",
    "Scenario",
    "Start",
    "Variation",
    "Window",
]

MOST_REQUESTS = 1_000_000_000
"""Of one replication: minutes of work."""

Overlap = Literal["pipelined", "ideal"]
Placement = Literal["round-robin", "least-requests", "least-tokens", "longest-prompt"]
Start = Literal["stationary", "fresh"]
Window = Literal["steady", "all", "first-80"]
Memory = Literal["reserve", "preempt"]
FfnTokens = Literal["padded", "active"]


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

    process: Literal["trace", "poisson", "gamma"]
    rate: float | None = None
    cv: float = 1.0

    def __post_init__(self) -> None:
        check_choice("arrivals", self.process, ("trace", "poisson", "gamma"))
        if self.rate is not None:
            object.__setattr__(self, "rate", check_number("rate", self.rate, strict=True))
        elif self.process != "trace":
            raise InvalidInputError(f"{self.process} arrivals need a rate > 0: give rate")
        object.__setattr__(self, "cv", check_number("cv", self.cv, strict=True))
        if self.cv > 20:
            raise InvalidInputError(f"cv of the gaps must be at most 20, got {self.cv:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How far service times scatter about the latency model (gamma factors of mean 1).

    Attributes
    ----------
    attention, send, ffn, receive
        Coefficient of variation of each stage, 0 (none) to 3. Attention draws one factor per
        worker, microbatch and layer; a transfer one per link; the FFN one per microbatch and layer.
    expert_imbalance
        Mean factor on the FFN time because the busiest expert decides, >= 1.
    expert_imbalance_cv
        Coefficient of variation of the imbalance beyond 1, ``factor = 1 + (mean - 1) gamma``,
        0 to 3.
    """

    attention: float = 0.0
    send: float = 0.0
    ffn: float = 0.0
    receive: float = 0.0
    expert_imbalance: float = 1.0
    expert_imbalance_cv: float = 0.0

    def __post_init__(self) -> None:
        for name in ("attention", "send", "ffn", "receive", "expert_imbalance_cv"):
            label = name if name == "expert_imbalance_cv" else f"variation of {name}"
            value = check_number(label, getattr(self, name))
            if value > 3:
                raise InvalidInputError(f"{label} must be at most 3, got {value:g}")
            object.__setattr__(self, name, value)
        factor = check_number("expert_imbalance", self.expert_imbalance, 1.0)
        object.__setattr__(self, "expert_imbalance", factor)


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
    start
        ``stationary``: slots hold requests as an observer finds them; ``fresh``: all requests
        begin at time zero, as in the paper (with arrivals, the bundle begins empty).
    window
        ``steady`` leaves the warm-up out, ``all`` keeps the whole run, ``first-80`` ends it at
        80 % of the completions.
    arrivals
        None keeps every slot busy (saturated).
    placement
        Which free slot of the microbatch that ends its step an admitted request gets.
    kv_capacity
        KV tokens that one attention worker can hold, all microbatches [tokens]; None, no limit.
    memory
        ``reserve``: a request enters when its largest size fits; ``preempt``: when its present
        size fits, and the youngest leave (to be computed again) when memory overflows.
    ffn_tokens
        ``padded``: FFN and transfers work on ``A B`` slots; ``active``: on the requests present.
    variation
        Random service times and expert imbalance.
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
    requests_per_worker: int = 10_000
    seed: int = 0
    overlap: Overlap = "pipelined"
    start: Start = "stationary"
    window: Window = "steady"
    arrivals: Arrivals | None = None
    placement: Placement = "round-robin"
    kv_capacity: int | None = None
    memory: Memory = "reserve"
    ffn_tokens: FfnTokens = "padded"
    variation: Variation = field(default_factory=Variation)
    replications: int | None = None
    precision: float | None = None
    p99_precision: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, kind in (("bundle", Bundle), ("latency", LatencyModel)):
            if not isinstance(getattr(self, name), kind):
                raise InvalidInputError(f"{name} must be a {kind.__name__}")
        if not isinstance(self.lengths, EmpiricalLengths | IndependentLengths | Trace):
            raise InvalidInputError("lengths must be a length law or a Trace")
        check_count("requests_per_worker", self.requests_per_worker, 1, 10**12)
        if self.target_completions > MOST_REQUESTS:
            raise InvalidInputError(
                f"a replication must have at most {MOST_REQUESTS:,} requests, got "
                f"{self.target_completions:,} of all attention workers: ask for fewer per worker"
            )
        check_count("seed", self.seed, 0)
        for name, choices in (
            ("overlap", Overlap),
            ("start", Start),
            ("window", Window),
            ("placement", Placement),
            ("memory", Memory),
            ("ffn_tokens", FfnTokens),
        ):
            check_choice(name, getattr(self, name), get_args(choices))
        if self.kv_capacity is not None:
            check_count("kv_capacity", self.kv_capacity)
        if self.replications is not None:
            check_count("replications", self.replications, 1, 100_000)
        for name in ("precision", "p99_precision"):
            wanted = getattr(self, name)
            if wanted is not None and check_number(name, wanted, strict=True) >= 1:
                raise InvalidInputError(
                    f"{name} must be a fraction below 1 (0.005 is 0.5 %), got {wanted:g}"
                )
        if not 0 < check_number("confidence", self.confidence) < 1:
            raise InvalidInputError(f"confidence must be between 0 and 1, got {self.confidence:g}")
        self._check_arrivals()

    def _check_arrivals(self) -> None:
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
    def law(self) -> LengthLaw:
        """The law of lengths, that of the trace's requests if a trace is replayed."""
        return EmpiricalLengths(self.lengths) if isinstance(self.lengths, Trace) else self.lengths

    @property
    def microbatches(self) -> int:
        """Microbatches that the simulation plays: 1 with ideal overlap."""
        return 1 if self.overlap == "ideal" else self.bundle.microbatches

    @property
    def target_completions(self) -> int:
        """Finished requests after which a run ends, all workers."""
        return self.requests_per_worker * self.bundle.attention_workers
