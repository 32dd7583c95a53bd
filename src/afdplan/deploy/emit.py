"""Which files start a plan, and can the target run it at all?"""

from __future__ import annotations

import shlex

from afdplan.deploy.names import system_names
from afdplan.deploy.provenance import header, settings_yaml
from afdplan.deploy.registry import versions
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.templates import readme, role_script
from afdplan.errors import UnsupportedError

__all__ = ["deployment_files"]


def deployment_files(request: DeployRequest, target: Target) -> dict[str, str]:
    """Return every file of the deployment by relative name.

    Parameters
    ----------
    request
        Plan, model, hosts.
    target
        System and version that will run it.

    Raises
    ------
    UnsupportedError
        If the target cannot run the plan; the nearest legal pair is named.
    """
    _check(request, target)
    if target.split is None:
        raise UnsupportedError(f"no files can be written for {target.name}")
    deployment = target.split(request, target)
    files: dict[str, str] = {}
    for number, roles in enumerate(deployment.bundles, 1):
        folder = f"bundle-{number:03d}"
        for role in roles:
            files[f"{folder}/{role.name}.sh"] = role_script(request, target, number, role)
        names = {name for role in roles for name in role.hosts}
        if names:
            files[f"{folder}/cluster.env"] = (
                header(request, target)
                + "# Address of the host with rank 0 of each role, reachable from all nodes.\n"
                + "".join(
                    f"{name}={shlex.quote(request.host(name, number))}\n" for name in sorted(names)
                )
            )
    files["settings.yaml"] = settings_yaml(request, target, deployment)
    files["README.md"] = readme(request, target, deployment)
    return files


def _check(request: DeployRequest, target: Target) -> None:
    """Raise if model, decoding, pair or microbatches are not those of the target."""
    plan, bundle = request.plan, request.plan.bundle
    if target.models is not None and request.architecture not in {"", *target.models}:
        others = ", ".join(
            f"{other.name} {other.version}"
            for name in system_names()
            for other in versions(name)
            if other.models is not None and request.architecture in other.models
        )
        raise UnsupportedError(
            f"{target.name} {target.version} does not register {request.architecture}: "
            + (f"these do: {others}" if others else "no known system does")
        )
    if plan.latency.tokens_per_step != 1 or plan.inputs.get("speculative_tokens"):
        raise UnsupportedError(
            f"{target.name} decodes one token a step with attention and FFN apart, the plan "
            "decodes ahead: plan with --speculative-tokens 0"
        )
    pair = (bundle.attention_workers, bundle.ffn_workers)
    devices = (plan.attention_devices, plan.ffn_devices)
    if not target.allows(*pair, *devices).all():
        nearest = target.nearest(*pair, *devices)
        hint = "" if nearest is None else f"; nearest legal pair {nearest[0]}:{nearest[1]}"
        raise UnsupportedError(
            f"{target.name} cannot run {pair[0]} attention : {pair[1]} FFN workers: "
            f"{target.rule}{hint}. Plan again with --target {target.name}"
        )
    if bundle.microbatches not in target.microbatches:
        known = " or ".join(map(str, target.microbatches))
        raise UnsupportedError(
            f"{target.name} runs {known} microbatches, the plan has {bundle.microbatches}: plan "
            f"again with --target {target.name}"
        )
