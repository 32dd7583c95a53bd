"""Does the plan still stand, with today's requests?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import json_option, resolve_workload
from afdplan.cli.report import tell

if TYPE_CHECKING:
    from afdplan.planning.check import Standing

__all__ = ["command"]

REPLAN_EXIT_CODE = 4

EXAMPLES = """\b
Examples:
  afdplan check plan.json --trace yesterday.csv
  curl -s http://attention:8000/metrics > metrics.txt
  afdplan check plan.json --metrics metrics.txt --state check.json || mail -s replan me
"""


@click.command("check", epilog=EXAMPLES)
@click.argument("plan_file", metavar="PLAN.json")
@click.option("--trace", metavar="FILE", help="New request trace; its format is detected.")
@click.option("--format", "trace_format", metavar="NAME", help="Force a trace format.")
@click.option("--columns", metavar="MAP", help="Columns: prompt=NAME,decode=NAME,arrival=NAME.")
@click.option("--metrics", metavar="FILE", help="Prometheus text snapshot of vLLM's /metrics.")
@click.option(
    "--state",
    metavar="FILE",
    help="Remember the standing between checks: two in a row beyond the bounds mean replan.",
)
@json_option
def command(
    plan_file: str,
    trace: str | None,
    trace_format: str | None,
    columns: str | None,
    metrics: str | None,
    state: str | None,
    as_json: bool,
) -> None:
    """Say whether a running plan still stands; exit code 0 if it does, 4 if not."""
    if (trace is None) == (metrics is None):
        raise click.UsageError("say what runs now: --trace FILE or --metrics FILE")
    if trace is None and (trace_format is not None or columns is not None):
        raise click.UsageError("--format and --columns describe a trace: give --trace too")
    warnings: tuple[str, ...] = ()
    from afdplan.files.plan_file import read_plan
    from afdplan.planning.check import check_plan

    plan = read_plan(plan_file)
    token_load = measured = None
    law: Any
    if trace is not None:
        workload = resolve_workload(trace, trace_format, columns, None, None)
        law, token_load, warnings = workload.law, workload.token_load, workload.warnings
    else:
        from afdplan.files.measurements.prometheus import read_metrics
        from afdplan.workload.observed import observed_lengths

        snapshot = read_metrics(str(metrics))
        law = observed_lengths(snapshot)
        if snapshot.step_time is not None and plan.latency.time_unit == "s":
            measured = snapshot.step_time.mean
    previous = None if state is None else _previous(state)
    result = check_plan(
        plan, law, token_load=token_load, measured_step_time=measured, previous=previous
    )
    warnings += result.notes
    if state is not None:
        from afdplan.files.atomic import write_atomic

        write_atomic(state, json.dumps({"standing": result.standing}).encode() + b"\n")
    from afdplan.report.check import check_answer, check_told

    if as_json:
        from afdplan.report.document import document, to_json

        inputs = {"plan": plan_file, "trace": trace, "metrics": metrics, "state": state}
        click.echo(
            to_json(
                document(
                    time_unit=plan.latency.time_unit,
                    inputs=inputs,
                    warnings=warnings,
                    answer=check_answer(result),
                )
            )
        )
    else:
        tell(check_told(result, plan.latency.time_unit, warnings))
    if result.standing == "replan":
        raise click.exceptions.Exit(REPLAN_EXIT_CODE)


def _previous(path: str) -> Standing:
    """Return the standing that a state file remembers; a new file begins with ``stands``."""
    from pathlib import Path

    from afdplan.errors import InvalidInputError
    from afdplan.files.document import read_document

    if not Path(path).exists():
        return "stands"
    found = read_document(path, "a state of afdplan check")
    standing = found.get("standing")
    if standing not in ("stands", "watch", "replan"):
        raise InvalidInputError(
            f"{path}: standing must be stands, watch or replan, got {standing!r:.40}; remove the "
            "file to start again"
        )
    return standing  # type: ignore[no-any-return]
