"""Does the plan still stand, with today's requests?"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import option_name, options, resolve_workload
from afdplan.cli.project import ProjectCommand
from afdplan.cli.report import documented, json_option, plot_option, tell, write_picture
from afdplan.cli.running import running, running_options
from afdplan.model import parameters as ask

if TYPE_CHECKING:
    from afdplan.deploy.running import Difference

__all__ = ["command"]

REPLAN_EXIT_CODE = 4
DIFFERS_EXIT_CODE = 5

EXAMPLES = """\b
Examples:
  afdplan check plan.json --trace yesterday.csv
  curl -s http://attention:8000/metrics > metrics.txt
  curl -s http://attention:30000/get_server_info > server.json
  afdplan check plan.json --settings server.json
  afdplan check plan.json --metrics metrics.txt --state check.json || mail -s replan me
  afdplan check plan.json --prometheus http://prometheus:9090 --window 1h
"""


@click.command("check", cls=ProjectCommand, epilog=EXAMPLES)
@click.argument("plan_file", metavar="PLAN.json")
@options(ask.TRACE, *ask.OF_TRACE)
@running_options
@click.option(
    "--settings",
    metavar="FILE",
    help="What the server says of itself: start-up log, /get_server_info or /metrics.",
)
@click.option(
    "--state",
    metavar="FILE",
    help="Remember between checks: counters, of which the increase is judged, and the standing "
    "(two in a row beyond the bounds mean replan).",
)
@options(ask.LATENCY, *ask.DERIVED, fills=False)
@plot_option("what runs now over what was predicted")
@json_option
def command(
    plan_file: str,
    metrics: tuple[str, ...],
    prometheus: str | None,
    window: str,
    selector: str,
    settings: str | None,
    state: str | None,
    plot: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Say whether a running plan still stands; exit code 0 if it does, 4 if not.

    By the stage times that the plan was made with; --latency, or --model, --hardware and what
    refines them, override those. --settings alone compares settings only. Exit code 5: the plan
    stands, but the server runs with other settings.
    """
    trace = given["trace"]
    requests = [trace is not None, bool(metrics), prometheus is not None].count(True)
    if requests > 1 or not (requests or settings):
        raise click.UsageError(
            "say what runs now: --trace FILE, --metrics FILE, --prometheus URL or --settings FILE"
        )
    if trace is None and any(given[one.key] is not None for one in ask.OF_TRACE):
        raise click.UsageError(
            "--format, --columns and --time-format describe a trace: give --trace too"
        )
    if selector and not (metrics or prometheus):
        raise click.UsageError("--selector picks engines: give --metrics or --prometheus too")
    if plot is not None and not requests:
        raise click.UsageError(
            "--plot draws requests against the plan: give --trace, --metrics or --prometheus too"
        )
    warnings: tuple[str, ...] = ()
    from afdplan.files.check_state import CheckState, read_state, write_state
    from afdplan.files.plan_file import read_plan
    from afdplan.planning.check import check_plan

    plan = read_plan(plan_file)
    differs: tuple[Difference, ...] = ()
    if settings is not None:
        from afdplan.deploy.running import differences_in

        differs = differences_in(plan, settings)
    if not requests:
        _tell_settings(plan_file, settings, differs, as_json=as_json)
        return
    times = {one.key: given[one.key] for one in (ask.LATENCY, *ask.DERIVED)}
    if any(value is not None for value in times.values()):
        from afdplan.planning.retimed import retimed

        plan = retimed(plan, times, option_name)
    before = CheckState() if state is None else read_state(state)
    token_load = measured = None
    observed: dict[str, Any] = {}
    snapshot = before.snapshot
    law: Any
    if trace is not None:
        workload = resolve_workload(given)
        law, token_load, warnings = workload.law, workload.token_load, workload.warnings
    else:
        seen = running(plan, metrics, prometheus, window, selector, before.snapshot)
        law, token_load, measured, warnings = (
            seen.law, seen.token_load, seen.step_time, seen.warnings
        )  # fmt: skip
        observed, snapshot = {"observed": seen.answer}, seen.snapshot
    result = check_plan(
        plan,
        law,
        token_load=token_load,
        measured_step_time=measured,
        previous=None if state is None else before.standing,
    )
    warnings += result.notes
    if state is not None:
        write_state(state, CheckState(standing=result.standing, snapshot=snapshot))
    from afdplan.planning.check import problem_of
    from afdplan.planning.placement_gain import placement_gain
    from afdplan.planning.plan_effects import running_effects
    from afdplan.report.check import check_answer, check_told, settings_answer, settings_told
    from afdplan.report.effects import effect_answer, with_effects
    from afdplan.report.placement import gain_answer, gain_fact

    if plot is not None:
        from afdplan.plotting.check_figure import check_figure

        drawn = check_figure(
            result,
            time_limit=plan.time_per_output_token,
            overflow_limit=plan.overflow_probability,
        )
        write_picture(plot, [drawn], f"Check of {plan_file}: {result.standing}")
    problem = problem_of(plan, law)
    here = plan.bundle.attention_workers
    most = None
    if (devices := plan.inputs.get("devices")) is not None:
        if not isinstance(devices, int):
            raise click.UsageError(
                f"devices of the plan must be an integer, got {devices!r}: plan again"
            )
        most = (devices - plan.bundle.ffn_workers * plan.ffn_devices) // plan.attention_devices
    gain = placement_gain(problem, here, max_attention_workers=most)
    if gain is not None:
        from afdplan.planning.simulated_ratio import recovered

        blind = replace(problem, placement=ask.PLACEMENT.default)
        gain = replace(gain, recovered=recovered(blind, here, gain.placement))
    effects = running_effects(plan, law, most)
    if as_json:
        from afdplan.report.document import to_json

        files = metrics[0] if len(metrics) == 1 else list(metrics) or None
        inputs = {
            "plan": plan_file,
            "trace": trace,
            "metrics": files,
            "prometheus": prometheus,
            "window": window if prometheus else None,
            "selector": selector or None,
            "settings": settings,
            "state": state,
            **times,
        }
        click.echo(
            to_json(
                documented(
                    time_unit=plan.latency.time_unit,
                    inputs=inputs,
                    warnings=warnings,
                    answer={
                        **check_answer(result),
                        "placement_gain": gain_answer(gain),
                        "effects": effect_answer(effects),
                        **observed,
                        **settings_answer(differs),
                    },
                )
            )
        )
    else:
        following = "" if result.standing == "stands" else _planned_again(plan.command, trace)
        told = check_told(result, plan.latency.time_unit, warnings, following)
        if gain is not None:
            is_used = gain.placement == problem.placement
            balanced = gain_fact(gain, plan.latency.time_unit, is_used=is_used)
            told = replace(told, words=(*told.words, balanced))
        told = with_effects(told, effects, "if split" if plan.recommends_unsplit else "")
        if settings is not None:
            said = settings_told(differs)
            told = replace(
                told, answer=f"{told.answer} {said.answer}", facts=(*told.facts, *said.facts)
            )
        tell(told)
    if result.standing == "replan":
        raise click.exceptions.Exit(REPLAN_EXIT_CODE)
    if differs:
        raise click.exceptions.Exit(DIFFERS_EXIT_CODE)


def _planned_again(command: str, trace: str | None) -> str:
    """Return the command of a plan with today's trace; nothing where it had none."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    at = words.index("--trace") + 1 if "--trace" in words else len(words)
    if trace is None or at >= len(words):
        return ""
    return shlex.join([*words[:at], trace, *words[at + 1 :]])


def _tell_settings(
    plan_file: str, settings: str | None, differs: tuple[Difference, ...], *, as_json: bool
) -> None:
    """Tell settings alone: nothing is known of the requests yet."""
    from afdplan.report.check import settings_answer, settings_told

    if as_json:
        from afdplan.report.document import to_json

        told = documented(
            time_unit="s",
            inputs={"plan": plan_file, "settings": settings},
            warnings=(),
            answer=settings_answer(differs),
        )
        click.echo(to_json(told))
    else:
        tell(settings_told(differs))
    if differs:
        raise click.exceptions.Exit(DIFFERS_EXIT_CODE)
