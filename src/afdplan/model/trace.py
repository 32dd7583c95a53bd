"""What does a request trace hold once it is read?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import TraceError
from afdplan.model.checks import check_count, frozen_array
from afdplan.model.prompt_blocks import PromptBlocks
from afdplan.model.words import counted

__all__ = ["MAXIMUM_TOKENS", "Trace"]

MAXIMUM_TOKENS = 10_000_000
"""Largest believable prompt or decode length of one request [tokens]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Lengths of requests in the order of their arrival (or of the file, without arrivals).

    Attributes
    ----------
    prompt_tokens
        P of each request [tokens], 0 to `MAXIMUM_TOKENS`, int64, shape (n,), n >= 1.
    decode_tokens
        D of each request [tokens], 1 to `MAXIMUM_TOKENS`, int64, shape (n,).
    arrival_times
        Seconds since the first arrival, non-decreasing, shape (n,); None if unknown.
    session_ids
        Integers that tell sessions (conversations, agents) apart, shape (n,); None if unknown.
    cached_tokens
        Prompt tokens whose KV cache was there already, shape (n,); None if unknown.
    blocks
        Blocks of the prompts, where the file names them by hashes; None if unknown.
    clock
        Seconds after midnight of the first arrival, by the clock of the file; None if unknown.
    source
        Where the trace comes from, for people.
    format
        Name of the recognised format.
    time_unit_in_file
        Unit in which the file gave arrivals, for people; empty if it gave none.
    dropped_requests
        Requests that failed or gave no output, left out.
    notes
        What the reader decided or noticed, one sentence each.
    doubts
        What may make these lengths other than those of the requests: passed on as warnings.

    Raises
    ------
    TraceError
        If a length is out of its domain or the arrays disagree.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[100, 200], decode_tokens=[10, 20])
    >>> trace.requests
    2
    """

    prompt_tokens: IntArray
    decode_tokens: IntArray
    arrival_times: FloatArray | None = None
    session_ids: IntArray | None = None
    cached_tokens: IntArray | None = None
    blocks: PromptBlocks | None = None
    clock: float | None = None
    source: str = "memory"
    format: str = "arrays"
    time_unit_in_file: str = ""
    dropped_requests: int = 0
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        prompt = _lengths("prompt_tokens", self.prompt_tokens, 0)
        decode = _lengths("decode_tokens", self.decode_tokens, 1)
        if prompt.size != decode.size:
            raise TraceError(
                "prompt_tokens and decode_tokens must have one length, "
                f"got {prompt.size} and {decode.size}"
            )
        object.__setattr__(self, "prompt_tokens", prompt)
        object.__setattr__(self, "decode_tokens", decode)
        if self.arrival_times is not None:
            times = frozen_array(self.arrival_times, np.float64, TraceError)
            if times.shape != prompt.shape or not np.isfinite(times).all():
                raise TraceError("arrival_times must be finite, one per request")
            if (np.diff(times) < 0).any():
                raise TraceError("arrival_times must not decrease: sort the requests by arrival")
            object.__setattr__(self, "arrival_times", times)
        if self.session_ids is not None:
            sessions = frozen_array(self.session_ids, np.int64, TraceError)
            if sessions.shape != prompt.shape:
                raise TraceError("session_ids must be given for every request")
            object.__setattr__(self, "session_ids", sessions)
        if self.cached_tokens is not None:
            cached = _lengths("cached_tokens", self.cached_tokens, 0)
            if cached.shape != prompt.shape or (cached > prompt).any():
                raise TraceError(
                    "cached_tokens must be given for every request, at most its prompt"
                )
            object.__setattr__(self, "cached_tokens", cached)
        if self.blocks is not None and self.blocks.ends.size != prompt.size:
            raise TraceError("blocks must be given for every request")
        check_count("dropped_requests", self.dropped_requests, 0, error=TraceError)

    @property
    def requests(self) -> int:
        """Number of requests kept."""
        return int(self.prompt_tokens.size)

    def part(self, first: int, last: int, source: str = "") -> Trace:
        """Return the requests ``first <= i < last`` as a trace whose time starts with them."""
        chosen = slice(first, last)
        times, clock = self.arrival_times, self.clock
        if times is not None and clock is not None:
            clock = (clock + float(times[first])) % 86_400
        return Trace(
            prompt_tokens=self.prompt_tokens[chosen],
            decode_tokens=self.decode_tokens[chosen],
            arrival_times=None if times is None else times[chosen] - times[first],
            session_ids=None if self.session_ids is None else self.session_ids[chosen],
            cached_tokens=None if self.cached_tokens is None else self.cached_tokens[chosen],
            blocks=None if self.blocks is None else self.blocks.part(first, last),
            clock=clock,
            source=source or self.source,
            format=self.format,
            time_unit_in_file=self.time_unit_in_file,
            doubts=self.doubts,
        )

    @property
    def duration(self) -> float | None:
        """Seconds between the first and the last arrival; None without arrivals."""
        if self.arrival_times is None:
            return None
        return float(self.arrival_times[-1] - self.arrival_times[0])

    def __str__(self) -> str:
        """Return in a sentence what the trace holds."""
        over = "" if not self.duration else f" over {self.duration / 60:,.3g} min"
        prompt, decode = float(self.prompt_tokens.mean()), float(self.decode_tokens.mean())
        return (
            f"{self.source}: {counted(self.requests, 'request')}{over}, prompts of {prompt:,.0f} "
            f"and outputs of {decode:,.0f} tokens in the mean."
        )


def _lengths(name: str, values: Any, minimum: int) -> IntArray:
    """Return `values` as a read-only int64 array, or raise naming the first bad request."""
    try:
        raw = np.asarray(values)
        if raw.ndim != 1 or raw.size == 0:
            raise TraceError(f"{name} must be a list of one or more lengths, got {raw.size}")
        numbers = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{name} must be integers, got values that are no numbers") from None
    bad = ~((numbers >= minimum) & (numbers <= MAXIMUM_TOKENS) & (numbers == np.floor(numbers)))
    if bad.any():
        at = int(np.argmax(bad))
        raise TraceError(
            f"{name} must be integers from {minimum} to {MAXIMUM_TOKENS}, "
            f"got {numbers[at]:g} at request {at + 1}"
        )
    return frozen_array(numbers, np.int64)
