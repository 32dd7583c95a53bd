"""When does an FFN pool without a barrier leave, and with whom?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model import parameters as ask
from afdplan.model.bundle import Bundle
from afdplan.model.coupling import UNCOUPLED
from afdplan.model.latency import LatencyModel
from afdplan.model.parameter import check_fields

__all__ = ["Boarding", "check_execution"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boarding:
    """The boarding rule of a barrier-free FFN pool.

    A free pool departs as soon as `least_calls` wait, or one call has waited `longest_wait`. It
    takes all that wait, first come first served, up to `most_tokens` (one call always boards).

    Attributes
    ----------
    least_calls
        Calls (microbatches of attention workers) that must wait, >= 1.
    longest_wait
        Time after which it leaves with fewer [time], >= 0; None waits for ever.
    most_tokens
        Most tokens of one departure, >= 1; None takes all.

    Examples
    --------
    >>> Boarding(least_calls=2, longest_wait=0.005).least_calls
    2
    """

    least_calls: int = ask.LEAST_CALLS.default
    longest_wait: float | None = ask.LONGEST_WAIT.default
    most_tokens: int | None = ask.MOST_TOKENS.default

    def __post_init__(self) -> None:
        check_fields(self, ask.BOARDING)


def check_execution(
    execution: str, latency: LatencyModel, bundle: Bundle, boarding: Boarding, overlap: str
) -> None:
    """Raise where a way to run a bundle has no meaning.

    Raises
    ------
    UnsupportedError
        For a boarding rule with a barrier; without one, for ideal overlap, for a coupling and for
        a pipeline that drains; for ideal overlap of transfers that occupy workers.
    InvalidInputError
        If a departure waits for more calls than there are, or than it may take.
    """
    if overlap == "ideal" and latency.coupling.is_occupying:
        raise UnsupportedError(
            "ideal overlap lets transfers occupy nobody, and the latency model's coupling says "
            "that they do: use overlap pipelined"
        )
    if execution == "synchronous":
        if boarding != Boarding():
            raise UnsupportedError(
                "a boarding rule (least_calls, longest_wait, most_tokens) is for barrier-free "
                "execution: give execution barrier-free, or leave the rule out"
            )
        return
    if overlap == "ideal":
        raise UnsupportedError(
            "ideal overlap is a cycle of all workers together: use overlap pipelined with "
            "execution barrier-free"
        )
    if latency.coupling != UNCOUPLED:
        raise UnsupportedError(
            "without a barrier it is not known whom transfers occupy, what a launch costs and "
            "whose tokens an FFN worker has: leave the latency model's coupling out, or use "
            "execution synchronous"
        )
    if latency.drain:
        raise UnsupportedError(
            "the latency model drains its pipeline between steps, which is a barrier: give drain "
            "= false, or use execution synchronous"
        )
    calls = bundle.attention_workers * bundle.microbatches
    if boarding.longest_wait is None and boarding.least_calls > calls:
        raise InvalidInputError(
            f"least_calls must be at most the {calls} calls that there are (A m), got "
            f"{boarding.least_calls}: ask for fewer, or give longest_wait"
        )
    most = boarding.most_tokens
    if most is not None and most < boarding.least_calls * bundle.batch_size:
        raise InvalidInputError(
            f"most_tokens must hold the {boarding.least_calls} calls of {bundle.batch_size} tokens "
            f"that a departure waits for, got {most}"
        )
