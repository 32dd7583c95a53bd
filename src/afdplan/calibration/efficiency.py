"""What does hardware reach beside the operators that were measured, and who says so?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.calibration.hardware import Hardware
from afdplan.calibration.operator import Family, Operator, find_operator
from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_number

__all__ = ["EFFICIENCY_SOURCES", "Efficiencies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """What kernels, links and schedulers reach.

    Kernels are measured, device by device (`afdplan.calibration.operator`); the rest are single
    numbers from `EFFICIENCY_SOURCES`. Nothing is fitted to the times of a whole system.

    Attributes
    ----------
    operator
        Taken for every family of kernels in place of the measured ones; None takes those.
    link
        Share of the bandwidth of a network link.
    transfer_latency
        Software time of one message over a network link, without the link's own [s].
    link_error
        Relative error of a transfer over a network link.
    scheduling_time
        Sampling and scheduling, once per step [s].
    expert_imbalance
        Load of the busiest FFN device over the mean, >= 1; None takes chance and popularity.
    factors
        By which the times of some parts are multiplied, to see what their errors do: part and
        factor > 0, where a part is a family of kernels, or ``scheduling``.
    """

    operator: Operator | None = None
    link: float = 0.85
    transfer_latency: float = 10e-6
    link_error: float = 0.3
    scheduling_time: float = 2e-3
    expert_imbalance: float | None = None
    factors: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("transfer_latency", "scheduling_time", "link_error"):
            check_number(name, getattr(self, name))
        if self.expert_imbalance is not None:
            check_number("expert_imbalance", self.expert_imbalance, 1.0)
        if check_number("link", self.link, strict=True) > 1:
            raise InvalidInputError(f"link must be a share of the peak <= 1, got {self.link:g}")

    def of(self, hardware: Hardware, family: Family, number: str) -> Operator:
        """Return what one family of kernels reaches on one device in one format."""
        operator = self.operator or find_operator(hardware, family, number)
        factor = self.factor(family)
        return operator if factor == 1.0 else operator.scaled(factor)

    def factor(self, part: str) -> float:
        """Return by how much the times of a part are multiplied."""
        return dict(self.factors).get(part, 1.0)


EFFICIENCY_SOURCES = {
    "operator": "aiconfigurator-core 0.12.0, measured operators: benchmarks/operator_fits.py",
    "link": "DeepEP README: 43 GB/s of a 50 GB/s link at EP16",
    "transfer_latency": "aiconfigurator 0.12.0 system files: p2p_latency",
    "link_error": "assumed: StepMesh's line-rate budgets are met within it or not at all",
    "scheduling_time": "xDeepServe, arXiv:2508.02520, section 7: 2 ms of a 93 ms step",
    "expert_imbalance": "vllm-project/vllm#50647: busiest of 16 ranks 1.069 of the mean",
    "factors": "none: they show what an error does",
}
"""Where each default comes from."""
