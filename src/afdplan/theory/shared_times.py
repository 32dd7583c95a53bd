"""What do all attention workers of a design share: FFN and transfers, and whom these occupy?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.latency import LatencyModel
from afdplan.theory.fresh_times import FfnTimes, ffn_times, least_ffn_mean

__all__ = ["StageTimes", "shared_times"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageTimes:
    """Times that all attention workers share, for n designs.

    Attributes
    ----------
    attention_workers
        A, shape (n,).
    ffn, out, back
        f, c_out, c_back, shape (n,) [time]; f with the transfers that occupy the FFN.
    fresh, between
        Standard deviation of f as drawn anew for each microbatch, and between layers, shape (n,)
        [time]; None where f is always the same.
    occupied
        Part of f in which transfers occupy the FFN [time], None: none.
    out_delay, back_delay
        Where transfers occupy workers, what is left of them between the jobs, shape (n,) [time];
        negative where both workers are busy at once. None: the whole transfer.
    """

    attention_workers: FloatArray
    ffn: FloatArray
    out: FloatArray
    back: FloatArray
    fresh: FloatArray | None = None
    between: FloatArray | None = None
    occupied: FloatArray | None = None
    out_delay: FloatArray | None = None
    back_delay: FloatArray | None = None

    @property
    def delays(self) -> tuple[FloatArray, FloatArray]:
        """What follows the attention job until the FFN's can begin, and back again [time]."""
        out = self.out if self.out_delay is None else self.out_delay
        return out, self.back if self.back_delay is None else self.back_delay

    @property
    def saved(self) -> FloatArray | float:
        """By how much a trip of both jobs is shorter than these and whole transfers [time]."""
        out, back = self.delays
        nobody = self.out_delay is None and self.back_delay is None
        return 0.0 if nobody else self.out + self.back - out - back

    @property
    def trip(self) -> FloatArray:
        """``f + c_out + c_back``: what follows the attention job until the next can begin."""
        trip: FloatArray = self.ffn + self.out + self.back - self.saved
        return trip


def shared_times(
    latency: LatencyModel,
    attention_workers: FloatArray,
    ffn_workers: IntArray | int,
    batch_size: int,
    *,
    least_of: IntArray | int | None = None,
) -> StageTimes:
    """Return the FFN and transfer times of bundles with `attention_workers` A, shape (n,).

    Parameters
    ----------
    latency
        Times of the stages.
    attention_workers, ffn_workers
        A, F of each bundle.
    batch_size
        B.
    least_of
        If given, what the mean FFN times are at least, the law of the busiest rank being that of
        so many FFN workers.
    """
    coupling = latency.coupling
    tokens = attention_workers * (batch_size / ffn_workers)
    own = np.full_like(tokens, batch_size)
    gathered = tokens
    if coupling.fan_in == "whole":
        gathered = coupling.own_tokens(attention_workers, ffn_workers, float(batch_size))
    out, back = (
        transfer.curve(own if transfer.load == "worker" else gathered)
        for transfer in (latency.send, latency.receive)
    )
    if least_of is None:
        ffn = ffn_times(latency, tokens, ffn_workers, gathered)
    else:
        ffn = FfnTimes(mean=least_ffn_mean(latency, tokens, least_of, gathered))
    times = StageTimes(
        attention_workers=attention_workers,
        ffn=ffn.mean,
        out=out,
        back=back,
        fresh=ffn.fresh,
        between=ffn.between,
    )
    return _occupying(latency, times, ffn_workers) if coupling.is_occupying else times


def _occupying(latency: LatencyModel, times: StageTimes, ffn_workers: IntArray | int) -> StageTimes:
    """Return the times with the shares of the transfers that occupy the FFN and shorten the way.

    A receiver's share is the end of the transfer, a sender's its beginning. Of p peers one after
    another the last waits for p - 1, which is part of f here: the FFN's own way is no longer.
    """
    coupling, workers = latency.coupling, times.attention_workers
    occupied: FloatArray = np.zeros_like(times.ffn)
    delays = []
    for link, way, attention, ffn in (
        (latency.send, times.out, coupling.send_attention, coupling.send_ffn),
        (latency.receive, times.back, coupling.receive_attention, coupling.receive_ffn),
    ):
        peers = coupling.one_after_another(link, workers, ffn_workers)
        occupied = occupied + peers * ffn * way
        delays.append((1 - attention - ffn) * way)
    return replace(
        times,
        ffn=times.ffn + occupied,
        occupied=occupied,
        out_delay=delays[0],
        back_delay=delays[1],
    )
