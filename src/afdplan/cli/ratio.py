"""For this batch size: how many attention workers per FFN worker, and what bottleneck?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import (
    latency_inputs,
    latency_options,
    options,
    require_fit,
    resolve_batch_size,
    resolve_choice,
    resolve_workload,
    workload_options,
)
from afdplan.cli.project import ProjectCommand
from afdplan.cli.report import (
    around_option,
    command_with,
    documented,
    json_option,
    plot_option,
    progress,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.model import parameters as ask
from afdplan.model.parameter import values_of

if TYPE_CHECKING:
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel
    from afdplan.plotting.figure import Figure
    from afdplan.report.page import Section

__all__ = ["command"]

METHOD = ask.METHOD.changed(
    choices=(*ask.METHOD.choices, "simulated"),
    help="The barrier: exact law, normal approximation, none, or a few ratios played.",
)
CERTAINTY = ("Token load", "Latency model")
SIMULATED = (ask.PLACEMENT_WINDOW, ask.KV_CAPACITY, ask.MEMORY, ask.FFN_TOKENS, ask.SEED)
"""What only the simulator knows."""

EXAMPLES = """\b
Examples:
  afdplan ratio --trace requests.csv --latency model.toml --batch-size 256
  afdplan ratio --prompt geometric:100 --decode geometric:500 \\
      --latency deepseek-v3-ascend-910c --batch-size 256
