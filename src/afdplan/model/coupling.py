"""What do attention workers and FFN workers cost each other beside the times of their stages?

A transfer of c in either direction keeps its link busy for c, a worker for a share of it:

    attention job   a' = alpha_back c_back + a + alpha_out c_out
    FFN job         f' = p beta_out c_out + f + launch + p beta_back c_back

p is 1, or the peers ``ceil(A / F)`` of the FFN worker that has most, where it receives from one
after another. A receiver's share is the transfer's last part, a sender's its first: without
waiting the result of a microbatch is back as if nobody were occupied, but for the p - 1 others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.model import parameters as ask
from afdplan.model.parameter import check_fields

if TYPE_CHECKING:
    from afdplan.model.stages import Transfer

__all__ = ["UNCOUPLED", "Coupling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupling:
    """Whom transfers occupy, what a launch costs, and whose tokens an FFN worker has.

    Attributes
    ----------
    send_attention, send_ffn
        Share of a transfer to the FFN that keeps the attention worker, and the FFN worker, busy,
        in [0, 1]; both may be busy at once.
    receive_attention, receive_ffn
        The same of the transfer back.
    one_by_one
        Whether the FFN worker is occupied by its peers one after another, once all have sent.
    launch
        Constant time of each FFN launch, which no load and no scatter changes [time], >= 0.
    fan_in
        ``even``: tokens are spread evenly, n = A B / F on each FFN worker. ``whole``: each
        attention worker has one FFN worker, so that the one with most peers has
        ``ceil(A / F) B``, B where A < F: for transfers of aggregate load and the dense share.
    dense_share
        With `fan_in` whole, share of the FFN's load that each FFN worker does alone for its
        peers, in [0, 1]: ``f = t_F(n) + dense_share (t_F(ceil(A / F) B) - t_F(n))``.

    Raises
    ------
    LatencyModelError
        If a value is out of its domain.

    Examples
    --------
    >>> Coupling(send_ffn=1.0, one_by_one=True).peers(7, 2)
    4
    """

    send_attention: float = ask.SEND_ATTENTION.default
    send_ffn: float = ask.SEND_FFN.default
    receive_attention: float = ask.RECEIVE_ATTENTION.default
    receive_ffn: float = ask.RECEIVE_FFN.default
    one_by_one: bool = ask.ONE_BY_ONE.default
    launch: float = ask.LAUNCH.default
    fan_in: ask.FanIn = ask.FAN_IN.default
    dense_share: float = ask.DENSE_SHARE.default

    def __post_init__(self) -> None:
        check_fields(self, ask.COUPLING, error=LatencyModelError)
        if self.dense_share > 0 and self.fan_in == "even":
            raise LatencyModelError(
                f"dense_share needs fan_in whole, got {self.dense_share:g} with even: where tokens "
                "are spread evenly no FFN worker has more than another"
            )

    @property
    def is_occupying(self) -> bool:
        """Whether a transfer keeps a worker busy."""
        shares = (self.send_attention, self.send_ffn, self.receive_attention, self.receive_ffn)
        return max(shares) > 0

    @property
    def is_stepped(self) -> bool:
        """Whether times jump where A / F passes a whole number."""
        one_by_one = self.one_by_one and max(self.send_ffn, self.receive_ffn) > 0
        return one_by_one or self.fan_in == "whole"

    def peers(self, attention_workers: Any, ffn_workers: Any) -> Any:
        """Return ``ceil(A / F)``, peers of the FFN worker that has most; arrays or numbers."""
        ratio = attention_workers / ffn_workers
        if isinstance(ratio, np.ndarray):
            return np.maximum(np.ceil(ratio - 1e-12), 1.0)
        return max(math.ceil(ratio - 1e-12), 1)

    def own_tokens(self, attention_workers: Any, ffn_workers: Any, batch_size: float) -> Any:
        """Return what an FFN worker gets from its peers: n, or ``ceil(A / F) B`` [tokens]."""
        if self.fan_in == "even":
            return attention_workers * (batch_size / ffn_workers)
        return self.peers(attention_workers, ffn_workers) * batch_size

    def attention_occupied(self, send: Transfer, receive: Transfer, batch_size: float) -> float:
        """Return for how long transfers occupy an attention worker per microbatch [time]."""
        out, back = self.send_attention, self.receive_attention
        if out == back == 0:
            return 0.0
        return out * send.curve(float(batch_size)) + back * receive.curve(float(batch_size))

    def one_after_another(self, transfer: Transfer, attention_workers: Any, ffn: Any) -> Any:
        """Return how many of these transfers an FFN worker has to do with, one after another."""
        if self.one_by_one and transfer.load == "worker":
            return self.peers(attention_workers, ffn)
        return 1


UNCOUPLED = Coupling()
"""Transfers occupy nobody, tokens are spread evenly and nothing is launched."""
