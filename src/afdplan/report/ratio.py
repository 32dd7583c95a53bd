"""How is the recommended ratio told to a person and to a machine?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.model.latency import TimeUnit
from afdplan.report.quantities import rate, share, time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from afdplan.model.latency import LatencyModel
    from afdplan.model.trace import Trace
    from afdplan.theory.ratio import RatioPoint, RatioRecommendation

__all__ = ["ratio_answer", "render_ratio"]

BAR_WIDTH = 18
_RESOURCES = {
    "attention": "the slowest attention worker",
    "communication": "the slower transfer",
    "ffn": "the FFN",
    "latency": "the round trip of a microbatch",
}


def ratio_answer(answer: RatioRecommendation) -> dict[str, Any]:
    """Return the names that ``afdplan ratio --json`` promises; times in the model's unit.

    `attention_bound_ratio`, `communication_bound_ratio` and `interior_ratio` are null where the
    FFN's line never meets the other one, and negative where the FFN alone is slower at any load;
    `uncertainty` is null where the load is known exactly, `replication` with one FFN worker. The
    mean field has no law: its `step_time` has no percentiles.
    """
    step_time = {"mean": answer.best.step_time}
    if answer.step_time_quantiles is not None:
        step_time |= dict(zip(("p50", "p95", "p99"), answer.step_time_quantiles, strict=True))
    return {
        "optimal_ratio": answer.optimal_ratio,
        "optimal_attention_workers": answer.optimal_attention_workers,
        "bottleneck": answer.bottleneck,
        "attention_bound_ratio": answer.attention_bound_ratio,
        "communication_bound_ratio": answer.communication_bound_ratio,
        "interior_ratio": answer.interior_ratio,
        "mean_token_load": answer.mean_token_load,
        "near_equal_attention_workers": list(answer.near_equal),
        "mean_field_ratio": answer.mean_field_ratio,
        "barrier_cost": answer.barrier_cost,
        "resource_times": answer.resource_times,
        "bundle": answer.bundle,
        "step_time": step_time,
        "uncertainty": answer.uncertainty,
        "latency_uncertainty": answer.latency_uncertainty,
        "replication": answer.replication,
        "curve": answer.curve,
    }


def render_ratio(
    answer: RatioRecommendation,
    latency: LatencyModel,
    warnings: Sequence[str],
    trace: Trace | None = None,
) -> RenderableType:
    """Return the answer for a terminal: the sentence, the reasons, the curve, the warnings.

    Parameters
    ----------
    answer
        What `recommend_ratio` returned.
    latency
        The latency model behind it: its time unit and its assumptions are told.
    warnings
        One sentence each.
    trace
        The trace behind it, if any: what was read and dropped is told.
    """
    from rich.console import Group
    from rich.markup import escape

    unit = latency.time_unit
    parts: list[RenderableType] = [_headline(answer), "", _facts(answer, unit, trace), ""]
    parts.append(_curve(answer, unit))
    if latency.assumptions:
        parts += ["", f"[bold]Assumed, not measured[/] ({escape(latency.name)})"]
        parts += [f"- {escape(assumption)}" for assumption in latency.assumptions]
    for warning in warnings:
        parts += ["", f"[yellow]warning:[/] {escape(warning)}"]
    return Group(*parts)


def _workers(count: int, side: str) -> str:
    return f"{count:,} {side} worker{'' if count == 1 else 's'}"


def _headline(answer: RatioRecommendation) -> str:
    bundle = answer.bundle
    low, high = answer.near_equal
    others = "no other" if low == high else f"{low:,} to {high:,}"
    return (
        f"[bold]{_workers(bundle.attention_workers, 'attention')} to "
        f"{_workers(bundle.ffn_workers, 'FFN')}[/] ({answer.bottleneck} binds; "
        f"{others} within 1 %)"
    )


def _facts(answer: RatioRecommendation, unit: TimeUnit, trace: Trace | None) -> Table:
    from rich.table import Table

    best, bundle = answer.best, answer.bundle
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    tail = ""
    if answer.step_time_quantiles is not None:
        tail = f", p99 {time(answer.step_time_quantiles[2], unit)}"
    abstract = ", in the model's abstract time" if unit == "abstract" else ""
    if trace is not None:
        words = [f"{trace.requests:,} requests, format {trace.format}"]
        if trace.dropped_requests:
            words.append(f"{trace.dropped_requests:,} dropped (failed or without output)")
        table.add_row("Trace", ", ".join([*words, *trace.notes]))
    table.add_row(
        "Batch",
        f"{bundle.batch_size:,} requests per worker and microbatch, {bundle.microbatches} "
        f"microbatch{'' if bundle.microbatches == 1 else 'es'}, "
        f"{bundle.requests_per_attention_worker:,} requests per worker",
    )
    per_cost = ""
    if answer.ffn_weight != 1:
        per_cost = (
            f"; {rate(best.objective, unit)} per cost, an FFN worker counting "
            f"{answer.ffn_weight:.3g} attention workers"
        )
    per_instance = rate(best.throughput_per_instance, unit)
    table.add_row("Throughput", f"{per_instance} per instance{per_cost}")
    table.add_row(
        "Cycle time",
        f"{time(best.cycle_time, unit)} per layer and microbatch; step "
        f"{time(best.step_time, unit)}{tail}{abstract}",
    )
    table.add_row(
        "Idle",
        f"attention {share(best.attention_idle_fraction)}, FFN {share(best.ffn_idle_fraction)}",
    )
    table.add_row(
        "Barrier",
        f"waiting for the slowest worker costs {share(answer.barrier_cost)} of the throughput "
        "that equal loads would give",
    )
    table.add_row(
        "Real optimum",
        f"A/F = {answer.optimal_ratio:.4g}, mean field {answer.mean_field_ratio:.4g}; there "
        + ", ".join(f"{name} {time(t, unit)}" for name, t in answer.resource_times.items()),
    )
    table.add_row("Binding", f"{_RESOURCES[answer.bottleneck]} needs longest at that optimum")
    table.add_row("Token load", _load(answer))
    if answer.latency_uncertainty is not None:
        errors = answer.latency_uncertainty
        table.add_row(
            "Latency model",
            f"its standard errors put the best workers at {errors.low:,} to {errors.high:,} "
            f"({errors.confidence:.0%} of {errors.draws} draws); the recommended number loses "
            f"{share(errors.mean_regret)} on average".replace("% of", " % of"),
        )
    if answer.replication is not None:
        parts = answer.replication
        more = "more" if parts.gain >= 0 else "less"
        table.add_row(
            "Replicated",
            f"{parts.bundles} bundles of {parts.attention_workers}:{parts.ffn_workers}, each with "
            f"its own barrier, give {share(abs(parts.gain))} {more}",
        )
    return table


def _load(answer: RatioRecommendation) -> str:
    uncertainty = answer.uncertainty
    if uncertainty is None:
        return f"{answer.mean_token_load:,.1f} tokens per slot, taken as exact"
    load = uncertainty.token_load
    span = (
        f"{uncertainty.low:,} at either end"
        if uncertainty.low == uncertainty.high
        else f"{uncertainty.low:,} to {uncertainty.high:,}"
    )
    read = ""
    if abs(load.value - answer.mean_token_load) > 1e-6 * load.value:
        read = f", of which layers read {answer.mean_token_load:,.1f} on average"
    return (
        f"{load.value:,.1f} tokens per slot{read} ({load.low:,.1f} to {load.high:,.1f}, "
        f"{load.confidence:.0%} confidence): best workers {span}; the recommended number loses "
        f"at most {share(uncertainty.largest_regret)} there"
    ).replace("% confidence", " % confidence")


def _curve(answer: RatioRecommendation, unit: TimeUnit) -> Table:
    from rich.bar import Bar
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    per_time = "tok/time" if unit == "abstract" else "tok/s"
    per = "inst" if answer.ffn_weight == 1 else "cost"
    for name, width in (("A", 6), ("cycle", 9), (f"{per_time}/{per}", 13)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    table.add_column("", width=BAR_WIDTH)
    for name in ("regret", "idle A", "idle F"):
        table.add_column(name, justify="right", no_wrap=True, min_width=6)
    top = answer.best.objective
    for point in _shown(answer):
        is_best = point.attention_workers == answer.optimal_attention_workers
        table.add_row(
            f"{point.attention_workers:,}",
            time(point.cycle_time, unit),
            f"{point.objective:,.4g}",
            Bar(top, 0, point.objective, width=BAR_WIDTH, color="green" if is_best else "default"),
            "best" if is_best else share(point.regret),
            share(point.attention_idle_fraction),
            share(point.ffn_idle_fraction),
            style="bold" if is_best else "",
        )
    return table


def _shown(answer: RatioRecommendation) -> list[RatioPoint]:
    """Choose about fifteen points: the best, its neighbours, the near-equal ones, both ends."""
    workers = [p.attention_workers for p in answer.curve]
    best, last = answer.optimal_attention_workers, workers[-1]
    low, high = answer.near_equal
    wanted = {float(w) for w in (1, low, best - 1, best, best + 1, high, last)}
    for start, end in ((1, low), (low, best), (best, high), (high, last)):
        # Two more in each stretch, evenly spaced on a logarithmic scale.
        wanted |= {start * (end / start) ** (k / 3) for k in (1, 2)}
    nearest = {min(workers, key=lambda have: abs(have - want)) for want in wanted}
    return [point for point in answer.curve if point.attention_workers in nearest]