"""


@click.command("ratio", cls=ProjectCommand, epilog=EXAMPLES)
@workload_options
@latency_options
@options(*ask.SLOTS, METHOD, *ask.RATIO[1:], *SIMULATED, ask.BY)
@plot_option("the curve")
@around_option
@report_option
@json_option
def command(
    plot: str | None, around: bool, report: str | None, as_json: bool, **given: Any
) -> None:
    """Find the number of attention workers per bundle that yields the most tokens per cost."""
    size = resolve_batch_size(given)
    if around and not as_json:
        raise click.UsageError("--around adds to --json: give both, or --report, which has it")
    choice, workers = resolve_choice(given), given["ffn_workers"]
    model = choice.resolve(batch_size=size, ffn_workers=workers, with_errors=True)
    workload = resolve_workload(given)
    if given["by"] is not None and workload.trace is None:
        raise click.UsageError("--by cuts a trace into windows of the clock: give --trace")
    most_requests = require_fit(choice, workload.law, size, given)
    from afdplan.report.ratio import ratio_answer, ratio_told
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.recommend import recommend

    asked = {one.field: given[one.key] for one in ask.PROBLEM}
    is_played = _is_played(given, model)
    if is_played:
        asked |= {"method": ask.METHOD.default, "placement": ask.PLACEMENT.default}
    problem = RatioProblem(law=workload.law, latency=model, batch_size=size, **asked)
    most = given["max_attention_workers"]
    load = workload.token_load
    blind = problem
    if problem.placement != ask.PLACEMENT.default:
        blind = replace(problem, placement=ask.PLACEMENT.default)
    without = recommend(blind, max_attention_workers=most, token_load=load)
    objectives: dict[int, Estimate] | None = None
    answer, gain, play, runs = without, None, None, {}
    if is_played:
        from afdplan.planning.simulated_ratio import simulate_ratio, simulated_scenario

        changes = {one.field: given[one.key] for one in (ask.PLACEMENT, *SIMULATED)}
        play = partial(simulated_scenario, **changes)
        with progress("ratios") as show:
            played = simulate_ratio(
                problem,
                without,
                play,
                max_attention_workers=most,
                progress=show,
            )
        answer, objectives, runs = played.recommendation, played.objectives, played.runs
        gain = played.gain if problem.execution == "synchronous" else None
    else:
        from afdplan.planning.placement_gain import placement_gain

        if problem is not blind:
            answer = recommend(problem, max_attention_workers=most, token_load=load)
        policy = problem.placement if problem is not blind else "longest-prompt"
        here = without.optimal_attention_workers
        gain = placement_gain(blind, here, policy, max_attention_workers=most)
    warnings = [*workload.warnings, *answer.warnings]
    found = None
    if around or report is not None:
        from afdplan.planning.ratio_around import ratio_around

        def latency_of(batch_size: int) -> LatencyModel:
            return choice.resolve(batch_size=batch_size, ffn_workers=workers)

        with progress("other batches") as show:
            found = ratio_around(
                problem,
                answer.optimal_attention_workers,
                max_attention_workers=most,
                most_requests=most_requests,
                token_load=workload.token_load,
                latency_of=latency_of,
                play=play,
                runs=runs,
                progress=show,
            )
        if gain is not None and not is_played:
            from afdplan.planning.simulated_ratio import recovered

            here = gain.blind_attention_workers
            gain = replace(gain, recovered=recovered(blind, here, gain.placement))
    day = None
    if given["by"] is not None and workload.trace is not None:
        from afdplan.studies.day import ratio_day

        with progress("windows") as show:
            day = ratio_day(
                problem,
                workload.trace,
                given["by"],
                max_attention_workers=most,
                play=play,
                progress=show,
            )
    told = ratio_told(answer, problem, warnings, workload.trace)
    if is_played:  # how sure the formulas are of theirs is no word about it
        told = replace(told, words=tuple(w for w in told.words if w.name not in CERTAINTY))
    if gain is not None:
        from afdplan.report.placement import gain_fact, with_gain

        is_used = gain.placement == given["placement"]
        told = replace(
            told,
            words=(*told.words, gain_fact(gain, model.time_unit, is_used=is_used)),
            brief=with_gain(told.brief, gain, is_used=is_used),
        )
    from afdplan.planning.effect_costs import effect_costs
    from afdplan.report.effects import effect_answer, with_effects

    effects = effect_costs(
        problem,
        answer.optimal_attention_workers,
        derived=choice.placement(batch_size=size, ffn_workers=workers)
        if choice.is_derived
        else None,
        max_attention_workers=most,
    )
    told = with_effects(told, effects)
    same = (*ask.WORKLOAD, *ask.LATENCY_CHOICE, *ask.SLOTS, *ask.MODE)
    more = ["--attention-workers", f"{answer.optimal_attention_workers}"]
    if given["placement"] != ask.PLACEMENT.default:
        more += ["--policy", given["placement"]]
    if given["placement_window"] != ask.PLACEMENT_WINDOW.default:
        more += [ask.PLACEMENT_WINDOW.option, f"{given['placement_window']}"]
    told = replace(told, following=command_with("simulate", same, *more))
    figures: list[Figure] = []
    sections: list[Section] = []
    if day is not None:
        from afdplan.report.ratio_day import (
            day_answer,
            day_fact,
            day_figure,
            day_section,
            day_table,
        )

        figures, sections = [day_figure(day)], [day_section(day)]
        told = replace(
            told,
            words=(day_fact(day), *told.words),
            tables=(day_table(day), *told.tables),
            brief=(day_fact(day), *told.brief),
            choice=day_table(day),
        )
    if plot is not None:
        from afdplan.plotting.ratio_figures import NAMES, asked_figures

        bundle = answer.bundle
        pair = f"{bundle.attention_workers} attention : {bundle.ffn_workers} FFN"
        heading = f"{pair}, B = {size}, m = {bundle.microbatches}: {NAMES[answer.bottleneck]} binds"
        write_picture(plot, [*figures, *asked_figures(answer, problem, found, objectives)], heading)
    if as_json or report is not None:
        from afdplan.report.document import to_json
        from afdplan.report.placement import gain_answer, objectives_answer

        inputs = {
            **workload.inputs,
            **latency_inputs(given, model),
            **values_of(problem, (ask.BATCH_SIZE, *ask.PROBLEM)),
            "method": "simulated" if is_played else problem.method,
            "placement": given["placement"],
            **{one.key: given[one.key] for one in SIMULATED},
            "requests_per_attention_worker": answer.bundle.requests_per_attention_worker,
            "max_attention_workers": answer.curve[-1].attention_workers,
            "by": given["by"],
        }
        answered = documented(
            time_unit=model.time_unit,
            inputs=inputs,
            warnings=warnings,
            answer=ratio_answer(answer),
        )
        answered["placement_gain"] = gain_answer(gain)
        answered["effects"] = effect_answer(effects)
        if is_played:
            answered["objectives"] = objectives_answer(played)
        if day is not None:
            answered["day"] = day_answer(day)
        if found is not None:
            from afdplan.report.around import ratio_around_answer

            answered["around"] = ratio_around_answer(found)
        if report is not None and found is not None:
            from afdplan.report.page_ratio import ratio_page

            page = ratio_page(
                told,
                answer,
                problem,
                found,
                workload=workload.report,
                over_clock=sections,
            )
            write_report(report, page, answered)
        if as_json:
            click.echo(to_json(answered))
            return
    tell(told)


def _is_played(given: dict[str, Any], model: LatencyModel) -> bool:
    """Say whether the answer is played: asked for, or nothing else knows what is asked."""
    from afdplan.theory.problem import unknown_placement

    only = [one for one in SIMULATED[:-1] if given[one.key] != one.default]
    microbatches = 1 if given["overlap"] == "ideal" else given["microbatches"]
    unknown = unknown_placement(given["placement"], model, microbatches, given["execution"])
    if given["method"] in ("gaussian", "mean-field"):
        if only:
            raise click.UsageError(
                f"{only[0].option} is known to the simulator only: use --method simulated"
            )
        return False
    return given["method"] == "simulated" or bool(only) or unknown is not None
