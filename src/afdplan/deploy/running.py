"""What differs between a running server's settings and those of the plan?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.deploy.emit import deployment_of
from afdplan.deploy.modes import in_mode
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import ANY, Target
from afdplan.errors import InvalidInputError
from afdplan.files.plan_file import PlanFile
from afdplan.files.running import RunningSettings, read_running

__all__ = ["Difference", "differences", "differences_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting that runs otherwise than planned.

    Attributes
    ----------
    name
        As the system calls it.
    planned, running
        What the plan gives, and what the server says.
    """

    name: str
    planned: int
    running: int


def differences(plan: PlanFile, target: Target, running: RunningSettings) -> tuple[Difference, ...]:
    """Return what a server runs otherwise than the plan's files say.

    Parameters
    ----------
    plan, target
        What was deployed, and on which system.
    running
        What one server says of itself.

    Raises
    ------
    InvalidInputError
        If the plan is of no system, or the server tells none of the planned settings.
    """
    if target.name == ANY.name:
        raise InvalidInputError(
            "the plan names no system to compare settings with: plan with --target"
        )
    unsplit = running.role == "server" and plan.recommends_unsplit
    request = DeployRequest(
        plan=plan, model=plan.model or "model", unsplit=unsplit, node_devices=1024
    )
    settings = deployment_of(request, target).settings
    if running.role not in settings:
        raise InvalidInputError(
            f"the server runs as {running.role}, the plan has {' and '.join(settings)}"
        )
    planned = {
        name: int(value)
        for name, value in settings[running.role].items()
        if isinstance(value, bool | int)
    }
    shared = [name for name in planned if name in running.values]
    found = [
        Difference(name=name, planned=planned[name], running=running.values[name])
        for name in shared
        if planned[name] != running.values[name]
    ]
    # What fits beside the weights of FFN layers is not in the plan.
    room = None if unsplit or running.role == "ffn" else plan.cache_tokens
    tokens = running.values.get("cache_tokens")
    if room is not None and tokens is not None and tokens < room:
        found.append(Difference(name="cache_tokens", planned=room, running=tokens))
    if not shared and (room is None or tokens is None):
        raise InvalidInputError(
            f"the server tells none of the planned settings: {', '.join(planned)}"
        )
    return tuple(found)


def differences_in(plan: PlanFile, path: str) -> tuple[Difference, ...]:
    """Return what the server that wrote a file runs otherwise than the plan's own system would.

    Raises
    ------
    InvalidInputError
        As `differences` does; or if the file tells nothing.
    """
    plan, target = in_mode(plan, plan.target or ANY.name)
    return differences(plan, target, read_running(path))
