"""At which loads was a latency model measured?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_number

__all__ = ["LoadRange", "Validity"]

LoadRange = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """The loads at which a latency model was measured; None says nothing.

    Attributes
    ----------
    attention_tokens
        KV tokens of one worker and microbatch, (low, high) [tokens].
    ffn_tokens
        Tokens of one FFN worker and microbatch, (low, high) [tokens].
    batch_size
        Requests of one attention worker and microbatch, (low, high) [requests].
    """

    attention_tokens: LoadRange | None = None
    ffn_tokens: LoadRange | None = None
    batch_size: LoadRange | None = None

    def __post_init__(self) -> None:
        for name in ("attention_tokens", "ffn_tokens", "batch_size"):
            bounds = getattr(self, name)
            if bounds is None:
                continue
            if not isinstance(bounds, tuple | list) or len(bounds) != 2:
                raise LatencyModelError(
                    f"validity {name} must be two numbers [low, high], got {bounds!r}"
                )
            low, high = (
                check_number(f"validity {name}", b, error=LatencyModelError) for b in bounds
            )
            if low > high:
                raise LatencyModelError(
                    f"validity {name} must be [low, high] with low <= high, got [{low:g}, {high:g}]"
                )
            object.__setattr__(self, name, (low, high))
