"""How do requests group into sessions, and do their prompts repeat the session so far?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.model.trace import Trace

__all__ = ["Sessions", "describe_sessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions (conversations, agents) in numbers.

    Attributes
    ----------
    count
        Number of sessions.
    mean_requests, most_requests
        Requests of the average and of the longest session.
    history_fraction
        Share of follow-up requests whose prompt is at least as long as the prompt and output of
        their predecessor together: the prompt repeats the session so far, which a serving system
        would find in its prefix cache. 0 without follow-up requests.
    """

    count: int
    mean_requests: float
    most_requests: int
    history_fraction: float


def describe_sessions(trace: Trace) -> Sessions | None:
    """Return the sessions of a trace; None if it names none.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[10, 7, 15], decode_tokens=[5, 1, 5], session_ids=[1, 2, 1])
    >>> describe_sessions(trace)
    Sessions(count=2, mean_requests=1.5, most_requests=2, history_fraction=1.0)
    """
    if trace.session_ids is None:
        return None
    order = np.argsort(trace.session_ids, kind="stable")
    ids = trace.session_ids[order]
    follows = ids[1:] == ids[:-1]
    prompt = trace.prompt_tokens[order]
    whole = prompt + trace.decode_tokens[order]
    repeats = (prompt[1:] >= whole[:-1]) & follows
    sizes = np.unique(ids, return_counts=True)[1]
    return Sessions(
        count=sizes.size,
        mean_requests=trace.requests / sizes.size,
        most_requests=int(sizes.max()),
        history_fraction=float(repeats.sum() / follows.sum()) if follows.any() else 0.0,
    )
