"""How does a role become a script, and a deployment a README?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from afdplan.deploy.deployment import Deployment, Role
from afdplan.deploy.provenance import header
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.words import Word, shell, variables

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["checklist", "readme", "role_script", "slurm_job"]


def _lines(words: Sequence[Word]) -> str:
    """Return words as bash reads them, a flag with its values on each line."""
    shown = ""
    for word in words:
        begins = isinstance(word, str) and word.startswith("--")
        shown += (" \\\n  " if begins and shown else " " if shown else "") + shell(word)
    return shown


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("afdplan", "data/deploy"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shell": shell, "words": _lines}
    return environment


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


def role_script(request: DeployRequest, target: Target, bundle: int, role: Role) -> str:
    """Return the launch script of one role of bundle 1, 2, ...; its argument is the node."""
    return _rendered(
        "role.sh.j2",
        header=header(request, target).rstrip(),
        bundle=bundle,
        role=role,
        used=variables(role.words),
    )


def slurm_job(request: DeployRequest, target: Target, bundle: int, roles: tuple[Role, ...]) -> str:
    """Return the Slurm job of bundle 1, 2, ...: every role on nodes of its own."""
    first, places = 0, []
    for role in roles:
        places.append((role, first))
        first += role.nodes
    hosts = sorted({name for role in roles for name in role.hosts})
    names = {role.name: [n for n in hosts if n == f"{role.name.upper()}_HOST"] for role in roles}
    return _rendered(
        "job.sbatch.j2",
        header=header(request, target).rstrip(),
        bundle=bundle,
        nodes=first,
        gres=request.device_kind().gres,
        node_devices=request.node_devices,
        places=places,
        names=names,
    )


def readme(
    request: DeployRequest, target: Target, deployment: Deployment, start: Sequence[str]
) -> str:
    """Return README.md: what this is, how to start it, what was assumed, how to check it."""
    from afdplan.version import __version__

    plan, promise, settings = request.plan, request.promise, deployment.settings
    names = dict.fromkeys(name for values in settings.values() for name in values)
    rows = [(name, [values.get(name, "") for values in settings.values()]) for name in names]
    return _rendered(
        "readme.md.j2",
        plan=plan,
        promise=promise,
        target=target,
        deployment=deployment,
        rows=rows,
        start=start,
        version=__version__,
        placement=placement_words(request, target),
        step=promise.step_time_mean * 1e3,
        p99=None if promise.step_time_p99 is None else promise.step_time_p99 * 1e3,
        tokens=plan.latency.tokens_per_step,
        assumed=[*deployment.assumed, *plan.latency.assumptions],
    )


def placement_words(request: DeployRequest, target: Target) -> list[str]:
    """Return how the system balances its ranks, and whether the plan counts on more."""
    words = [f"{target.placement}."] if target.placement else []
    planned = request.plan.inputs.get("placement")
    if planned is not None and str(planned).startswith("longest-prompt"):
        words.append(
            f"The plan counts on placement {planned}: of the requests that wait, the longest "
            "prompt to the rank (and microbatch) that holds the fewest tokens. Until something "
            "before the ranks does that, expect the step times and the ratio of a plan without it."
        )
    return words


def checklist(deployment: Deployment) -> str:
    """Return what to look at first, one line each, to be ticked off."""
    lines = [
        f"- [ ] {check.where}: `{check.shows}`\n      else {check.otherwise}\n"
        for check in deployment.checks
    ]
    return f"# After the start of {deployment.title}\n\n{''.join(lines)}"
