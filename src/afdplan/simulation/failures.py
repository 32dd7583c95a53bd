"""What remains of the throughput if devices of bundles fail, are replaced and repaired?

Events are failures of devices, in a service of alike bundles: the bundle loses the requests in its
slots, waits for a spare device or for a repaired one, restarts, and begins with fresh requests.
Shares no code with `afdplan.theory.failures`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import IntArray
from afdplan.compile import compiled
from afdplan.model.failures import Failures

__all__ = ["FailureRun", "play_failures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRun:
    """A run of bundles under failures.

    Attributes
    ----------
    share
        Tokens of finished requests over those of bundles that never fail.
    lost_tokens
        Tokens that a failure threw away, per slot; 0 without failures.
    mean_outage
        From a failure until the bundle worked again [s]; 0 without failures.
    failures
        How many there were.
    """

    share: float
    lost_tokens: float
    mean_outage: float
    failures: int


def play_failures(
    decode_tokens: IntArray,
    token_time: float,
    *,
    bundles: int,
    bundle_devices: int,
    slots: int,
    failures: Failures,
    duration: float,
    seed: int,
) -> FailureRun:
    """Return what bundles finish in a time with failures.

    Parameters
    ----------
    decode_tokens
        Output lengths to draw from [tokens].
    token_time
        Time per output token [s].
    bundles, bundle_devices, slots
        Bundles, devices of each, and slots of each that are followed.
    failures
        Times and spares; devices that are repaired become spares again.
    duration
        Of the run [s].
    seed
        Of all that is random.

    Examples
    --------
    >>> run = play_failures(np.array([10]), 0.1, bundles=1, bundle_devices=8, slots=2,
    ...     failures=Failures(device_mtbf=1e12, restart=1.0), duration=1e4, seed=0)
    >>> run.failures, round(run.share, 3)
    (0, 1.0)
    """
    generator = np.random.default_rng(seed)
    nu = failures.rate(bundle_devices)
    # (time, kind, bundle): 0 a failure, 1 a device comes back from repair.
    events = [(generator.exponential(1 / nu), 0, k) for k in range(bundles)]
    heapq.heapify(events)
    since = np.zeros(bundles)
    spares = failures.spare_devices
    waiting: list[int] = []
    failed_at: dict[int, float] = {}
    useful = lost = outage = 0.0
    count = begun = 0

    def begin(bundle: int, now: float) -> None:
        nonlocal outage, begun
        since[bundle] = now + failures.restart
        outage += since[bundle] - failed_at.pop(bundle)
        begun += 1
        heapq.heappush(events, (since[bundle] + generator.exponential(1 / nu), 0, bundle))

    def finish(bundle: int, until: float, is_failure: bool) -> None:
        nonlocal useful, lost
        steps = int(max(until - since[bundle], 0.0) / token_time)
        lives = generator.integers(decode_tokens.size, size=_enough(decode_tokens, steps, slots))
        done = float(_finished(decode_tokens[lives], steps, slots))
        useful += done
        lost += (slots * steps - done) if is_failure else 0.0

    while events and events[0][0] < duration:
        now, kind, bundle = heapq.heappop(events)
        if kind:
            if waiting:
                begin(waiting.pop(0), now)
            else:
                spares += 1
            continue
        count += 1
        finish(bundle, now, is_failure=True)
        failed_at[bundle] = now
        if failures.repair:
            heapq.heappush(events, (now + generator.exponential(failures.repair), 1, -1))
            if not spares:
                waiting.append(bundle)
                continue
            spares -= 1
        begin(bundle, now)
    for bundle in range(bundles):
        if bundle not in failed_at:
            finish(bundle, duration, is_failure=False)
    return FailureRun(
        share=useful * token_time / (duration * slots * bundles),
        lost_tokens=lost / (count * slots) if count else 0.0,
        mean_outage=outage / begun if begun else 0.0,
        failures=count,
    )


def _enough(decode_tokens: IntArray, steps: int, slots: int) -> int:
    """Return how many lives all slots begin at most, nearly surely."""
    mean, deviation = float(decode_tokens.mean()), float(decode_tokens.std())
    each = steps / mean
    return slots * int(each + 10 * (deviation / mean + 1) * np.sqrt(each + 1) + 10)


@compiled
def _finished(lives: IntArray, steps: int, slots: int) -> int:
    """Return the tokens of the requests that all slots finish in so many steps."""
    total, at = 0, 0
    for _ in range(slots):
        left = steps
        while at < lives.size and lives[at] <= left:
            left -= lives[at]
            total += lives[at]
            at += 1
        at += 1
    return total
