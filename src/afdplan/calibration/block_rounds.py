"""How much longer than its bytes does attention take because its blocks of threads come in rounds?

Each request and KV head is one block, and a processor computes one at a time; fewer blocks than
half the processors are split. A last round of few blocks cannot use the memory's bandwidth: one
block alone reads only `ALONE` times the share of a processor. With n blocks on p free processors,
of P on the device,

    rounds(n) = ( floor(n/p) p + max(n mod p, P / ALONE) ) / n        for n > p, else 1

without a last round where n mod p = 0; no last round lasts longer than a whole one.

References
----------
FlashInfer, `include/flashinfer/trtllm/fmha/fmhaKernels.cuh`: one block per KV head and request, and
``max(1, processors / blocks)`` of them along the sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ALONE", "block_rounds", "mean_loss", "most_rounds"]

ALONE = 2.5
"""Share of the bandwidth that one block reads alone, over that of one of all processors: measured
operators of B200, GB200, B300 and GB300 in bf16 at 160 to 768 blocks say 2.2 to 2.6 (SGLang and
TensorRT-LLM, aiconfigurator-core 0.12.0)."""


def mean_loss(blocks: float, processors: int, held: int = 0) -> float:
    """Return what a last round loses in the mean, over the time of the bytes; 0 for split blocks.

    Over all numbers of blocks that a last round can have, ``(P / ALONE)^2 / (2 p n)``.

    Examples
    --------
    >>> round(mean_loss(192, 152), 3), mean_loss(64, 152)
    (0.063, 0.0)
    """
    if 2 * blocks <= processors:
        return 0.0
    return (processors / ALONE) ** 2 / (2 * (processors - held) * blocks)


def block_rounds(blocks: npt.ArrayLike, processors: int, held: int = 0) -> npt.NDArray[np.float64]:
    """Return the time of equal blocks over that of their bytes at the device's bandwidth, >= 1.

    It never falls by more than the blocks grow: more requests of one length never take less time.
    Blocks of unequal requests wait for the longest: they take longer.

    Parameters
    ----------
    blocks
        Requests times KV heads of a device, > 0, any shape.
    processors
        Of the device.
    held
        How many another kernel holds meanwhile, fewer than all.

    Examples
    --------
    >>> [round(float(block_rounds(n, 152)), 2) for n in (152, 160, 192, 256)]
    [1.0, 1.33, 1.11, 1.0]
    >>> round(float(block_rounds(144, 152, held=24)), 2)
    1.31
    """
    count = np.asarray(blocks, dtype=np.float64)
    free = processors - held
    whole = np.floor(count / free) * free
    last = count - whole
    slowest = np.where(last > 0, np.maximum(last, min(processors / ALONE, free)), 0.0)
    return np.asarray(np.where(count <= free, 1.0, (whole + slowest) / count))


def most_rounds(processors: int, held: int = 0) -> float:
    """Return the most that it can be: of one block more than there are free processors.

    Examples
    --------
    >>> round(most_rounds(152), 2), round(most_rounds(152, 24), 2)
    (1.39, 1.46)
    """
    return float(block_rounds(processors - held + 1, processors, held))
