"""For this batch size: how many attention workers per FFN worker, and what bottleneck?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import (
    latency_inputs,
    latency_options,
    options,
    resolve_batch_size,
    resolve_choice,
    resolve_workload,
    workload_inputs,
    workload_options,
)
from afdplan.cli.project import ProjectCommand
from afdplan.cli.report import (
    around_option,
    command_with,
    documented,
    json_option,
    plot_option,
    print_json,
    progress,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.model import parameters as ask
from afdplan.model.parameter import values_of

if TYPE_CHECKING:
    from afdplan.planning.ratio_answer import RatioAnswer

__all__ = ["command"]

METHOD = ask.METHOD.changed(
    choices=(*ask.METHOD.choices, "simulated"),
    help="The barrier: exact law, normal approximation, none, or a few ratios played.",
)
EXAMPLES = """\b
Examples:
  afdplan ratio --trace requests.csv --latency model.toml --batch-size 256
  afdplan ratio --prompt geometric:100 --decode geometric:500 \\
      --latency deepseek-v3-ascend-910c --batch-size 256
"""


@click.command("ratio", cls=ProjectCommand, epilog=EXAMPLES)
@workload_options
@latency_options
@options(*ask.SLOTS, METHOD, *ask.RATIO[1:], *ask.PLAYED, ask.BY)
@plot_option("the curve")
@around_option
@report_option
@json_option
def command(
    plot: str | None, around: bool, report: str | None, as_json: bool, **given: Any
) -> None:
    """Find the number of attention workers per bundle that yields the most tokens per cost."""
    size = resolve_batch_size(given)
    _check_together(given, around=around, as_json=as_json)
    choice, workload = resolve_choice(given), resolve_workload(given)
    from afdplan.planning.ratio_answer import answer_ratio
    from afdplan.planning.ratio_question import RatioQuestion
    from afdplan.report.ratio_document import (
        ratio_document,
        ratio_heading,
        ratio_picture,
        told_ratio,
    )

    has_around = around or report is not None
    question = RatioQuestion.of(given, workload, choice, size, has_around=has_around)
    answer = answer_ratio(question, progress)
    told = replace(told_ratio(answer), following=_following(answer))
    if plot is not None:
        write_picture(plot, ratio_picture(answer), ratio_heading(answer))
    if as_json or report is not None:
        document = documented(
            time_unit=question.problem.latency.time_unit,
            inputs=_inputs(given, answer),
            warnings=answer.warnings,
            answer=ratio_document(answer),
        )
        if report is not None:
            from afdplan.report.page_ratio import answered_page

            write_report(report, answered_page(answer, told), document)
        if as_json:
            print_json(document)
            return
    tell(told)


def _check_together(given: dict[str, Any], *, around: bool, as_json: bool) -> None:
    """Refuse options that do not go together."""
    if around and not as_json:
        raise click.UsageError("--around adds to --json: give both, or --report, which has it")
    if given["by"] is not None and given["trace"] is None:
        raise click.UsageError("--by cuts a trace into windows of the clock: give --trace")
    only = [one.option for one in ask.ONLY_SIMULATED if given[one.key] != one.default]
    if only and given["method"] in ("gaussian", "mean-field"):
        raise click.UsageError(f"{only[0]} is known to the simulator only: use --method simulated")


def _following(answer: RatioAnswer) -> str:
    """Return the command that plays the answer."""
    more = ["--attention-workers", f"{answer.recommendation.optimal_attention_workers}"]
    same = (*ask.WORKLOAD, *ask.LATENCY_CHOICE, *ask.SLOTS, *ask.MODE)
    given = click.get_current_context().params
    for one, option in ((ask.PLACEMENT, "--policy"), (ask.PLACEMENT_WINDOW, None)):
        if given[one.key] != one.default:
            more += [option or one.option, f"{given[one.key]}"]
    return command_with("simulate", same, *more)


def _inputs(given: dict[str, Any], answer: RatioAnswer) -> dict[str, Any]:
    """Return what was asked, with every default resolved."""
    question, found = answer.question, answer.recommendation
    problem = question.problem
    return {
        **workload_inputs(given, question.workload),
        **latency_inputs(given, problem.latency),
        **values_of(problem, (ask.BATCH_SIZE, *ask.PROBLEM)),
        "method": problem.method if answer.played is None else "simulated",
        "placement": question.placement,
        **{one.key: given[one.key] for one in ask.PLAYED},
        "requests_per_attention_worker": found.bundle.requests_per_attention_worker,
        "max_attention_workers": found.curve[-1].attention_workers,
        "by": given["by"],
    }
