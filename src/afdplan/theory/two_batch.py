"""How long is a round of two-batch overlap on ranks that compute attention and FFN in turn?

A rank computes both attentions, then both FFNs; transfers of one half run beside the computing of
the other, each direction of its link one after the other; every FFN and every next attention waits
for all ranks. With frozen loads, x_j and y_j the attention times of both halves on rank j, and
``c_stage = max(c_out, c_back)``, the max-plus period of this schedule is exactly

    round = f + max(f, c_stage) + max( max_j (x_j + y_j), max_j x_j + c_out, max_j y_j + c_back )

(every circuit of the schedule is one of these sums or an average of several). For equal times it
is ``a + f + max(a, c_stage) + max(f, c_stage)``. Ranks are independent and alike, so its law needs

    P( x + y <= s,  x <= s - c_out,  y <= s - c_back )^W

which is one convolution: ``y <= s - x`` is the stricter limit where x exceeds c_back.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.pipeline import RoundLaw, resolved

__all__ = ["two_batch_round"]


def two_batch_round(
    law: TimeLaw,
    ranks: int,
    *,
    ffn: float,
    out: float,
    back: float,
    probabilities: tuple[float, ...] = (),
) -> RoundLaw:
    """Return mean and quantiles of the round of both halves, one design.

    Parameters
    ----------
    law
        Time of one rank's attention on one half.
    ranks
        W >= 1.
    ffn
        f, the FFN on one half [time].
    out, back
        c_out and c_back, transfers of one half [time].
    probabilities
        For which the quantiles are wanted, each in (0, 1).

    Notes
    -----
    Exact for a law on at most 2,048 grid points; a longer one is put on a coarser grid that keeps
    its mean. Transfer times need not lie on it.

    Examples
    --------
    >>> always = TimeLaw(lowest=5.0, spacing=1.0, probabilities=np.ones(1))
    >>> two_batch_round(always, 8, ffn=4.0, out=3.0, back=7.0).mean  # 5 + 4 + 7 + 7
    array([23.])
    """
    law = resolved(law)
    size, h = law.probabilities.size, law.spacing
    # Within a grid cell of s each limit moves by one grid point where its transfer time ends.
    delays = [max((c - law.lowest) / h, 0.0) for c in (out, back)]
    whole = [int(delay) for delay in delays]
    part = [delay - n for delay, n in zip(delays, whole, strict=True)]
    edges = np.unique([0.0, *part, 1.0])
    first = max(whole)
    index = np.arange(first, max(2 * (size - 1), size + first) + 1)
    cumulative = np.stack(
        [
            _joint(law, index, *(n + (edge < p) for n, p in zip(whole, part, strict=True)))
            for edge in edges[:-1]
        ],
        axis=1,
    )
    below = cumulative**ranks
    begins = 2 * law.lowest + h * (index[:, None] + edges[:-1])
    shift = ffn + max(ffn, out, back)
    mean = shift + begins[0, 0] + h * float(((1 - below) * np.diff(edges)).sum())
    flat = below.ravel()
    at = [int(np.argmax(flat >= min(probability, 1 - 1e-12))) for probability in probabilities]
    return RoundLaw(mean=np.array([mean]), quantiles=shift + begins.ravel()[at][None, :])


def _joint(law: TimeLaw, index: IntArray, first: int, second: int) -> FloatArray:
    """Return P(x + y <= k, x <= k - first, y <= k - second) in grid points, k = `index`."""
    least, most = sorted((first, second))  # x and y are alike
    last = law.probabilities.size - 1
    cumulative = law.cumulative

    def up_to(k: IntArray) -> FloatArray:
        return np.where(k < 0, 0.0, cumulative[np.clip(k, 0, last)])

    # Where x <= least, y <= k - least is the stricter limit; beyond, it is y <= k - x.
    joint = up_to(index - least) * up_to(np.minimum(least, index - most))
    if most >= last:  # y <= k - x holds wherever x <= k - most does
        joint += np.maximum(up_to(index - most) - up_to(np.minimum(least, index)), 0.0)
        return np.minimum(joint, 1.0)
    points = np.arange(int(index[-1]) + 1)
    larger = np.where(np.arange(last + 1) > least, law.probabilities, 0.0)
    rest = np.where(points >= most, up_to(points), 0.0)
    transform = 1 << (points.size + last).bit_length()
    sums = np.fft.irfft(np.fft.rfft(larger, transform) * np.fft.rfft(rest, transform), transform)
    return np.clip(joint + sums[index], 0.0, 1.0)
