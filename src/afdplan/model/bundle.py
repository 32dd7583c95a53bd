"""What is one bundle: how many workers of each side, how many slots, how many microbatches?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model import parameters as ask
from afdplan.model.parameter import check_fields
from afdplan.model.words import counted

__all__ = ["Bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A attention workers coupled to F FFN workers, with one barrier over all A.

    Attributes
    ----------
    attention_workers
        A, >= 1.
    ffn_workers
        F, >= 1. All serve every microbatch, each with ``n = A B / F`` tokens.
    batch_size
        B, request slots per attention worker and microbatch, >= 1.
    microbatches
        m in flight, 1 to 8.

    Examples
    --------
    >>> bundle = Bundle(attention_workers=8, batch_size=256)
    >>> bundle.attention_to_ffn_ratio, bundle.requests_per_attention_worker, bundle.ffn_tokens
    (8.0, 512, 2048.0)
    """

    attention_workers: int
    ffn_workers: int = ask.FFN_WORKERS.default
    batch_size: int
    microbatches: int = ask.MICROBATCHES.default

    def __post_init__(self) -> None:
        check_fields(self, ask.BUNDLE)

    def __str__(self) -> str:
        """Return the bundle in words."""
        return (
            f"{counted(self.attention_workers, 'attention worker')} with "
            f"{counted(self.ffn_workers, 'FFN worker')}, {self.batch_size:,} requests per worker "
            f"in each of {counted(self.microbatches, 'microbatch')}"
        )

    @property
    def attention_to_ffn_ratio(self) -> float:
        """Ratio r = A / F."""
        return self.attention_workers / self.ffn_workers

    @property
    def requests_per_attention_worker(self) -> int:
        """S = m B, what serving systems call max-num-seqs [requests]."""
        return self.microbatches * self.batch_size

    @property
    def ffn_tokens(self) -> float:
        """The n = A B / F tokens of one FFN worker per microbatch [tokens]."""
        return self.attention_workers * self.batch_size / self.ffn_workers
