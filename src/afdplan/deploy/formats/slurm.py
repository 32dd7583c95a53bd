"""One Slurm job per bundle."""

from __future__ import annotations

from afdplan.deploy.deployment import Deployment
from afdplan.deploy.formats.shell import script_files
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.templates import slurm_job

__all__ = ["slurm_files"]


def slurm_files(
    request: DeployRequest, target: Target, deployment: Deployment
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return scripts and jobs, and how to start them; addresses come from the allocation."""
    files = script_files(request, target, deployment)
    for number, roles in enumerate(deployment.bundles, 1):
        files[f"bundle-{number:03d}/job.sbatch"] = slurm_job(request, target, number, roles)
    return files, (
        "For each bundle: `cd bundle-001 && sbatch job.sbatch`, with `--partition` and `--account` "
        "as your site asks. The job ends when one of its roles ends.",
        "Send requests to the HTTP port in the script of the first role that has one, on the host "
        "that `squeue` shows for it.",
    )
