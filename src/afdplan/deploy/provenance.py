"""Where does an emitted file come from, and how is it checked after launch?"""

from __future__ import annotations

import json

import afdplan
from afdplan.deploy.flags import AllowList
from afdplan.deploy.request import DeployRequest

__all__ = ["header", "readme", "settings_yaml"]


def header(request: DeployRequest, allowed: AllowList) -> str:
    """Return the comment lines that tell where a file comes from."""
    return (
        f"# Written by afdplan {afdplan.__version__} from {json.dumps(request.plan_name)} "
        f"(planned by {json.dumps(request.plan.afdplan_version)}).\n"
        f"# Target: {allowed.system} {allowed.version}.\n"
        f"# Flags read in: {allowed.source}.\n"
    )


def settings_yaml(
    request: DeployRequest, allowed: AllowList, roles: dict[str, dict[str, object]]
) -> str:
    """Return all coupled settings of both roles as YAML."""
    plan, bundle = request.plan, request.plan.bundle
    common: dict[str, object] = {
        "target": allowed.system,
        "target_version": allowed.version,
        "model": request.model,
        "bundles": plan.bundles,
        "attention_workers": bundle.attention_workers,
        "ffn_workers": bundle.ffn_workers,
        "microbatches": bundle.microbatches,
        "batch_size": bundle.batch_size,
        "ffn_tokens_per_microbatch": bundle.ffn_tokens,
        "step_time_seconds": {"mean": plan.step_time_mean, "p99": plan.step_time_p99},
    }
    lines = [header(request, allowed)]
    lines += [f"{key}: {json.dumps(value)}\n" for key, value in common.items()]
    lines.append("roles:\n")
    for role, settings in roles.items():
        lines.append(f"  {role}:\n")
        lines += [f"    {key}: {json.dumps(value)}\n" for key, value in settings.items()]
    return "".join(lines)


def readme(request: DeployRequest, allowed: AllowList, steps: str, assumed: list[str]) -> str:
    """Return README.md: what this is, how to start it, what was assumed, how to check it."""
    plan, bundle = request.plan, request.plan.bundle
    step, p99 = plan.step_time_mean * 1e3, plan.step_time_p99 * 1e3
    tokens = plan.latency.tokens_per_step
    assumptions = "".join(f"- {line}\n" for line in [*assumed, *plan.latency.assumptions])
    return f"""# Deployment: {plan.bundles} x ({bundle.attention_workers} attention : \
{bundle.ffn_workers} FFN)

Written by afdplan {afdplan.__version__} for {allowed.system} {allowed.version}.
Flags were read in: {allowed.source}. Another version may know other flags.

| setting | attention | FFN |
|---|---|---|
| workers per bundle | {bundle.attention_workers} | {bundle.ffn_workers} |
| devices per worker | {plan.attention_devices} | {plan.ffn_devices} |
| requests (tokens) per rank and step | {bundle.requests_per_attention_worker} | \
{bundle.ffn_tokens * bundle.microbatches:g} |
| of these per microbatch ({bundle.microbatches} in flight) | {bundle.batch_size} | \
{bundle.ffn_tokens:g} |

{plan.devices} devices in all.

## Start

{steps}
## What the plan promises

- mean step time {step:.4g} ms ({step / tokens:.4g} ms per output token), p99 {p99:.4g} ms
- {plan.tokens_per_second:,.0f} tokens/s with every slot busy
- for a mean token load of {plan.mean_token_load:,.0f} KV tokens per request

## Check after launch

1. Wait until every slot is busy: the running requests of each attention rank reach \
{bundle.requests_per_attention_worker}. Below that, steps are shorter and throughput lower.
2. Compare the mean time per output token with {step / tokens:.4g} ms. More than 10 % off means \
that the latency model is off: measure with `afdplan calibrate` and plan again.
3. Watch KV usage and preemptions: the plan allows an overflow with probability \
{plan.overflow_probability:g} per attention worker and step.
4. Let `afdplan check plan.json --metrics metrics.txt` (a snapshot of the attention server's \
/metrics) or `afdplan check plan.json --trace new.csv` say whether the ratio still stands. \
Exit code 0: it stands; 4: plan again. `--state FILE` makes it wait for a second opinion.

## What was assumed

{assumptions}"""
