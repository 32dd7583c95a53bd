"""Where does an emitted file come from, and what holds all coupled settings?"""

from __future__ import annotations

import json
from typing import Any

from afdplan.deploy.deployment import Deployment
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.model.chosen import chosen
from afdplan.version import __version__

__all__ = ["header", "settings_yaml", "to_yaml"]


def header(request: DeployRequest, target: Target) -> str:
    """Return the comment lines that tell where a file comes from."""
    return (
        f"# Written by afdplan {__version__} from {json.dumps(request.plan_name)} "
        f"(planned by {json.dumps(request.plan.afdplan_version)}).\n"
        f"# Target: {target.shown}.\n"
        f"# Flags read in: {target.source}.\n"
    )


def to_yaml(*documents: Any) -> str:
    """Return documents as plain YAML: keys in their order, scripts line by line, no anchors."""
    import yaml

    def text_of(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    plain: Any = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    plain.add_representer(str, text_of)
    text: str = yaml.dump_all(
        documents,
        Dumper=plain,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        explicit_start=len(documents) > 1,
    )
    return text


def settings_yaml(request: DeployRequest, target: Target, deployment: Deployment) -> str:
    """Return all coupled settings of all roles."""
    bundle, promise = request.plan.bundle, request.promise
    split = {
        **chosen(bundle, "attention_workers ffn_workers microbatches batch_size"),
        "ffn_tokens_per_microbatch": bundle.ffn_tokens,
    }
    return header(request, target) + to_yaml(
        {
            "target": target.name,
            "target_version": target.version,
            "model": request.model,
            "deployment": deployment.title,
            "bundles": request.bundles,
            **({} if request.unsplit else split),
            "step_time_seconds": {"mean": promise.step_time_mean, "p99": promise.step_time_p99},
            "roles": {role: dict(values) for role, values in deployment.settings.items()},
        }
    )
