"""What runs now: lengths, load and step times as the engines count them?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from afdplan.errors import InvalidInputError
from afdplan.files.document import open_source
from afdplan.files.measurements.counters import Snapshot, read_snapshot
from afdplan.files.measurements.engines import chosen_engines, engines_serving
from afdplan.files.measurements.fpm import FPM_SIGN, ForwardPasses, read_forward_passes
from afdplan.files.measurements.prometheus import ServerMetrics, read_snapshots, server_metrics
from afdplan.files.plan_file import PlanFile
from afdplan.lengths.discrete import parse_law
from afdplan.lengths.law import IndependentLengths, LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.workload.observed import observed_lengths, observed_load
from afdplan.workload.passes import PassReport, describe_passes

__all__ = ["Running", "running"]

UNLIKE_ENGINES = 0.1
"""Relative distance of engines' mean lengths that is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What engines say of their requests.

    Attributes
    ----------
    law
        Of the lengths.
    token_load
        Mean load with its interval.
    step_time
        Time between output tokens [s]; None if it is not exported or not comparable.
    warnings
        What to mistrust.
    metrics
        The engines' counters; None of forward passes.
    passes
        The forward passes; None of counters.
    snapshot
        Counters to remember; None if what was read is an increase already.
    """

    law: LengthLaw
    token_load: Estimate
    step_time: float | None
    warnings: tuple[str, ...]
    metrics: ServerMetrics | None = None
    passes: PassReport | None = None
    snapshot: Snapshot | None = None


def running(
    plan: PlanFile,
    metrics: Sequence[str],
    prometheus: str | None = None,
    window: float = 3600.0,
    selector: str = "",
    earlier: Snapshot | None = None,
) -> Running:
    """Return what snapshots, forward passes or a Prometheus server say runs now.

    Parameters
    ----------
    plan
        What should run.
    metrics
        Files of snapshots or forward passes, see `read_snapshots`.
    prometheus
        URL of a server to ask instead.
    window
        Over how long the server is asked [s].
    selector
        Which engines, by their labels; empty for all.
    earlier
        Counters of the last check, subtracted from a single snapshot.
    """
    snapshot = None
    if prometheus is not None:
        from afdplan.files.measurements.prometheus_api import prometheus_increase

        gained = prometheus_increase(prometheus, window, selector)
    elif len(metrics) == 1 and not re.match("(prompt|decode|step)=", metrics[0]):
        with open_source(metrics[0], "metrics", InvalidInputError) as source:
            if source.kind == "json" and FPM_SIGN.search(source.head):
                return _passing(plan, read_forward_passes(source))
            gained = now = read_snapshot(source)
        if not now.is_window:
            snapshot = now
            gained = now if earlier is None else now.since(earlier)
    else:
        gained = read_snapshots(*metrics)
    if prometheus is None:
        gained = chosen_engines(gained, selector)
    if plan.model:
        gained = engines_serving(gained, partial(_alike, plan.model))
    found = server_metrics(gained)
    load = observed_load(found)
    step = None
    if found.step_time is not None and plan.latency.time_unit == "s":
        step = found.step_time.mean
    return Running(
        law=observed_lengths(found),
        token_load=load,
        step_time=step,
        warnings=tuple(_warnings(found, plan)),
        metrics=found,
        snapshot=snapshot,
    )


def _passing(plan: PlanFile, passes: ForwardPasses) -> Running:
    """Return what forward passes say; lengths they know only by the load."""
    found = describe_passes(passes)
    asked = plan.inputs.get("decode")
    decode = parse_law(asked if isinstance(asked, str) else f"geometric:{plan.mean_decode_tokens}")
    # The load of a slot is its prompt and half of the output that its requests grow to.
    grown = (decode.moment(2) / decode.mean - 1) / 2
    prompt = max(found.token_load.value - grown, 1.0)
    law = IndependentLengths(prompt=f"geometric:{prompt:.6g}", decode=decode)
    step = None
    if plan.latency.time_unit == "s":
        slowest = found.barrier.step_time if found.barrier else found.mean_time
        step = slowest / plan.latency.tokens_per_step
    return Running(
        law=law,
        token_load=found.token_load,
        step_time=step,
        warnings=(
            *found.warnings,
            "forward pass metrics hold no lengths: outputs are taken as planned, and prompts so "
            "that the mean load is the measured one.",
        ),
        passes=found,
    )


def _warnings(found: ServerMetrics, plan: PlanFile) -> list[str]:
    said = list(found.notes)
    if not found.is_window:
        said.append(
            f"the counters are of the servers' whole life ({found.requests:,} requests): changes "
            "of the last hours hardly show; keep --state between checks, or give two snapshots."
        )
    if plan.model and found.models and not any(_alike(plan.model, name) for name in found.models):
        said.append(
            f"the metrics are of model {', '.join(found.models[:3])}, the plan is for "
            f"{plan.model}: is it the same?"
        )
    lengths = {
        "prompts": [(prompt.mean or 0.0, name) for name, prompt, _ in found.engines],
        "outputs": [(decode.mean or 0.0, name) for name, _, decode in found.engines],
    }
    for what, means in lengths.items():
        low, high = min(means, default=(0.0, "")), max(means, default=(0.0, ""))
        if len(means) > 1 and high[0] > (1 + UNLIKE_ENGINES) * low[0]:
            said.append(
                f"engines serve unlike {what}: {low[0]:,.0f} tokens on average on {low[1]}, "
                f"{high[0]:,.0f} on {high[1]}; the slowest sets the pace of all."
            )
    return said


def _alike(planned: str, served: str) -> bool:
    """Return whether a served name may stand for the planned model."""
    names = [
        re.sub(r"[^a-z0-9]", "", name.rstrip("/").rpartition("/")[2].lower().removesuffix(".json"))
        for name in (planned, served)
    ]
    return bool(all(names)) and (names[0] in names[1] or names[1] in names[0])
