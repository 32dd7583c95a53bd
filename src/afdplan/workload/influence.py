"""How much of the load hangs on a single request?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.model.trace import Trace
from afdplan.workload.interval import request_loads

__all__ = ["LargestRequest", "largest_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestRequest:
    """The request with the most token-steps.

    Attributes
    ----------
    request
        Its number, from 1, in the order of the trace.
    prompt_tokens, decode_tokens
        Its lengths [tokens].
    load_fraction
        Its share of all token-steps.
    token_load_without
        Mean token load of the trace without it [tokens].
    """

    request: int
    prompt_tokens: int
    decode_tokens: int
    load_fraction: float
    token_load_without: float


def largest_request(trace: Trace) -> LargestRequest:
    """Return the request that adds most to the load of its slot; the first among equals.

    Examples
    --------
    >>> largest_request(Trace(prompt_tokens=[10, 0], decode_tokens=[3, 2])).load_fraction  # 33/34
    0.9705882352941176
    """
    loads = request_loads(trace)
    at = int(np.argmax(loads))
    total, steps = float(loads.sum()), float(trace.decode_tokens.sum())
    decode = int(trace.decode_tokens[at])
    rest = steps - decode
    return LargestRequest(
        request=at + 1,
        prompt_tokens=int(trace.prompt_tokens[at]),
        decode_tokens=decode,
        load_fraction=float(loads[at]) / total if total else 0.0,
        token_load_without=(total - float(loads[at])) / rest if rest else 0.0,
    )
