"""Which files start a plan, and is the plan legal on the target at all?"""

from __future__ import annotations

from afdplan.deploy.fastafd import fastafd_files
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.vllm_afd_plugin import vllm_files
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.planning.legal import target_rule

__all__ = ["DEPLOY_TARGETS", "deployment_files"]

DEPLOY_TARGETS = {"vllm-afd-plugin": vllm_files, "fastafd": fastafd_files}


def deployment_files(request: DeployRequest, target: str) -> dict[str, str]:
    """Return every file of the deployment by relative name.

    Parameters
    ----------
    request
        Plan, model, hosts.
    target
        ``vllm-afd-plugin`` or ``fastafd``.

    Raises
    ------
    InvalidInputError
        If the target is unknown.
    UnsupportedError
        If the target cannot run the plan; the nearest legal pair is named.
    """
    if target not in DEPLOY_TARGETS:
        raise InvalidInputError(
            f"target must be one of {', '.join(DEPLOY_TARGETS)}, got {target!r:.80}"
        )
    rule = target_rule(target)
    plan, bundle = request.plan, request.plan.bundle
    pair = (bundle.attention_workers, bundle.ffn_workers)
    devices = (plan.attention_devices, plan.ffn_devices)
    if not rule.allows(*pair, *devices).all():
        nearest = rule.nearest(*pair, *devices)
        hint = "" if nearest is None else f"; nearest legal pair {nearest[0]}:{nearest[1]}"
        raise UnsupportedError(
            f"{target} cannot run {pair[0]} attention : {pair[1]} FFN workers: {rule.rule}{hint}. "
            f"Plan again with --target {target}"
        )
    if bundle.microbatches not in rule.microbatches:
        known = " or ".join(map(str, rule.microbatches))
        raise UnsupportedError(
            f"{target} runs {known} microbatches, the plan has {bundle.microbatches}: plan again "
            f"with --target {target}"
        )
    return DEPLOY_TARGETS[target](request)
