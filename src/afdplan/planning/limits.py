"""Which limits must a plan respect?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.errors import InvalidInputError
from afdplan.model import plan_parameters as ask
from afdplan.model.checks import check_count, check_number
from afdplan.model.parameter import check_fields
from afdplan.model.plan_parameters import Statistic
from afdplan.model.words import counted

if TYPE_CHECKING:
    from afdplan.theory.cycle import StepTimes

__all__ = ["TIE", "Limits", "Statistic", "limited", "percentile"]

TIE = 1e-9
"""Relative difference that counts as none."""


def percentile(statistic: str) -> tuple[float, ...]:
    """Return the statistic as the probabilities to ask a law for; none for the mean.

    Examples
    --------
    >>> percentile("p99"), percentile("mean")
    ((0.99,), ())
    """
    return () if statistic == "mean" else (int(statistic[1:]) / 100,)


def limited(times: StepTimes) -> FloatArray:
    """Return the statistic of step times that were asked for the probabilities of `percentile`."""
    return times.quantiles[:, 0] if times.quantiles.shape[1] else times.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a plan may use and must reach.

    Attributes
    ----------
    devices
        Most devices, of both sides together; None has no budget.
    requests_per_second
        Least rate of requests that must be finished; None asks for the most that is possible.
    time_per_output_token
        Most time per output token [s]; None has no limit.
    statistic
        Of the step-time law that is held against it: ``mean``, ``p50``, ``p95`` or ``p99``.
    overflow_probability
        Most chance, per attention worker and step, that the KV cache does not fit.
    node_devices
        Devices of a node; the attention devices of all bundles together and likewise the FFN
        devices must fill whole nodes. 1 means that nodes may be shared.
    optional_devices
        How many of the devices cost nothing unless they are used, at most `devices`.
    margin
        Share of each limit, in [0, 1), that a plan keeps away from it: of the time, of the room for
        KV cache, and on top of the rate.
    most_cost
        Most cost of the devices in use, in the unit of the objective: then the most tokens that it
        pays for are sought, and idle devices cost nothing. None has no bound.

    Raises
    ------
    InvalidInputError
        If a limit is out of its domain, or neither devices nor a rate is given.
    """

    devices: int | None = ask.DEVICES.default
    requests_per_second: float | None = ask.REQUESTS_PER_SECOND.default
    time_per_output_token: float | None = ask.TIME_PER_OUTPUT_TOKEN.default
    statistic: Statistic = ask.STATISTIC.default
    overflow_probability: float = ask.OVERFLOW_PROBABILITY.default
    node_devices: int = ask.NODE_DEVICES.default
    optional_devices: int = ask.OPTIONAL_DEVICES.default
    margin: float = ask.MARGIN.default
    most_cost: float | None = None

    def __post_init__(self) -> None:
        if self.devices is self.requests_per_second is self.most_cost is None:
            raise InvalidInputError(
                "a plan needs a budget or a goal: give devices, a rate in requests/s, or both"
            )
        check_fields(self, ask.LIMITS)
        check_count("optional_devices", self.optional_devices, 0, self.devices or 0)
        if self.most_cost is not None:
            check_number("most_cost", self.most_cost, strict=True)

    def __str__(self) -> str:
        """Return the limits in a sentence."""
        parts = []
        if self.devices is not None:
            parts.append(f"at most {counted(self.devices, 'device')}")
        if self.most_cost is not None:
            parts.append(f"a cost of at most {self.most_cost:,.6g}")
        if self.requests_per_second is not None:
            parts.append(f"at least {self.requests_per_second:,.6g} requests/s")
        if self.time_per_output_token is not None:
            at_most = f"at most {1e3 * self.time_per_output_token:,.6g} ms per output token"
            parts.append(f"{at_most} ({self.statistic})")
        parts.append(f"KV cache short in at most {100 * self.overflow_probability:.3g} % of steps")
        if self.node_devices > 1:
            parts.append(f"whole nodes of {counted(self.node_devices, 'device')}")
        if self.margin:
            parts.append(f"{100 * self.margin:.3g} % of each limit left free")
        text = ", ".join(parts)
        return f"{text[0].upper()}{text[1:]}."

    def idle_devices(self, used: IntArray | int) -> IntArray:
        """Return how many devices of the budget are idle and paid for, elementwise.

        Zero without a budget, with a rate or a cost to keep to: then only what is used counts.
        """
        counts = self.requests_per_second is self.most_cost is None
        if self.devices is None or not counts:
            return np.zeros(np.shape(used), np.int64)
        idle: IntArray = np.maximum(self.devices - self.optional_devices - used, 0)
        return idle

    def bundle_unit(self, attention_devices: Any, ffn_devices: Any) -> Any:
        """Return of which number bundles come in multiples, so that nodes are filled.

        Parameters
        ----------
        attention_devices, ffn_devices
            Of one bundle, elementwise; none of a side fills any nodes.
        """
        node = self.node_devices
        return np.lcm(node // np.gcd(attention_devices, node), node // np.gcd(ffn_devices, node))

    @property
    def wanted_rate(self) -> float | None:
        """The rate with its margin [requests/s]; None if none is asked for."""
        if self.requests_per_second is None:
            return None
        return self.requests_per_second * (1 + self.margin)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The limited percentile as a probability; none for the mean."""
        return percentile(self.statistic)

    def meets(self, step_time: FloatArray | float, tokens_per_step: float = 1.0) -> BoolArray:
        """Return whether step times (of the limited statistic) respect the limit, elementwise."""
        return np.asarray(step_time <= self.longest_step(tokens_per_step))

    def longest_step(self, tokens_per_step: float = 1.0) -> float:
        """Return the longest step whose limited statistic is allowed; infinite without a limit."""
        if self.time_per_output_token is None:
            return math.inf
        limit = self.time_per_output_token * (1 - self.margin) * tokens_per_step
        return limit * (1 + TIE)
