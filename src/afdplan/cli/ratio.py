"""For this batch size: how many attention workers per FFN worker, and what bottleneck?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import (
    Workload,
    batch_options,
    json_option,
    latency_options,
    resolve_batch_size,
    resolve_latency,
    resolve_workload,
    workload_options,
)
from afdplan.cli.report import command_line, report_option, tell, tracked, write_report

if TYPE_CHECKING:
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel
    from afdplan.report.page import Page
    from afdplan.report.telling import Telling
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.ratio import RatioRecommendation

__all__ = ["command"]


EXAMPLES = """\b
Examples:
  afdplan ratio --trace requests.csv --latency model.toml --batch-size 256
  afdplan ratio --prompt geometric:100 --decode geometric:500 \\
      --latency deepseek-v3-ascend-910c --batch-size 256
"""


@click.command("ratio", epilog=EXAMPLES)
@workload_options
@latency_options
@batch_options
@click.option(
    "--method",
    type=click.Choice(["exact", "gaussian", "mean-field"]),
    default="exact",
    show_default=True,
    help="The barrier: exact law, normal approximation, or none.",
)
@click.option(
    "--ffn-weight",
    type=float,
    metavar="W",
    help="Cost of an FFN worker over that of an attention worker; by default 1, or by devices.",
)
@click.option(
    "--max-attention-workers",
    type=int,
    metavar="R",
    help="Largest number considered; by default 64 per FFN worker, more where needed.",
)
@click.option(
    "--horizon",
    type=int,
    metavar="N",
    help="Average over N requests per worker from a fresh start (needs --method mean-field).",
)
@click.option(
    "--phase",
    type=click.Choice(["random", "aligned"]),
    default="random",
    show_default=True,
    help="Ages of requests that are all alike: random, or one age as in fixed-length benchmarks.",
)
@click.option("--plot", metavar="FILE", help="Draw the curve to a .png or .svg file.")
@report_option
@json_option
def command(
    trace: str | None,
    trace_format: str | None,
    columns: str | None,
    prompt: str | None,
    decode: str | None,
    batch_size: int | None,
    requests_per_worker: int | None,
    microbatches: int,
    overlap: Any,
    ffn_workers: int,
    method: Any,
    ffn_weight: float | None,
    max_attention_workers: int | None,
    horizon: int | None,
    phase: Any,
    plot: str | None,
    report: str | None,
    as_json: bool,
    **latency_choice: Any,
) -> None:
    """Find the number of attention workers per bundle that yields the most tokens per cost."""
    size = resolve_batch_size(batch_size, requests_per_worker, microbatches, overlap)
    if plot is not None:
        from afdplan.plotting.picture import check_picture_name

        check_picture_name(plot)
    latency = resolve_latency(dict(latency_choice), batch_size=size, ffn_workers=ffn_workers)
    model = latency.model
    workload = resolve_workload(trace, trace_format, columns, prompt, decode)
    token_load = workload.token_load
    from afdplan.report.ratio import ratio_answer, ratio_told
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.recommend import recommend_ratio

    weight = latency.ffn_weight if ffn_weight is None else ffn_weight
    answer = recommend_ratio(
        workload.law,
        model,
        batch_size=size,
        ffn_workers=ffn_workers,
        microbatches=microbatches,
        overlap=overlap,
        method=method,
        phase=phase,
        ffn_weight=weight,
        max_attention_workers=max_attention_workers,
        horizon=horizon,
        token_load=token_load,
    )
    warnings = [*workload.warnings, *answer.warnings]
    if plot is not None:
        from afdplan.files.atomic import write_atomic
        from afdplan.plotting.picture import picture_bytes
        from afdplan.plotting.ratio import draw_ratio

        kind = check_picture_name(plot)
        write_atomic(plot, picture_bytes(draw_ratio(answer, model.time_unit), kind))
    problem = RatioProblem(
        law=workload.law,
        latency=model,
        batch_size=size,
        ffn_workers=ffn_workers,
        microbatches=microbatches,
        overlap=overlap,
        method=method,
        phase=phase,
        ffn_weight=weight,
        horizon=horizon,
    )
    told = ratio_told(answer, problem, warnings, workload.trace)
    if as_json or report is not None:
        from afdplan.report.document import document, to_json

        inputs = {
            **workload.inputs,
            **latency.inputs,
            "batch_size": size,
            "requests_per_attention_worker": answer.bundle.requests_per_attention_worker,
            "microbatches": microbatches,
            "overlap": overlap,
            "ffn_workers": ffn_workers,
            "method": method,
            "phase": phase,
            "ffn_weight": weight,
            "max_attention_workers": answer.curve[-1].attention_workers,
            "horizon": horizon,
        }
        answered = document(
            time_unit=model.time_unit,
            inputs=inputs,
            warnings=warnings,
            answer=ratio_answer(answer),
        )
        if report is not None:

            def latency_of(batch_size: int) -> LatencyModel:
                choice = dict(latency_choice)
                return resolve_latency(choice, batch_size=batch_size, ffn_workers=ffn_workers).model

            page = _page(
                told,
                answer,
                problem,
                workload,
                answered,
                token_load,
                latency_of,
                max_attention_workers,
            )
            write_report(report, page)
        if as_json:
            click.echo(to_json(answered))
            return
    tell(told)


def _page(
    told: Telling,
    answer: RatioRecommendation,
    problem: RatioProblem,
    workload: Workload,
    answered: dict[str, Any],
    token_load: Estimate | None,
    latency_of: Callable[[int], LatencyModel],
    most: int | None,
) -> Page:
    """Compute what the page shows around the answer, with at most `most` attention workers."""
    from afdplan.planning.played import play_bundles
    from afdplan.planning.ratio_grid import grid_size, ratio_grid
    from afdplan.planning.ratio_sensitivity import curve_bands, ratio_sensitivity
    from afdplan.report.page_ratio import ratio_page

    grid = ratio_grid(problem, max_attention_workers=most, latency_of=latency_of)
    cases = list(tracked(grid, grid_size(problem), "other batches"))
    asked = next(
        case
        for case in cases
        if (case.batch_size, case.microbatches) == (problem.batch_size, problem.microbatches)
    )
    workers = tuple(point.attention_workers for point in asked.points)
    best = answer.optimal_attention_workers
    drift = None
    if workload.report is not None:
        from afdplan.plotting.workload_figures import drift_figure

        drift = drift_figure(workload.report.drift, workload.report.token_load)
    return ratio_page(
        told,
        answer,
        problem,
        cases,
        bands=curve_bands(problem, workers, token_load),
        sensitivities=ratio_sensitivity(problem, best, most),
        document=answered,
        command_line=command_line(),
        played=play_bundles(problem, best, (max(best // 2, 1), 2 * best)),
        drift=drift,
    )
