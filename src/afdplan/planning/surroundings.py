"""What stands next to the best split: computed when it is first asked for."""

from __future__ import annotations

from functools import cached_property

from afdplan.model.estimate import Estimate
from afdplan.planning.alternatives import Alternative, alternatives, pareto_front
from afdplan.planning.binding import ShadowPrice, shadow_prices
from afdplan.planning.design import PlannedDesign
from afdplan.planning.fastest import fastest_design
from afdplan.planning.limits import Limits
from afdplan.planning.next_batch import NextBatch, next_batch
from afdplan.planning.search import DesignSearch
from afdplan.planning.sensitivity import (
    BrokenInput,
    Sensitivity,
    broken_inputs,
    sensitivities,
)

__all__ = ["Surroundings"]


class Surroundings:
    """Other designs and other inputs around one design; nothing around one that breaks limits.

    Parameters
    ----------
    search
        That found the design; it keeps what it computes.
    best
        The design.
    limits
        Under which it was found.
    token_load
        Mean token load with its interval, if known.
    keeps_limits
        Whether it is the best under these limits: what stands next to another one says nothing.
    """

    def __init__(
        self,
        search: DesignSearch,
        best: PlannedDesign,
        limits: Limits,
        token_load: Estimate | None,
        *,
        keeps_limits: bool,
    ) -> None:
        self.search = search
        self._asked = search, best, limits
        self._token_load = token_load
        self._keeps_limits = keeps_limits

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """Other ratios, microbatches, batch sizes and FFN workers."""
        return alternatives(*self._asked) if self._keeps_limits else ()

    def nearest(self, most: int) -> tuple[Alternative, ...]:
        """Those of the alternatives that give up least, at least so many if there are."""
        if not self._keeps_limits or "alternatives" in self.__dict__:
            return self.alternatives
        return alternatives(*self._asked, nearest=most)

    @cached_property
    def front(self) -> tuple[PlannedDesign, ...]:
        """Score against time per output token."""
        search, best, limits = self._asked
        if not self._keeps_limits:
            return (best,)
        fastest = fastest_design(search, limits) or best
        return pareto_front(search, best, fastest, limits)

    @cached_property
    def binding(self) -> tuple[ShadowPrice, ...]:
        """What relaxing each limit would bring."""
        return shadow_prices(*self._asked) if self._keeps_limits else ()

    @cached_property
    def next_batch(self) -> NextBatch | None:
        """What the next larger batch size would break or bring."""
        return next_batch(*self._asked) if self._keeps_limits else None

    @cached_property
    def sensitivity(self) -> tuple[Sensitivity, ...]:
        """The design under other inputs."""
        return sensitivities(*self._asked, self._token_load) if self._keeps_limits else ()

    @cached_property
    def broken(self) -> tuple[BrokenInput, ...]:
        """The inputs that break the limit on the time, worst first."""
        return broken_inputs(*self._asked, self._token_load) if self._keeps_limits else ()
