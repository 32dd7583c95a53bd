r"""What do failures of single devices leave of the throughput?

A bundle of n devices works for an exponential time of rate nu = n / M and then stands still for
the outage R. All requests in its slots are lost and begin again. A request of D tokens at tau per
token is finished within a working time with chance E[q^D], q = exp(-nu tau), whatever was before:
so every slot finishes, per working time,

    useful tokens = E[D q^D] / (1 - E[q^D])            of 1 / (e^(nu tau) - 1) that it makes

and the share of the failure-free throughput 1 / tau that remains is

    share = tau useful / ( 1/nu + R ).

**Spares.** N devices fail N / M times a second and are repaired in a mean time T: a Poisson number
B of mean mu = N T / M is in repair, whatever the law of T. With K spares (B - K)^+ bundles wait,
and by Little's law each of them

    E[wait] = T E[(B - K)^+] / mu,      R = restart + E[wait].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from afdplan.lengths.law import LengthLaw
from afdplan.model.failures import Failures

__all__ = ["BundleFailures", "bundle_failures", "mean_outage", "no_spare_probability"]

SMALL = 1e-9
"""Below this nu tau all sums are those of the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFailures:
    """A bundle under failures.

    Attributes
    ----------
    rate
        nu, failures per second.
    outage
        R, mean time that one costs [s].
    availability
        Share of the time in which it works.
    share
        Useful tokens over those of a bundle that never fails.
    lost_tokens
        Tokens that one failure throws away, per slot.
    """

    rate: float
    outage: float
    availability: float
    share: float
    lost_tokens: float


def no_spare_probability(devices: int, failures: Failures) -> float:
    """Return the chance that a failure finds no spare device.

    Examples
    --------
    >>> no_spare_probability(100, Failures(device_mtbf=1e6, restart=1.0, repair=1e4))
    1.0
    >>> kept = Failures(device_mtbf=1e6, restart=1.0, repair=1e4, spare_devices=2)
    >>> round(no_spare_probability(100, kept), 4)  # Poisson of mean 1: two or more
    0.2642
    """
    mean = devices * failures.repair / failures.device_mtbf
    if not failures.repair:
        return 0.0
    below = sum(
        math.exp(-mean + b * math.log(mean) - math.lgamma(b + 1))
        for b in range(failures.spare_devices)
    )
    return max(1.0 - below, 0.0)


def mean_outage(devices: int, failures: Failures) -> float:
    """Return R, the mean time that a failure costs its bundle [s].

    Parameters
    ----------
    devices
        N, of all bundles and workers that share the spares.
    failures
        Times and spares.

    Examples
    --------
    >>> alone = Failures(device_mtbf=1e12, restart=300.0, repair=3600.0)
    >>> round(mean_outage(8, alone))
    3900
    """
    mean = devices * failures.repair / failures.device_mtbf
    if not failures.repair:
        return failures.restart
    # E[(B - K)^+] = mean - K + sum over b < K of (K - b) P(b)
    waiting = (
        mean
        - failures.spare_devices
        + sum(
            (failures.spare_devices - b) * math.exp(-mean + b * math.log(mean) - math.lgamma(b + 1))
            for b in range(failures.spare_devices)
        )
    )
    return failures.restart + failures.repair * max(waiting, 0.0) / mean


def bundle_failures(
    law: LengthLaw,
    token_time: float,
    bundle_devices: int,
    failures: Failures,
    all_devices: int | None = None,
) -> BundleFailures:
    """Return what failures leave of a bundle.

    Parameters
    ----------
    law
        Of output lengths D.
    token_time
        tau, mean time per output token [s].
    bundle_devices
        n.
    failures
        Times and spares.
    all_devices
        N, all that share the spares; those of the bundle unless given.

    Notes
    -----
    Exact for exponential times between failures and constant steps; step times that scatter
    change `share` in second order only.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> law = IndependentLengths(prompt="fixed:10", decode="geometric:500")
    >>> lost = Failures(device_mtbf=3.6e7, restart=300.0)
    >>> round(bundle_failures(law, 0.05, 64, lost).share, 6)
    0.999423
    """
    rate, outage = (
        failures.rate(bundle_devices),
        mean_outage(all_devices or bundle_devices, failures),
    )
    x = rate * token_time
    alive, _ = law.survival()
    lengths = np.arange(1, alive.size + 1, dtype=np.float64)
    chances = alive - np.append(alive[1:], 0.0)
    mean = float(chances @ lengths)
    if x < SMALL:
        # The mean age of a slot's request is what a rare failure loses.
        lost = float(chances @ (lengths * (lengths - 1))) / (2 * mean)
        share = (1 - x * lost) / (1 + rate * outage)
    else:
        kept = np.exp(-x * lengths)
        useful = float(chances @ (lengths * kept)) / -float(chances @ np.expm1(-x * lengths))
        lost = 1 / math.expm1(x) - useful
        share = token_time * useful / (1 / rate + outage)
    return BundleFailures(
        rate=rate,
        outage=outage,
        availability=1 / (1 + rate * outage),
        share=share,
        lost_tokens=lost,
    )
