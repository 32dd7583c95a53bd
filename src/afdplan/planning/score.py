"""How good is a deployment: tokens per second and unit of cost, under the limits?

With a budget, idle devices of the budget are paid for too, so that the score grows with the total;
with a rate, only the rate that is asked for counts, so that the score falls with the cost:

    score = counted tokens/s / ( cost of the devices in use + idle devices * cost of an idle one )

With a most cost, all that it pays for is deployed and the score is tokens/s over that cost.

Search, its bounds, the un-split baseline, alternatives, sensitivities and `check` all ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from afdplan.planning.limits import TIE, Limits
from afdplan.planning.objective import DeviceCost

__all__ = ["Score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score of deployments of one workload; everything works elementwise.

    Attributes
    ----------
    cost
        Of a device of each side.
    tokens_per_request
        Mean output tokens of a request, which turn a rate of requests into one of tokens.

    Examples
    --------
    >>> score = Score(cost=DeviceCost(), tokens_per_request=100.0)
    >>> float(score.value(9000.0, 7, 1, Limits(devices=10)))
    900.0
    >>> score.bundles(900.0, 7, 1, 1, 0, Limits(requests_per_second=20.0)).tolist()
    3
    """

    cost: DeviceCost
    tokens_per_request: float

    def cost_of(self, attention_devices: Any, ffn_devices: Any, limits: Limits) -> Any:
        """Return what is paid for: devices in use and idle ones of the budget."""
        if limits.most_cost is not None:
            return limits.most_cost
        idle = limits.idle_devices(attention_devices + ffn_devices)
        return self.cost.of(attention_devices, ffn_devices) + self.cost.idle * idle

    def value(
        self, tokens_per_second: Any, attention_devices: Any, ffn_devices: Any, limits: Limits
    ) -> Any:
        """Return the score of deployments that give so many tokens per second in all."""
        rate = limits.requests_per_second
        counted = tokens_per_second if rate is None else rate * self.tokens_per_request
        return counted / self.cost_of(attention_devices, ffn_devices, limits)

    def bound(self, tokens_per_second: Any, attention_devices: Any, ffn_devices: Any) -> Any:
        """Return what no number of bundles can beat, each with these tokens and devices."""
        least = self.cost.attention * attention_devices + self.cost.ffn * ffn_devices
        return tokens_per_second / least

    def ceiling(self, attention_devices: Any, ffn_devices: Any, unit: Any, limits: Limits) -> Any:
        """Return the score of as few bundles as there can be: with a rate none scores more."""
        if limits.requests_per_second is None:
            return np.full(np.shape(unit), np.inf)
        return self.value(0.0, attention_devices * unit, ffn_devices * unit, limits)

    def bundles(
        self,
        tokens_per_second: Any,
        attention_devices: Any,
        ffn_devices: Any,
        unit: Any,
        most: Any,
        limits: Limits,
    ) -> Any:
        """Return how many bundles are deployed: as few as reach the rate, else all that fit.

        Parameters
        ----------
        tokens_per_second, attention_devices, ffn_devices
            Of one bundle.
        unit
            Bundles come in multiples of it.
        most
            That the budget of devices allows, if there is one.
        limits
            Rate or cost; the budget is not held against a rate here.
        """
        if limits.most_cost is not None:
            fixed = self.cost.of(0, 0)
            each = (self.cost.of(attention_devices, ffn_devices) - fixed) * unit
            groups = np.maximum((limits.most_cost * (1 + TIE) - fixed) // each, 0.0)
            paid = (groups * unit).astype(np.int64)
            return paid if limits.devices is None else np.minimum(paid, most)
        if limits.wanted_rate is None:
            return most
        goal = limits.wanted_rate * self.tokens_per_request
        groups = np.ceil(goal * (1 - TIE) / (tokens_per_second * unit))
        return (np.maximum(groups, 1.0) * unit).astype(np.int64)
