"""Does the plan still stand, with today's requests?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from afdplan.cli.options import option_name, options, resolve_workload
from afdplan.cli.project import ProjectCommand
from afdplan.cli.report import documented, json_option, plot_option, print_json, tell, write_picture
from afdplan.cli.running import running_options, window_seconds
from afdplan.model import parameters as ask

if TYPE_CHECKING:
    from afdplan.deploy.running import Difference
    from afdplan.planning.running import Running
    from afdplan.workload.requests import Workload

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
    trace, is_counted = given["trace"], bool(metrics) or prometheus is not None
    sources = [trace is not None, bool(metrics), prometheus is not None].count(True)
    if sources > 1 or not (sources or settings):
        raise click.UsageError(
            "say what runs now: --trace FILE, --metrics FILE, --prometheus URL or --settings FILE"
        )
    _check_together(given, prometheus, selector, plot, is_counted=is_counted)
    from afdplan.deploy.running import differences_in
    from afdplan.files.check_state import CheckState, read_state, write_state
    from afdplan.files.plan_file import read_plan

    plan = read_plan(plan_file)
    differs = () if settings is None else differences_in(plan, settings)
    if not sources:
        _tell_settings(plan_file, settings, differs, as_json=as_json)
        return
    from afdplan.planning.check_answer import answer_check
    from afdplan.planning.retimed import retimed
    from afdplan.report.check import check_document, told_check

    times = {one.key: given[one.key] for one in (ask.LATENCY, *ask.DERIVED)}
    if any(value is not None for value in times.values()):
        plan = retimed(plan, times, option_name)
    before = CheckState() if state is None else read_state(state)
    seen: Workload | Running
    observed, measured, snapshot = {}, None, before.snapshot
    if is_counted:
        from afdplan.planning.running import running
        from afdplan.report.running import observed_answer

        seconds = 0.0 if prometheus is None else window_seconds(window)
        seen = running(plan, metrics, prometheus, seconds, selector, before.snapshot)
        observed = {"observed": observed_answer(seen)}
        measured, snapshot = seen.step_time, seen.snapshot
    else:
        seen = resolve_workload(given)
    answer = answer_check(
        plan,
        seen.law,
        token_load=seen.token_load,
        measured_step_time=measured,
        previous=None if state is None else before.standing,
    )
    standing, warnings = answer.result.standing, (*seen.warnings, *answer.result.notes)
    if state is not None:
        write_state(state, CheckState(standing=standing, snapshot=snapshot))
    if plot is not None:
        from afdplan.plotting.check_figure import check_figure

        drawn = check_figure(
            answer.result,
            time_limit=plan.time_per_output_token,
            overflow_limit=plan.overflow_probability,
        )
        write_picture(plot, [drawn], f"Check of {plan_file}: {standing}")
    if as_json:
        inputs = {
            "plan": plan_file,
            "trace": trace,
            "metrics": metrics[0] if len(metrics) == 1 else list(metrics) or None,
            "prometheus": prometheus,
            "window": window if prometheus else None,
            "selector": selector or None,
            "settings": settings,
            "state": state,
            **times,
        }
        document = documented(
            time_unit=plan.latency.time_unit,
            inputs=inputs,
            warnings=warnings,
            answer=check_document(answer, observed, differs),
        )
        print_json(document)
    else:
        following = "" if standing == "stands" else _planned_again(plan.command, trace)
        tell(told_check(answer, warnings, following, differs if settings is not None else None))
    if standing == "replan":
        raise click.exceptions.Exit(REPLAN_EXIT_CODE)
    if differs:
        raise click.exceptions.Exit(DIFFERS_EXIT_CODE)


def _check_together(
    given: dict[str, Any],
    prometheus: str | None,
    selector: str,
    plot: str | None,
    *,
    is_counted: bool,
) -> None:
    """Refuse options that refine what is not given."""
    if given["trace"] is None and any(given[one.key] is not None for one in ask.OF_TRACE):
        raise click.UsageError(
            "--format, --columns and --time-format describe a trace: give --trace too"
        )
    source = click.get_current_context().get_parameter_source("window")
    if source == ParameterSource.COMMANDLINE and prometheus is None:
        raise click.UsageError("--window is how far back --prometheus looks: give that too")
    if selector and not is_counted:
        raise click.UsageError("--selector picks engines: give --metrics or --prometheus too")
    if plot is not None and given["trace"] is None and not is_counted:
        raise click.UsageError(
            "--plot draws requests against the plan: give --trace, --metrics or --prometheus too"
        )


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
        told = documented(
            time_unit="s",
            inputs={"plan": plan_file, "settings": settings},
            warnings=(),
            answer=settings_answer(differs),
        )
        print_json(told)
    else:
        tell(settings_told(differs))
    if differs:
        raise click.exceptions.Exit(DIFFERS_EXIT_CODE)
