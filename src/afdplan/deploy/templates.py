"""How does a role become a script, and a deployment a README?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from afdplan.deploy.deployment import Deployment, Role
from afdplan.deploy.provenance import header
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.words import Word, shell, variables

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["readme", "role_script"]


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


def role_script(request: DeployRequest, target: Target, bundle: int, role: Role) -> str:
    """Return the launch script of one role of bundle 1, 2, ...; its argument is the node."""
    return (
        _environment()
        .get_template("role.sh.j2")
        .render(
            header=header(request, target).rstrip(),
            bundle=bundle,
            role=role,
            used=variables(role.words),
        )
    )


def readme(request: DeployRequest, target: Target, deployment: Deployment) -> str:
    """Return README.md: what this is, how to start it, what was assumed, how to check it."""
    import afdplan

    plan = request.plan
    return (
        _environment()
        .get_template("readme.md.j2")
        .render(
            plan=plan,
            bundle=plan.bundle,
            target=target,
            deployment=deployment,
            version=afdplan.__version__,
            step=plan.step_time_mean * 1e3,
            p99=plan.step_time_p99 * 1e3,
            tokens=plan.latency.tokens_per_step,
            assumed=[*deployment.assumed, *plan.latency.assumptions],
        )
    )
