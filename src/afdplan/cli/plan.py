"""Given devices, a TPOT limit and memory: what should be deployed, and is a split worth it?"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import options, resolve_workload, workload_inputs, workload_options
from afdplan.cli.plan_options import (
    LATENCIES,
    limit_options,
    resolve_limits,
    resolve_source,
    resolve_space,
    source_options,
)
from afdplan.cli.project import ProjectCommand
from afdplan.cli.report import (
    around_option,
    check_folder,
    documented,
    json_option,
    plot_option,
    print_json,
    progress,
    report_option,
    say_wrote,
    tell,
    write_picture,
    write_report,
)
from afdplan.cli.service_options import (
    resolve_failures,
    resolve_prefill,
    service_inputs,
    service_options,
)
from afdplan.errors import InfeasibleError
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.parameter import values_of

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.limits import Limits
    from afdplan.planning.objective import DeviceCost
    from afdplan.planning.plan import Plan
    from afdplan.planning.plan_answer import PlanAnswer
    from afdplan.planning.source import LatencySource
    from afdplan.planning.space import SearchSpace
    from afdplan.report.telling import Telling
    from afdplan.workload.requests import Workload

__all__ = ["command"]

BROKEN_EXIT_CODE = 3

EXAMPLES = """\b
Examples:
  afdplan plan --model deepseek-v3 --hardware h200 --trace requests.csv \\
      --tpot 50ms --devices 64
  afdplan plan --latency model.toml --kv-tokens 1.5e6 --trace requests.csv \\
      --tpot 50ms --rate 20/s --json > plan.json
"""


@click.command("plan", cls=ProjectCommand, epilog=EXAMPLES)
@workload_options
@source_options
@limit_options
@service_options
@options(
    of_plan.PLANNED_WINDOW,
    ask.EXECUTION.changed(
        help="barrier-free: also compare the split with one that runs without the barrier (takes "
        "seconds)."
    ),
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    callback=check_folder,
    help="Keep the plan as JSON, for deploy and check.",
)
@click.option("--verify", is_flag=True, help="Replay the plan and its neighbours in the simulator.")
@plot_option("the Pareto front")
@around_option
@report_option
@json_option
def command(
    output: str | None,
    verify: bool,
    plot: str | None,
    around: bool,
    report: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Find the deployment with the most tokens/s per device, euro or watt under real limits."""
    limits = resolve_limits(given)
    if around and not as_json:
        raise click.UsageError("--around adds to --json: give both, or --report, which has it")
    space = resolve_space(given)
    if given["execution"] == "barrier-free" and space.placement != ask.PLACEMENT.default:
        raise click.UsageError(
            f"--placement {space.placement} chooses among workers that end a step together, which "
            "barrier-free ones do not: leave one of them out"
        )
    workload = resolve_workload(given, window=given["window"])
    try:
        source, cost = resolve_source(given)
    except InfeasibleError as error:
        if as_json:
            inputs = given | workload_inputs(given, workload)
            _tell_infeasible(error, inputs, workload, "s")
        raise
    from afdplan.planning.plan_answer import PlanQuestion, answer_plan

    failures = resolve_failures(given)
    try:
        question = PlanQuestion(
            workload=workload,
            source=source,
            limits=limits,
            space=space,
            cost=cost,
            prefill=resolve_prefill(given, workload, source),
            failures=failures,
            has_verification=verify,
            has_around=around or report is not None,
            has_modes=given["execution"] == "barrier-free",
        )
        answer = answer_plan(question, progress)
    except InfeasibleError as error:
        if as_json:
            layers = source.latency(source.attention_devices[0], 1, 1).layers
            inputs = _inputs(given, workload, source, limits, space, cost, layers=layers)
            _tell_infeasible(error, inputs, workload, source.time_unit)
        raise
    from afdplan.report.plan_document import told_plan

    told = told_plan(answer, _following(answer.plan, output))
    if plot is not None:
        from afdplan.plotting.plan_figures import front_figure, plan_title

        write_picture(plot, [front_figure(answer.plan)], plan_title(answer.plan))
    if as_json or report is not None or output is not None:
        _write(answer, told, given, output=output, report=report, as_json=as_json)
    if not as_json:
        tell(told)
    if not answer.plan.is_feasible:
        raise click.exceptions.Exit(BROKEN_EXIT_CODE)


