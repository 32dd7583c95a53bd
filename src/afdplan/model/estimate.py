"""How is an uncertain number carried?"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    value
        Point estimate.
    low, high
        Ends of the interval, ``low <= value <= high`` for the methods used here.
    confidence
        Stated coverage of the interval, in (0, 1); 1 for a number known exactly.
    method
        How the interval was made, for people.

    Examples
    --------
    >>> print(Estimate(value=10.0, low=9.5, high=10.5, confidence=0.95, method="bootstrap"))
    10 (9.5 to 10.5, 95 %)
    """

    value: float
    low: float
    high: float
    confidence: float
    method: str

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """Return a number that is known without error."""
        return cls(value=value, low=value, high=value, confidence=1.0, method="exact")

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width over the value; infinite at zero."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else float("inf")

    def moved(self, factor: float, offset: float = 0.0) -> Estimate:
        """Return ``offset + factor x``, with its interval.

        Examples
        --------
        >>> one = Estimate(value=1.0, low=0.5, high=2.0, confidence=0.95, method="bootstrap")
        >>> print(one.moved(-1.0, 3.0))
        2 (1 to 2.5, 95 %)
        """
        low, high = sorted((offset + factor * self.low, offset + factor * self.high))
        return replace(self, value=offset + factor * self.value, low=low, high=high)

    def __str__(self) -> str:
        if self.confidence == 1.0:
            return f"{self.value:.6g} (exact)"
        return (
            f"{self.value:.6g} ({self.low:.6g} to {self.high:.6g}, {self.confidence:.0%})".replace(
                "%", " %"
            )
        )
