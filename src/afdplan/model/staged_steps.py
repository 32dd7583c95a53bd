"""How long was a measured step, and each of its stages?"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from afdplan.arrays import BoolArray, FloatArray
from afdplan.errors import InvalidInputError

__all__ = ["StagedSteps"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StagedSteps:
    """Measured steps with the times of their stages, n of them, one attention worker each.

    Attributes
    ----------
    attention, ffn, send, receive
        a, f, c_out, c_back of a layer and microbatch, shape (n,) [time], >= 0.
    step
        The whole step, shape (n,) [time], > 0.
    layers, microbatches
        L and m, shape (n,), >= 1.
    """

    attention: FloatArray
    ffn: FloatArray
    send: FloatArray
    receive: FloatArray
    step: FloatArray
    layers: FloatArray
    microbatches: FloatArray

    def __post_init__(self) -> None:
        sizes = set()
        for one in fields(self):
            values = np.atleast_1d(np.asarray(getattr(self, one.name), dtype=np.float64))
            least = 1.0 if one.name in ("layers", "microbatches") else 0.0
            bad = ~np.isfinite(values) | (values < least)
            if one.name == "step":
                bad |= values == 0
            if bad.any():
                at = int(np.argmax(bad))
                rule = "> 0" if one.name == "step" else f">= {least:g}"
                raise InvalidInputError(
                    f"{one.name} of step {at + 1} must be a number {rule}, got {values[at]:g}"
                )
            sizes.add(values.size)
            object.__setattr__(self, one.name, values)
        if len(sizes) > 1:
            raise InvalidInputError(
                f"each step needs all of its times, got {sorted(sizes)} of them"
            )

    def chosen(self, which: BoolArray) -> StagedSteps:
        """Return some of the steps."""
        return StagedSteps(**{one.name: getattr(self, one.name)[which] for one in fields(self)})

    def times(self, share: FloatArray | float, launch: FloatArray | float) -> FloatArray:
        """Return how long each step takes by the formula; shapes broadcast [time]."""
        links, m = self.send + self.receive, self.microbatches
        ffn = self.ffn + launch
        busiest = np.maximum(np.maximum(self.attention, self.send), self.receive)
        busiest = np.maximum(busiest, ffn + share * links)
        step: FloatArray = self.layers * np.maximum(m * busiest, self.attention + ffn + links)
        return step