def _write(
    answer: PlanAnswer,
    told: Telling,
    given: dict[str, Any],
    *,
    output: str | None,
    report: str | None,
    as_json: bool,
) -> None:
    """Write the document to where it is wanted: the page, the plan's file, standard output."""
    from afdplan.planning.plan_answer import costs_of_keeping
    from afdplan.report.document import to_json
    from afdplan.report.plan_document import plan_document

    plan, question = answer.plan, answer.question
    source, layers = plan.source, plan.latency.layers
    document = documented(
        time_unit=source.time_unit,
        inputs=_inputs(
            given,
            question.workload,
            source,
            plan.limits,
            plan.space,
            question.cost,
            layers=layers,
        ),
        warnings=plan.warnings,
        answer=plan_document(answer),
    )
    document["check"] = costs_of_keeping(json.loads(to_json(document)), answer)
    if report is not None:
        from afdplan.report.page_plan import answered_page

        write_report(report, answered_page(answer, told), document)
    if output is not None:
        from afdplan.files.atomic import write_atomic

        write_atomic(output, f"{to_json(document)}\n".encode())
        say_wrote(output)
    if as_json:
        print_json(document)


def _following(plan: Plan, output: str | None) -> str:
    """Return how the plan becomes files of a serving system."""
    from afdplan.deploy.registry import find_target
    from afdplan.planning.colocated import Colocated

    target = plan.space.target
    name = target.name if target.restricts else "vllm-afd-plugin"
    is_unsplit = isinstance(plan.recommended, Colocated)
    if is_unsplit and find_target(name).unsplit is None:
        name = "vllm-afd-plugin"  # its engine runs without a split, too
    kept = shlex.quote(output or "plan.json")
    if plan.latency.tokens_per_step != 1:
        return "no files decode ahead: plan with --speculative-tokens 0 to deploy"
    deploy = f"afdplan deploy {kept} --target {name} -o deployment"
    return deploy if output else f"add -o plan.json, then {deploy}"


def _inputs(
    given: dict[str, Any],
    workload: Workload,
    source: LatencySource,
    limits: Limits,
    space: SearchSpace,
    cost: DeviceCost,
    *,
    layers: int,
) -> dict[str, Any]:
    """Return what was asked, with every default resolved; `check` plans again from it."""
    chosen = {one.key: given[one.key] for one in LATENCIES}
    if given["latency"] is None:
        chosen = {one.key: one.default for one in ask.DERIVED} | {
            name: value for name, value in chosen.items() if value is not None
        }
    return {
        **dict.fromkeys(one.key for one in LATENCIES),
        **workload_inputs(given, workload),
        **chosen,
        "latency": {"name": source.name, "layers": layers},
        **values_of(limits, of_plan.LIMITS),
        "window": given["window"],
        "execution": given["execution"],
        **values_of(cost, of_plan.COST),
        "target": space.target.name,
        "target_version": space.target.version or None,
        "microbatches": space.microbatches,
        "largest_batch_size": max(space.batch_sizes),
        "batch_sizes": None if space.fills_gaps else space.batch_sizes,
        "ffn_workers": space.ffn_workers,
        "max_bundle_devices": space.max_bundle_devices,
        **service_inputs(given),
        "max_attention_workers": space.max_attention_workers,
        "placement": space.placement,
    }


def _tell_infeasible(
    error: InfeasibleError, inputs: dict[str, Any], workload: Workload, unit: TimeUnit
) -> None:
    """Print the one document of a plan that does not exist."""
    from afdplan.report.plan_answer import design_answer

    nearest = error.nearest
    answer = {
        "recommended": None,
        "infeasible": str(error),
        "nearest": None if nearest is None else design_answer(nearest),
    }
    told = documented(time_unit=unit, inputs=inputs, warnings=workload.warnings, answer=answer)
    print_json(told)
