"""How far may the gain of a split over an un-split deployment be off?

Every part of both derived models errs independently of the others, and alike on both sides: kernels
that are slower than thought slow both. So with T the step time of either side at its mean load,

    var(log gain) = sum over parts ( d log T_un-split - d log T_split )^2

where d is what one standard error of that part does. Parts that only one side has, waiting of the
un-split ranks above all, do not cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from afdplan.calibration.derived_error import part_errors
from afdplan.lengths.law import LengthLaw
from afdplan.model.latency import LatencyModel
from afdplan.planning.colocated import Colocated
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import PlannedDesign

__all__ = ["GainInterval", "gain_interval"]

CONFIDENCE = 0.95
QUANTILE = 1.96
WAITING_ERROR = 0.5
"""Standard error of how long un-split ranks wait: one system's ranks, of another device."""
COMMON_ERROR = 0.02
"""Standard error of what the theory leaves out on one side only."""
HOST_GAP = 0.75e-3
"""What a host adds to an un-split step per rank [s] where one process schedules all: vLLM on
GB200, wall clock less CUDA span, 0.65 to 1.06 ms per rank from 4 to 64 ranks
(github.com/linsj20/FastAFD). Systems that schedule ahead have none: only the interval holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GainInterval:
    """Between which gains of the split the truth is expected.

    Attributes
    ----------
    low, high
        Ends [relative gain].
    confidence
        Stated coverage.
    parts
        Standard error of the logarithm of the gain by part, the largest first.
    host_gap
        What the host may add to the un-split step, in `high` alone [s].
    """

    low: float
    high: float
    confidence: float
    parts: tuple[tuple[str, float], ...]
    host_gap: float


def gain_interval(
    law: LengthLaw, source: DerivedSource, best: PlannedDesign, other: Colocated, gain: float
) -> GainInterval:
    """Return the interval of the gain of a split design over an un-split deployment.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    source
        From which both were derived.
    best, other
        Both sides.
    gain
        As the exact theory has it.
    """
    middle = _log_gain(law, source, best, other)
    moves = []
    errors = part_errors(source.placement) | {"waiting": WAITING_ERROR}
    for part, error in errors.items():
        moved = source.slower(part, math.exp(error))
        moves.append((part, abs(_log_gain(law, moved, best, other) - middle)))
    moves.append(("common", COMMON_ERROR))
    reach = QUANTILE * math.sqrt(sum(move**2 for _, move in moves))
    gap = HOST_GAP * other.ranks * other.devices_per_rank
    late = 1 + gap / other.step_time.mean
    return GainInterval(
        low=(1 + gain) * math.exp(-reach) - 1,
        high=(1 + gain) * math.exp(reach) * late - 1,
        confidence=CONFIDENCE,
        parts=tuple(sorted(moves, key=lambda move: -move[1])),
        host_gap=gap,
    )


def _log_gain(
    law: LengthLaw, source: DerivedSource, best: PlannedDesign, other: Colocated
) -> float:
    design = best.design
    split = source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    tokens = design.bundle.ffn_tokens
    parts = source.colocated
    unsplit = parts.latency(other.devices_per_rank, other.ranks, other.batch_size)
    own = parts.ffn_tokens(other.devices_per_rank, other.batch_size)
    return math.log(_unsplit_step(law, unsplit, other, own) / _split_step(law, split, best, tokens))


def _attention(law: LengthLaw, latency: LatencyModel, batch_size: int) -> float:
    """Return the mean attention time of all layers of a step [s]."""
    return sum(
        kind.layers * kind.time(batch_size * law.token_load(kind.context_window).mean, batch_size)
        for kind in latency.attention
    )


def _split_step(law: LengthLaw, latency: LatencyModel, best: PlannedDesign, tokens: float) -> float:
    design, layers = best.design, latency.layers
    m, b = design.microbatches, design.batch_size
    attention = _attention(law, latency, b)
    f = layers * latency.ffn(tokens)
    out, back = (layers * way.time(b, tokens) for way in (latency.send, latency.receive))
    slowest = max(m * attention, m * f, m * out, m * back, attention + f + out + back)
    return latency.step_overhead + slowest


def _unsplit_step(law: LengthLaw, latency: LatencyModel, other: Colocated, tokens: float) -> float:
    b, layers = other.batch_size, latency.layers
    attention = _attention(law, latency, b)
    f = layers * latency.ffn(tokens)
    out, back = (layers * way.time(b, tokens) for way in (latency.send, latency.receive))
    if other.two_batch_overlap:
        longest = max(out, back)
        return latency.step_overhead + f + max(f, longest) + attention + max(attention, longest)
    return latency.step_overhead + attention + f + out + back
