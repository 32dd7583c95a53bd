"""Which share of its peak does hardware reach in decoding, and who says so?"""

from __future__ import annotations

from dataclasses import dataclass, fields

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_number

__all__ = ["EFFICIENCY_SOURCES", "Efficiencies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """Shares of peak rates and fixed times, one value each for all models and devices.

    The defaults come from `EFFICIENCY_SOURCES`; none is fitted to the rows that
    ``docs/derived-models.md`` compares them with.

    Attributes
    ----------
    attention_memory
        Of the memory bandwidth, when attention reads the KV cache.
    attention_matrix
        Of the matrix rate, when attention is bound by arithmetic.
    weight_memory
        Of the memory bandwidth, when projections and dense layers read weights.
    expert_memory
        Of the memory bandwidth, when grouped products read many small experts.
    matrix
        Of the matrix rate, in projections and experts.
    link
        Of the link bandwidth.
    kernel_latency
        Fixed time of each kernel that waits for memory [s].
    transfer_latency
        Software time of one message between attention and FFN, without the link's own [s].
    scheduling_time
        Sampling and scheduling, once per step [s].
    expert_imbalance
        Load of the busiest FFN device over the mean, >= 1.
    """

    attention_memory: float = 0.90
    attention_matrix: float = 0.67
    weight_memory: float = 0.80
    expert_memory: float = 0.65
    matrix: float = 0.60
    link: float = 0.85
    kernel_latency: float = 3e-6
    transfer_latency: float = 10e-6
    scheduling_time: float = 2e-3
    expert_imbalance: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("kernel_latency", "transfer_latency", "scheduling_time"):
                check_number(name, value)
            elif name == "expert_imbalance":
                check_number(name, value, 1.0)
            elif check_number(name, value, strict=True) > 1:
                raise InvalidInputError(f"{name} must be a share of the peak <= 1, got {value:g}")


EFFICIENCY_SOURCES = {
    "attention_memory": "FlashMLA README: 3000 GB/s of 3350 on H800",
    "attention_matrix": "FlashMLA README (2025-04-22): 660 TFLOPS of 989 on H800",
    "weight_memory": "aiconfigurator 0.12.0 system files: mem_bw_empirical_scaling_factor",
    "expert_memory": "aiconfigurator 0.12.0, H200 vLLM 0.24.0 fp8 MoE tables at 64 tokens: "
    "0.64 to 0.69 of the peak",
    "matrix": "aiconfigurator 0.12.0, H200 vLLM 0.24.0 bf16 MoE table of Mixtral-8x22B beyond "
    "1536 tokens: 0.58 to 0.63 of the peak",
    "link": "DeepEP README: 43 GB/s of a 50 GB/s link at EP16",
    "kernel_latency": "aiconfigurator 0.12.0 system files: mem_empirical_constant_latency",
    "transfer_latency": "aiconfigurator 0.12.0 system files: p2p_latency",
    "scheduling_time": "xDeepServe, arXiv:2508.02520, section 7: 2 ms of a 93 ms step",
    "expert_imbalance": "none: balanced experts are assumed",
}
"""Where each default comes from."""
