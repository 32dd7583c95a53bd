"""Given devices, a TPOT limit and memory: what should be deployed, and is a split worth it?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import Workload, json_option, resolve_workload, workload_options
from afdplan.cli.plan_options import (
    latency_options,
    limit_options,
    resolve_source,
    resolve_space,
)
from afdplan.cli.quantity import parse_duration, parse_numbers, parse_rate
from afdplan.cli.report import (
    around_option,
    command_line,
    plot_option,
    progress,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.errors import InfeasibleError

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.limits import Limits
    from afdplan.planning.objective import DeviceCost
    from afdplan.planning.plan import Plan
    from afdplan.planning.source import LatencySource
    from afdplan.planning.space import SearchSpace
    from afdplan.planning.verify import Verification

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan plan --model deepseek-v3 --hardware h200 --trace requests.csv \\
      --tpot 50ms --devices 64
  afdplan plan --latency model.toml --kv-tokens 1.5e6 --trace requests.csv \\
      --tpot 50ms --rate 20/s --json > plan.json
"""


@click.command("plan", epilog=EXAMPLES)
@workload_options
@latency_options
@limit_options
@click.option("--verify", is_flag=True, help="Replay the plan and its neighbours in the simulator.")
@plot_option("the Pareto front")
@around_option
@report_option
@json_option
def command(
    trace: str | None,
    trace_format: str | None,
    columns: str | None,
    prompt: str | None,
    decode: str | None,
    verify: bool,
    plot: str | None,
    around: bool,
    report: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the deployment with the most tokens/s per device, euro or watt under real limits."""
    tpot = None if options["tpot"] is None else parse_duration("--tpot", options["tpot"])
    goal = None if options["rate"] is None else parse_rate("--rate", options["rate"])
    if options["devices"] is None and goal is None:
        raise click.UsageError("say what there is or what is wanted: --devices N, --rate R or both")
    if around and not as_json:
        raise click.UsageError("--around adds to --json: give both, or --report, which has it")
    from afdplan.planning.limits import Limits

    limits = Limits(
        devices=options["devices"],
        requests_per_second=goal,
        time_per_output_token=tpot,
        statistic=options["tpot_statistic"],
        overflow_probability=options["overflow"],
        node_devices=options["node_devices"],
    )
    space = resolve_space(options)
    workload = resolve_workload(trace, trace_format, columns, prompt, decode)
    try:
        source, cost = resolve_source(options)
    except InfeasibleError as error:
        if as_json:
            _tell_infeasible(error, workload.inputs | options, workload, "s")
        raise
    from afdplan.planning.plan import make_plan

    try:
        with progress("planning") as show:
            plan = make_plan(
                workload.law,
                source,
                limits,
                space=space,
                cost=cost,
                trace=workload.trace,
                token_load=workload.token_load,
                progress=show,
            )
    except InfeasibleError as error:
        if as_json:
            layers = source.latency(source.attention_devices[0], 1, 1).layers
            inputs = _inputs(options, workload, source, limits, space, cost, layers=layers)
            _tell_infeasible(error, inputs, workload, source.time_unit)
        raise
    plan = dataclasses.replace(plan, warnings=(*workload.warnings, *plan.warnings))
    verified = _verify(plan, plan.law, source) if verify else ()
    found = None
    if around or report is not None:
        from afdplan.planning.plan_around import plan_around

        with progress("other batches") as show:
            found = plan_around(plan, plan.law, source, show)
    if plot is not None:
        from afdplan.plotting.plan_figures import front_figure

        write_picture(plot, [front_figure(plan)], str(plan.split.design))
    from afdplan.report.plan import plan_told

    told = plan_told(plan, f"{workload.law.name}; {source.name}", verified)
    if as_json or report is not None:
        from afdplan.report.document import document, to_json
        from afdplan.report.plan_answer import plan_answer

        answer = document(
            time_unit=source.time_unit,
            inputs=_inputs(
                options, workload, source, limits, space, cost, layers=plan.latency.layers
            ),
            warnings=plan.warnings,
            answer=plan_answer(plan, workload.law, verified),
        )
        from afdplan.files.plan_file import plan_from_document
        from afdplan.planning.check import regret_of_keeping
        from afdplan.planning.replan import replan

        # What `afdplan check` compares later requests with; it also proves that the file reads.
        written = plan_from_document(answer)
        answer["check"] = {"regret": regret_of_keeping(written, workload.law)}
        if plan.basis != "all requests":
            # What holding in the hardest part costs is no reason to plan again.
            answer["check"]["replan_regret"] = replan(written, workload.law).regret
        if found is not None:
            from afdplan.report.around import plan_around_answer

            answer["around"] = plan_around_answer(found)
        if report is not None and found is not None:
            from afdplan.report.page_plan import plan_page

            page = plan_page(
                told,
                plan,
                workload.law,
                found,
                document=answer,
                command_line=command_line(),
                workload=workload.report,
                verified=verified,
            )
            write_report(report, page)
        if as_json:
            click.echo(to_json(answer))
            return
    tell(told)


def _inputs(
    options: dict[str, Any],
    workload: Workload,
    source: LatencySource,
    limits: Limits,
    space: SearchSpace,
    cost: DeviceCost,
    *,
    layers: int,
) -> dict[str, Any]:
    """Return what was asked, with every default resolved; `check` plans again from it."""
    return {
        **workload.inputs,
        "latency": {"name": source.name, "layers": layers},
        "model": options["model"],
        "hardware": options["hardware"],
        "ffn_hardware": options["ffn_hardware"],
        "weight_precision": options["weight_precision"],
        "kv_precision": options["kv_precision"],
        "link": options["link"],
        "speculative_tokens": options["speculative_tokens"],
        "acceptance": options["acceptance"],
        "attention_devices": None
        if options["attention_devices"] is None
        else list(parse_numbers("--attention-devices", options["attention_devices"])),
        "kv_tokens": options["kv_tokens"],
        "devices": limits.devices,
        "rate": limits.requests_per_second,
        "tpot": limits.time_per_output_token,
        "tpot_statistic": limits.statistic,
        "overflow": limits.overflow_probability,
        "node_devices": limits.node_devices,
        "target": space.target.name,
        "target_version": space.target.version or None,
        "per": cost.per,
        "attention_cost": cost.attention,
        "ffn_cost": cost.ffn,
        "microbatches": list(space.microbatches),
        "largest_batch_size": max(space.batch_sizes),
        "batch_sizes": None if space.fills_gaps else list(space.batch_sizes),
        "ffn_workers": None if space.ffn_workers is None else list(space.ffn_workers),
        "max_attention_workers": space.max_attention_workers,
    }


def _tell_infeasible(
    error: InfeasibleError, inputs: dict[str, Any], workload: Workload, unit: TimeUnit
) -> None:
    """Print the one document of a plan that does not exist."""
    from afdplan.report.document import document, to_json
    from afdplan.report.plan_answer import design_answer

    nearest = error.nearest
    answer = {
        "recommended": None,
        "infeasible": str(error),
        "nearest": None if nearest is None else design_answer(nearest),
    }
    told = document(time_unit=unit, inputs=inputs, warnings=workload.warnings, answer=answer)
    click.echo(to_json(told))


def _verify(plan: Plan, law: LengthLaw, source: LatencySource) -> tuple[Verification, ...]:
    """Simulate, with a bar on a terminal."""
    from afdplan.planning.verify import verify_plan

    with progress("simulating") as show:
        return verify_plan(plan, law, source, progress=show)
