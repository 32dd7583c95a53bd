"""How long do hidden states take between attention and FFN, from bytes and links?"""

from __future__ import annotations

import math

from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import FORMATS
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import Transfer

__all__ = ["copies_per_token", "receive_transfer", "send_transfer"]


def copies_per_token(experts: int, experts_per_token: int, groups: float) -> float:
    """Return the expected number of different groups of experts that one token visits.

        G (1 - C(E - E/G, k) / C(E, k))

    for k different experts out of E, in G groups of equal size.

    Parameters
    ----------
    experts
        E; 0 for a model without routed experts, whose tokens visit one group.
    experts_per_token
        k.
    groups
        G, devices or nodes; at most E are visited.

    Examples
    --------
    >>> copies_per_token(8, 2, 8), round(copies_per_token(256, 8, 32), 3)
    (2.0, 7.267)
    """
    if not experts or groups <= 1:
        return 1.0
    groups = min(groups, experts)
    size = experts / groups
    absent = math.prod(
        max(0.0, (experts - size - i) / (experts - i)) for i in range(experts_per_token)
    )
    return groups * (1.0 - absent)


def _transfer(placement: Placement, bytes_per_value: float) -> Transfer:
    """Return one direction; the FFN side's links are the narrow place when A > F."""
    architecture = placement.architecture
    groups = float(placement.expert_devices)
    if placement.link == "scale-out":
        # One copy per node crosses the network; it is spread inside over the scale-up link.
        groups = math.ceil(groups / placement.ffn_hardware.devices_per_node)
    copies = copies_per_token(architecture.experts, architecture.experts_per_token, groups)
    link = placement.joint_link()
    message = architecture.hidden_size * bytes_per_value * placement.tokens_per_request
    bandwidth = placement.ffn_devices * link.bandwidth * placement.efficiencies.link
    return Transfer(
        curve=LinearCurve(
            slope=copies * message / bandwidth,
            intercept=link.latency + placement.efficiencies.transfer_latency,
        ),
        load="aggregate",
    )


def send_transfer(placement: Placement) -> Transfer:
    """Return the way to the experts: one copy of a hidden state per device or node visited."""
    return _transfer(placement, FORMATS[placement.precision.send].bytes_per_value)


def receive_transfer(placement: Placement) -> Transfer:
    """Return the way back: one partial sum per device or node visited."""
    return _transfer(placement, FORMATS[placement.precision.receive].bytes_per_value)
