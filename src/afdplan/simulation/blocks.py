"""Is all at hand that a kernel may use next? Compiled, for both kernels."""

from __future__ import annotations

from typing import Any

from afdplan.compile import Truth, U, inlined
from afdplan.simulation import state as ix

__all__ = ["factors_suffice", "requests_suffice"]


@inlined
def requests_suffice(t: Any, n: Any, v: Any, most: Any, clock: Any) -> Truth:
    """Say whether the `most` requests are there, with arrivals all that enter by `clock`."""
    if not t.open:
        return n[ix.AVAILABLE] - n[ix.HEAD] >= most
    if n[ix.EXHAUSTED]:
        return True
    return n[ix.AVAILABLE] > 0 and v[U(t.arrival_at + n[ix.AVAILABLE] - 1)] > clock


@inlined
def factors_suffice(t: Any, n: Any, attention: Any, send: Any, receive: Any) -> Truth:
    """Say whether so many factors are there, and one of the FFN's."""
    return not (
        (t.vary_attention and n[ix.AT_ATTENTION] + attention > n[ix.ATTENTION_FACTORS])
        or (t.vary_send and n[ix.AT_SEND] + send > n[ix.SEND_FACTORS])
        or (t.vary_ffn and n[ix.AT_FFN] + 1 > n[ix.FFN_FACTORS])
        or (t.uneven and n[ix.AT_EXPERTS] + 1 > n[ix.EXPERT_FACTORS])
        or (t.vary_receive and n[ix.AT_RECEIVE] + receive > n[ix.RECEIVE_FACTORS])
    )
