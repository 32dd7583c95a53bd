"""How much of a prompt is the session so far, which a prefix cache would hold?"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import IntArray
from afdplan.errors import InvalidInputError
from afdplan.model.trace import Trace

__all__ = ["session_prefixes"]


def session_prefixes(trace: Trace) -> IntArray:
    """Return the tokens of each prompt that its session already holds, nothing evicted.

    A follow-up whose prompt is at least as long as prompt and output of its predecessor together
    repeats them; any other is taken to begin anew.

    Raises
    ------
    InvalidInputError
        If the trace names no sessions.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[10, 7, 18, 9], decode_tokens=[5, 1, 5, 1],
    ...     session_ids=[1, 2, 1, 2])
    >>> session_prefixes(trace).tolist()
    [0, 0, 15, 8]
    """
    if trace.session_ids is None:
        raise InvalidInputError(
            f"{trace.source} names no sessions: give --prefix-cache recorded, or none"
        )
    order = np.argsort(trace.session_ids, kind="stable")
    follows = np.diff(trace.session_ids[order]) == 0
    whole = (trace.prompt_tokens + trace.decode_tokens)[order]
    repeats = follows & (trace.prompt_tokens[order][1:] >= whole[:-1])
    found = np.zeros(trace.requests, np.int64)
    found[order[1:]] = np.where(repeats, whole[:-1], 0)
    return np.minimum(found, np.maximum(trace.prompt_tokens - 1, 0))
