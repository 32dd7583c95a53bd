"""How long do hidden states take between attention and FFN, from bytes and links?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from afdplan.calibration.operator import Operator
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import number_format
from afdplan.model.curve import LinearCurve
from afdplan.model.stages import Transfer

__all__ = [
    "PARTS",
    "copies_per_token",
    "exchange_error",
    "exchange_operator",
    "exchange_times",
    "receive_transfer",
    "send_transfer",
]

FloatArray = npt.NDArray[np.float64]
BF16_BYTES = 2.0
PARTS = {"send": "dispatch", "receive": "combine"}
"""What the kernels of each way are called."""
UNSEEN_ERROR = 1.0
"""Relative error of a system's exchange on a device for which its kernel was not made: a step of
FastAFD's port to MI355X (github.com/MarloweAI/FastAFD) takes 25 to 49 ms, derived are 4 to 5."""
CHOICE_BYTES = 12.0
"""An expert's number and its weight, 64 and 32 bits in DeepEP (`topk_idx`, `topk_weights`)."""


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


def exchange_operator(placement: Placement, way: str) -> Operator:
    """Return what one way (``send`` or ``receive``) of the exchange reaches on its link.

    Inside a scale-up domain it is measured (DeepEP's low-latency kernels); over a network link it
    is a share of the bandwidth and the software time of a message.
    """
    efficiency = placement.efficiencies
    if placement.link == "scale-up" and efficiency.operator is None:
        if way == "send":
            return efficiency.of(placement.ffn_hardware, "dispatch", "fp8")
        return efficiency.of(placement.ffn_hardware, "combine", "bf16")
    factor = efficiency.factor(PARTS[way])
    return Operator(
        memory_share=efficiency.link,
        matrix_share=1.0,
        fixed_time=placement.joint_link().latency + efficiency.transfer_latency,
        sharpness=1.0,
        error=efficiency.link_error,
        origin="share of the bandwidth and time of a message, assumed",
    ).scaled(factor)


def _line(placement: Placement, way: str) -> LinearCurve:
    """Return one direction; the FFN side's links are the narrow place when A > F."""
    architecture, operator = placement.architecture, exchange_operator(placement, way)
    bytes_per_value = number_format(getattr(placement.precision, way)).bytes_per_value
    groups = float(placement.expert_devices)
    if placement.link == "scale-out":
        # One copy per node crosses the network; it is spread inside over the scale-up link.
        groups = math.ceil(groups / placement.ffn_hardware.devices_per_node)
    copies = copies_per_token(architecture.experts, architecture.experts_per_token, groups)
    each = architecture.hidden_size * bytes_per_value
    if way == "send" and placement.system.sends_choices:
        each += CHOICE_BYTES * architecture.experts_per_token
    message = each * placement.tokens_per_request
    bandwidth = placement.ffn_devices * placement.joint_link().bandwidth
    return LinearCurve(
        slope=float(operator.work(copies * message / bandwidth)), intercept=operator.fixed_time
    )


def _relay(placement: Placement, way: str) -> LinearCurve:
    """Return one way between an attention worker and the FFN device that it is bound to.

    A message over a network, whatever the link: nobody measured those inside a node.
    """
    efficiency, link = placement.efficiencies, placement.joint_link()
    numbers, messages = placement.architecture.hidden_size, 1
    if way == "send" and placement.system.router == "attention":
        # The router's scores of all experts follow in a message of their own.
        numbers, messages = numbers + placement.architecture.experts, 2
    message = numbers * BF16_BYTES * placement.tokens_per_request
    bandwidth = placement.ffn_devices * link.bandwidth * efficiency.link
    factor = efficiency.factor(PARTS[way])
    return LinearCurve(
        slope=factor * message / bandwidth,
        intercept=factor * messages * (link.latency + efficiency.transfer_latency),
    )


def _among(placement: Placement) -> Placement:
    """Return where FFN devices exchange relayed tokens: on their own links, inside if they can."""
    inside = placement.expert_devices <= placement.ffn_hardware.scale_up_devices
    return replace(
        placement,
        attention_hardware=placement.ffn_hardware,
        link="scale-up" if inside else placement.link,
    )


def exchange_error(placement: Placement, way: str) -> float:
    """Return the relative error of one way (``send`` or ``receive``), its relay included."""
    if placement.system.moving_processors and not placement.held_processors:
        return UNSEEN_ERROR
    if not placement.system.relays:
        return exchange_operator(placement, way).error
    return max(exchange_operator(_among(placement), way).error, placement.efficiencies.link_error)


def _way(placement: Placement, way: str) -> LinearCurve:
    """Return one direction: straight to the experts, or first to one FFN device and from there."""
    if not placement.system.relays:
        return _line(placement, way)
    relay = _relay(placement, way)
    if not placement.architecture.experts or placement.expert_devices == 1:
        return relay
    among = _line(_among(placement), way)
    return LinearCurve(slope=relay.slope + among.slope, intercept=relay.intercept + among.intercept)


def exchange_times(placement: Placement, requests: FloatArray) -> tuple[float, FloatArray]:
    """Return the fixed time of both ways [s], and what moving takes, for requests of a worker."""
    ways = [_way(placement, way) for way in ("send", "receive")]
    slope = sum(way.slope for way in ways)
    return sum(way.intercept for way in ways), slope * np.asarray(requests, dtype=np.float64)


def _transfer(placement: Placement, way: str) -> Transfer:
    line = _way(placement, way)
    if placement.system.transfers != "overlapped":  # they are in the FFN stage
        line = LinearCurve(slope=0.0, intercept=0.0)
    return Transfer(curve=line, load="aggregate")


def send_transfer(placement: Placement) -> Transfer:
    """Return the way to the experts: one copy of a hidden state per device or node visited."""
    return _transfer(placement, "send")


def receive_transfer(placement: Placement) -> Transfer:
    """Return the way back: one partial sum per device or node visited."""
    return _transfer(placement, "receive")
