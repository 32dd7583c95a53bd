"""What is one bundle: how many workers of each side, how many slots, how many microbatches?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model.checks import check_count

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
    ffn_workers: int = 1
    batch_size: int
    microbatches: int = 2

    def __post_init__(self) -> None:
        limits = {
            "attention_workers": 1_000_000,
            "ffn_workers": 1_000_000,
            "batch_size": 1_000_000,
            "microbatches": 8,
        }
        for name, maximum in limits.items():
            value = check_count(name, getattr(self, name), 1, maximum)
            object.__setattr__(self, name, value)

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
