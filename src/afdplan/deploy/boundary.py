"""Does the emitted system run router and shared experts on the side that was planned?"""

from __future__ import annotations

from collections.abc import Iterator

from afdplan.calibration.serving_system import SYSTEMS
from afdplan.deploy.deployment import Deployment
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.model import parameters as ask

__all__ = ["boundary_words"]

GATES = '"compute_gate_on_attention":true'
"""What moves the router of vLLM's afd-plugin; its connectors each take one value."""


def boundary_words(request: DeployRequest, target: Target, found: Deployment) -> Iterator[str]:
    """Yield a sentence for each part that was planned on a side where the system has it not.

    Parameters
    ----------
    request, target
        Plan and system; of a plan that asked for no side nothing is said.
    found
        What is emitted.
    """
    system = next((found for name, found in SYSTEMS.items() if name == target.name), None)
    gates = any(
        GATES in str(word) for roles in found.bundles for role in roles for word in role.words
    )
    for one, part, runs in (
        (ask.ROUTER_SIDE, "router", "attention" if gates else system and system.router),
        (ask.SHARED_EXPERTS_SIDE, "shared experts", system and system.shared_experts),
    ):
        asked = request.plan.inputs.get(one.name)
        if asked is None or asked == runs:
            continue
        planned = f"the {part} on the {asked} side, as planned with {one.option}"
        if runs is None:
            yield f"{planned}: it is not known where {target.name} has that"
        else:
            yield (
                f"not {planned}: {target.name} has that on the {runs} side and no flag moves it; "
                f"plan with {one.option} {runs}"
            )
