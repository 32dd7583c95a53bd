"""How is a plan without a split started: data-parallel attention, experts over all ranks?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from afdplan.deploy.deployment import Check, Deployment, Role, evenly, nodes_of
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.words import Word, flags
from afdplan.errors import UnsupportedError
from afdplan.files.plan_unsplit import UnsplitPlan

__all__ = ["group_deployment", "plan_of"]

Words = Callable[[int, int], tuple[list[Word], tuple[Word, ...]]]
"""From plan, settings, number of the group and nodes: the command, and what node 0 adds."""


def plan_of(request: DeployRequest) -> UnsplitPlan:
    """Return the un-split part of the plan.

    Raises
    ------
    UnsupportedError
        If the plan has none.
    """
    if request.plan.unsplit is None:
        raise UnsupportedError(
            "the plan compared no deployment without a split: plan with --model and --hardware"
        )
    return request.plan.unsplit


def group_deployment(
    request: DeployRequest,
    target: Target,
    *,
    settings: dict[str, Any],
    words: Words,
    others: tuple[Word, ...],
    ports: Callable[[int], tuple[int, ...]],
    assumed: tuple[str, ...],
    checks: tuple[Check, ...],
) -> Deployment:
    """Return one server per group; the first of its ports answers requests."""
    plan = plan_of(request)
    bundles = []
    per_node = nodes_of(plan.ranks, plan.devices_per_rank, request.node_devices)
    nodes = -(-plan.ranks // per_node)
    per_node = evenly(plan.ranks, per_node)
    for number in range(1, plan.replicas + 1):
        command, first = words(number, nodes)
        target.check(flags([*command, *first, *others]))
        bundles.append(
            (
                Role(
                    name="server",
                    workers=plan.ranks,
                    devices=plan.devices_per_rank,
                    workers_per_node=per_node,
                    command=tuple(command),
                    first=first,
                    others=others,
                    http=ports(number)[0],
                    ports=ports(number),
                ),
            )
        )
    tensor = f" of TP {plan.devices_per_rank}" if plan.devices_per_rank > 1 else ""
    return Deployment(
        title=f"{plan.replicas} x {plan.ranks} ranks{tensor}, not split",
        bundles=tuple(bundles),
        settings={"server": settings},
        start=(
            "Set `SERVER_HOST` in every `bundle-*/cluster.env`: the first host of the group.",
            "On each node of a group: `bundle-001/server.sh NODE` (NODE = 0, 1, ...).",
            "Send requests to the HTTP port in each script, balanced over the groups.",
        ),
        assumed=assumed,
        checks=checks,
    )
