"""Given devices, a TPOT limit and memory: what should be deployed, and is a split worth it?"""

from __future__ import annotations

import dataclasses
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
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.limits import Limits
    from afdplan.planning.objective import DeviceCost
    from afdplan.planning.plan import Plan
    from afdplan.planning.source import LatencySource
    from afdplan.planning.space import SearchSpace
    from afdplan.planning.verify import Verification
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
            _tell_infeasible(error, given | workload_inputs(given, workload), workload, "s")
        raise
    from afdplan.planning.whole import plan_whole

    failures = resolve_failures(given)
    try:
        with progress("planning") as show:
            whole = plan_whole(
                workload.law,
                source,
                limits,
                prefill=resolve_prefill(given, workload, source),
                failures=failures,
                space=space,
                cost=cost,
                trace=workload.trace,
                token_load=workload.token_load,
                progress=show,
            )
    except InfeasibleError as error:
        if as_json:
            layers = source.latency(source.attention_devices[0], 1, 1).layers
            inputs = _inputs(given, workload, source, limits, space, cost, layers=layers)
            _tell_infeasible(error, inputs, workload, source.time_unit)
        raise
    plan = whole.plan
    # Of the decode side, whose memory may hold shared blocks once.
    limits, space, source = plan.limits, plan.space, plan.source
    plan = dataclasses.replace(plan, warnings=(*workload.warnings, *plan.warnings))
    verified = _verify(plan, plan.law, source) if verify else ()
    played = None
    if verify and whole.service is not None:
        from afdplan.planning.service_verify import verify_service

        with progress("playing the service") as show:
            played = verify_service(whole.service, source, progress=show)
    found = None
    if around or report is not None:
        from afdplan.planning.plan_around import plan_around

        with progress("other batches") as show:
            found = plan_around(plan, plan.law, source, show)
    if plot is not None:
        from afdplan.plotting.plan_figures import front_figure, plan_title

        write_picture(plot, [front_figure(plan)], plan_title(plan))
    from afdplan.report.plan import plan_told
    from afdplan.report.service import whole_tables, whole_told
    from afdplan.report.service_answer import failure_answer, service_answer

    told = plan_told(
        plan, f"{workload.law.name}; {source.name}", verified, _following(plan, output)
    )
    told = whole_told(told, whole, played)
    from afdplan.planning.plan_modes import has_both_modes, meets_limit, plan_modes
    from afdplan.report.plan_modes import mode_facts

    modes = None
    if given["execution"] == "barrier-free":
        found_modes = plan_modes(plan)
        meets = meets_limit(plan, found_modes)
        modes = dataclasses.asdict(found_modes) | {"meets_limit": meets}
        words = mode_facts(found_modes, meets, limits, source.time_unit)
    elif has_both_modes(space.target):
        words = mode_facts(None, None, limits, source.time_unit)
    else:
        words = ()
    if words:
        told = dataclasses.replace(
            told, words=(*told.words, *words), brief=(*told.brief, *words) if told.brief else ()
        )
    from afdplan.planning.placement_gain import placement_gain
    from afdplan.report.placement import gain_answer, gain_fact

    design = plan.split.design
    here = design.attention_workers
    most = limits.most_attention_workers(
        design.ffn_workers * design.ffn_devices, design.attention_devices
    )
    gain = placement_gain(plan.problem, here, max_attention_workers=most)
    if gain is not None and (verify or around or report is not None):
        from afdplan.planning.simulated_ratio import recovered

        blind = dataclasses.replace(plan.problem, placement=ask.PLACEMENT.default)
        known = recovered(blind, here, gain.placement)
        gain = dataclasses.replace(gain, recovered=known)
    if gain is not None:
        is_used = gain.placement == space.placement
        said = gain_fact(gain, source.time_unit, is_used=is_used)
        if plan.kind != "split":  # JSON has it, too
            said = said._replace(name="Placement, if split")
        told = dataclasses.replace(told, words=(*told.words, said))
    from afdplan.planning.plan_effects import plan_effects
    from afdplan.report.effects import effect_answer, with_effects

    effects = plan_effects(plan, source, most)
    told = with_effects(told, effects, "" if plan.kind == "split" else "if split")
    if as_json or report is not None or output is not None:
        from afdplan.report.document import to_json
        from afdplan.report.plan_answer import plan_answer

        answer = documented(
            time_unit=source.time_unit,
            inputs=_inputs(
                given, workload, source, limits, space, cost, layers=plan.latency.layers
            ),
            warnings=plan.warnings,
            answer=plan_answer(plan, workload.law, verified)
            | {
                "placement_gain": gain_answer(gain),
                "effects": effect_answer(effects),
                "service": service_answer(whole.service, played),
                "failures": failure_answer(whole.failures),
                "modes": modes,
            },
        )
        from afdplan.files.plan_file import plan_from_document
        from afdplan.planning.check import regret_of_keeping
        from afdplan.planning.replan import replan

        # What `afdplan check` compares later requests with; it also proves that the file reads.
        written = plan_from_document(json.loads(to_json(answer)))
        answer["check"] = {"regret": regret_of_keeping(written, workload.law)}
        if plan.basis != "all requests" or plan.planned_limits != plan.limits:
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
                workload=workload.report,
                verified=verified,
                beside=whole_tables(whole, played),
            )
            write_report(report, page, answer)
        if output is not None:
            from afdplan.files.atomic import write_atomic

            write_atomic(output, f"{to_json(answer)}\n".encode())
            say_wrote(output)
        if as_json:
            click.echo(to_json(answer))
    if not as_json:
        tell(told)
    if not plan.is_feasible:
        raise click.exceptions.Exit(BROKEN_EXIT_CODE)


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
    from afdplan.report.document import to_json
    from afdplan.report.plan_answer import design_answer

    nearest = error.nearest
    answer = {
        "recommended": None,
        "infeasible": str(error),
        "nearest": None if nearest is None else design_answer(nearest),
    }
    told = documented(time_unit=unit, inputs=inputs, warnings=workload.warnings, answer=answer)
    click.echo(to_json(told))


def _verify(plan: Plan, law: LengthLaw, source: LatencySource) -> tuple[Verification, ...]:
    """Simulate, with a bar on a terminal."""
    from afdplan.planning.verify import verify_plan

    with progress("simulating") as show:
        return verify_plan(plan, law, source, progress=show)
