"""Which files start a plan, and can the target run it at all?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from afdplan.deploy.boundary import boundary_words
from afdplan.deploy.deployment import Deployment
from afdplan.deploy.devices import kind_of
from afdplan.deploy.formats.compose import compose_files
from afdplan.deploy.formats.kubernetes import kubernetes_files
from afdplan.deploy.formats.shell import shell_files
from afdplan.deploy.formats.slurm import slurm_files
from afdplan.deploy.provenance import settings_yaml
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.servers import PREFILL_TRANSFER, with_prefill
from afdplan.deploy.suits import check_devices, check_model, those_that
from afdplan.deploy.target import Target
from afdplan.deploy.templates import checklist, readme
from afdplan.deploy.words import joined_hosts
from afdplan.errors import UnsupportedError
from afdplan.model.checks import check_choice
from afdplan.model.words import counted

__all__ = ["FORMATS", "deployment_files", "deployment_of", "ports_of"]

Format = Callable[[DeployRequest, Target, Deployment], tuple[dict[str, str], tuple[str, ...]]]

FORMATS: dict[str, Format] = {
    "scripts": shell_files,
    "slurm": slurm_files,
    "compose": compose_files,
    "kubernetes": kubernetes_files,
}
"""Ways to start a deployment: each returns its files, and how to start them."""


def deployment_files(
    request: DeployRequest, target: Target, form: str = "scripts", *, with_checklist: bool = False
) -> dict[str, str]:
    """Return every file of the deployment by relative name.

    Parameters
    ----------
    request
        Plan, model, hosts.
    target
        System and version that will run it.
    form
        One of `FORMATS`.
    with_checklist
        Whether ``checklist.md`` is written: what to look at first, once it runs.

    Raises
    ------
    UnsupportedError
        If the target cannot run the plan; the nearest legal pair is named.
    """
    check_choice("format", form, tuple(FORMATS))
    deployment = deployment_of(request, target)
    if deployment.forms and form not in deployment.forms:
        raise UnsupportedError(
            f"{target.name} {target.version} cannot be started by {form}: take --format "
            f"{' or '.join(deployment.forms)}"
        )
    files, start = FORMATS[form](request, target, deployment)
    files["settings.yaml"] = settings_yaml(request, target, deployment)
    files["README.md"] = readme(request, target, deployment, start)
    if with_checklist:
        files["checklist.md"] = checklist(deployment)
    return files


def ports_of(request: DeployRequest, target: Target) -> frozenset[int]:
    """Return every port that a role of a deployment takes."""
    bundles = deployment_of(request, target).bundles
    return frozenset(port for roles in bundles for role in roles for port in role.ports)


def deployment_of(request: DeployRequest, target: Target) -> Deployment:
    """Return what runs where: the split of a plan, or its deployment without one.

    Raises
    ------
    UnsupportedError
        If the target cannot run the plan.
    """
    _check_system(request, target)
    found = _with_prefill(request, target)
    if not request.unsplit:
        found = replace(found, assumed=(*found.assumed, *boundary_words(request, target, found)))
    for number, roles in enumerate(found.bundles, 1):
        for name in sorted({name for role in roles for name in joined_hosts(role.words)}):
            if ":" in request.host(name, number):
                raise UnsupportedError(
                    f"{target.name} {target.version} writes address:port, which an IPv6 address "
                    f"cannot stand in: give a name instead of {request.host(name, number)}"
                )
    return found


def _with_prefill(request: DeployRequest, target: Target) -> Deployment:
    if not request.plan.prefill_workers:
        return _decoding(request, target)
    if target.prefills:
        if request.kv_transfer is None:
            request = replace(request, kv_transfer=PREFILL_TRANSFER)
        return with_prefill(request, _decoding(request, target))
    found = _decoding(request, target)
    left = counted(request.plan.prefill_workers, "prefill worker")
    return replace(
        found, assumed=(*found.assumed, f"{left} of the plan are not started by these files")
    )


def _decoding(request: DeployRequest, target: Target) -> Deployment:
    if request.unsplit:
        if target.unsplit is None:
            able = those_that(lambda other: other.unsplit is not None)
            of = f"{target.name} {target.version}".rstrip()
            raise UnsupportedError(
                f"no files without a split are written for {of}: take {able}, or deploy the split "
                "with --deployment split"
            )
        return target.unsplit(request, target)
    if target.split is None:
        able = those_that(lambda other: other.split is not None)
        raise UnsupportedError(f"no files can be written for {target.name}: take {able}")
    _check_split(request, target)
    return target.split(request, target)


def _check_system(request: DeployRequest, target: Target) -> None:
    """Raise if model or devices are not those of the target."""
    if not request.unsplit:
        check_model(target, request.architecture)
    check_devices(target, kind_of(request.device, str(request.plan.inputs.get("hardware") or "")))
    if request.plan.latency.tokens_per_step != 1 or request.plan.inputs.get("speculative_tokens"):
        raise UnsupportedError(
            f"files for {target.name} decode one token a step, the plan decodes ahead: plan with "
            "--speculative-tokens 0"
        )


def _check_split(request: DeployRequest, target: Target) -> None:
    """Raise if pair or microbatches are not those of the target."""
    plan, bundle = request.plan, request.plan.bundle
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
