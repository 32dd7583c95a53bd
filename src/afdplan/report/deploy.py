"""What is told of the files of a deployment?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from afdplan.report.quantities import counted, share
from afdplan.report.telling import Telling

if TYPE_CHECKING:
    from afdplan.deploy.target import Target
    from afdplan.files.plan_file import PlanFile
    from afdplan.model.parameters import Execution

__all__ = ["deployment_told"]


def deployment_told(
    plan: PlanFile,
    system: Target,
    files: Mapping[str, str],
    folder: str,
    asked: Execution | None,
) -> Telling:
    """Return what is said once files are written.

    Parameters
    ----------
    plan
        As it was written, in the mode of `system`.
    system
        The target, of the version that runs it.
    files
        Their texts by name.
    folder
        Where they lie.
    asked
        The execution that was asked for; None leaves it to the plan.
    """
    warnings = []
    if system.execution == "barrier-free":
        warnings.append(
            f"it runs without a barrier, by version {system.version}: --execution synchronous "
            "for the other"
        )
    elif asked is None and plan.barrier_free is not None and plan.barrier_free.gain > 0:
        warnings.append(
            f"the plan is {share(plan.barrier_free.gain)} better without a barrier, which "
            f"{system.name} does not run with this pair and model"
        )
    if any(name.endswith("cluster.env") and "CHANGE_ME" in text for name, text in files.items()):
        warnings.append(
            "set the hosts in bundle-*/cluster.env first: the scripts refuse placeholders"
        )
    number = counted(len(files), "file")
    return Telling(
        answer=f"{folder}: {number} for {system.name}; start with {folder}/README.md",
        warnings=tuple(warnings),
        following=shlex.join(["less", f"{folder}/README.md"]),
    )
