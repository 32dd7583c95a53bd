"""How far may the times of a derived model be off, part by part?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from afdplan.calibration.derived_attention import attention_operator
from afdplan.calibration.derived_feed_forward import experts_family
from afdplan.calibration.derived_transfer import PARTS, exchange_error
from afdplan.calibration.placement import Placement
from afdplan.model.latency import LatencyModel, coefficients_of
from afdplan.model.uncertainty import Uncertainty

__all__ = ["derived_uncertainty", "part_errors", "with_factor"]

STANDARD = 1.4826
"""Standard deviation of a normal error over the median of its size."""
COUNTED = 0.3
"""Standard error of how many small kernels run: systems fuse them differently."""
SCHEDULED = 0.5
"""Standard error of scheduling: one source, another system."""


def part_errors(placement: Placement) -> dict[str, float]:
    """Return the relative standard error of the times of each part of a placement.

    Those of kernels come from shapes that were held out, wider where a device was not measured.

    Examples
    --------
    >>> from afdplan.calibration.catalogue import find_hardware, find_model
    >>> from afdplan.calibration.placement import place
    >>> known, borrowed = (
    ...     part_errors(place(find_model("mixtral-8x22b"), find_hardware(name), ffn_devices=8))
    ...     for name in ("h200", "mi300x"))
    >>> all(borrowed[part] >= known[part] for part in known)
    True
    """
    architecture, efficiency = placement.architecture, placement.efficiencies
    attention, ffn = placement.attention_hardware, placement.ffn_hardware
    weights, ffn_weights = (
        placement.precision.attention_weights,
        placement.precision.feed_forward_weights,
    )
    errors: dict[str, float] = {}
    for mixer in set(architecture.mixers):
        operator = attention_operator(placement, mixer.heads)
        name = mixer.heads.family
        errors[name] = max(errors.get(name, 0.0), STANDARD * operator.error)
    errors["gemm"] = STANDARD * efficiency.of(attention, "gemm", weights).error
    if attention.processors is not None and "attention" in errors:
        errors["rounds"] = 1.0  # of what a last round of blocks loses in the mean
    networks = (network for block in architecture.blocks for network in block.feed_forward)
    for family in {experts_family(network) for network in networks if network.experts}:
        errors[family] = STANDARD * efficiency.of(ffn, family, ffn_weights).error
    passes = STANDARD * efficiency.of(attention, "elementwise", "bf16").error
    errors["elementwise"] = float(np.hypot(passes, COUNTED))
    for way, part in PARTS.items():
        errors[part] = STANDARD * exchange_error(placement, way)
    if not placement.system.hides_scheduling:
        errors["scheduling"] = SCHEDULED
    if architecture.experts and efficiency.expert_imbalance is None:
        errors["imbalance"] = 1.0  # of what the busiest device has beyond the mean
    return errors


def with_factor(placement: Placement, part: str, factor: float) -> Placement:
    """Return the placement with the times of one part multiplied."""
    efficiency = placement.efficiencies
    factors = (*efficiency.factors, (part, factor * efficiency.factor(part)))
    return replace(placement, efficiencies=replace(efficiency, factors=factors))


def derived_uncertainty(
    placement: Placement, model: LatencyModel, derive: Callable[[Placement], LatencyModel]
) -> Uncertainty:
    """Return the covariance of the coefficients that independent errors of the parts make.

    Each part's error moves all coefficients together, by what deriving anew says.

    Parameters
    ----------
    placement
        What `model` was derived from.
    model
        Without uncertainty.
    derive
        Returns the model of a placement.
    """
    known = coefficients_of(model)
    names = [
        name for name in known
        if not name.startswith("transfer.")
    ]  # fmt: skip
    moves = []
    for part, error in part_errors(placement).items():
        other = coefficients_of(derive(with_factor(placement, part, 1 + error)))
        moves.append([other[name] - known[name] for name in names])
    matrix = np.array(moves)
    moved = np.abs(matrix).max(axis=0) > 0
    kept = matrix[:, moved]
    return Uncertainty(
        coefficients=tuple(name for name, has in zip(names, moved, strict=True) if has),
        covariance=kept.T @ kept,
    )
