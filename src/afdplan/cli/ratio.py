"""For this batch size: how many attention workers per FFN worker, and what bottleneck?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import (
    batch_options,
    json_option,
    latency_options,
    resolve_batch_size,
    resolve_latency,
    resolve_workload,
    workload_options,
)
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

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel

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
@plot_option("the curve")
@around_option
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
    around: bool,
    report: str | None,
    as_json: bool,
    **latency_choice: Any,
) -> None:
    """Find the number of attention workers per bundle that yields the most tokens per cost."""
    size = resolve_batch_size(batch_size, requests_per_worker, microbatches, overlap)
    if around and not as_json:
        raise click.UsageError("--around adds to --json: give both, or --report, which has it")
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
    found = None
    if around or report is not None:
        from afdplan.planning.ratio_around import ratio_around

        def latency_of(batch_size: int) -> LatencyModel:
            choice = dict(latency_choice)
            return resolve_latency(choice, batch_size=batch_size, ffn_workers=ffn_workers).model

        with progress("other batches") as show:
            found = ratio_around(
                problem,
                answer.optimal_attention_workers,
                max_attention_workers=max_attention_workers,
                token_load=token_load,
                latency_of=latency_of,
                progress=show,
            )
    if plot is not None:
        from afdplan.plotting.ratio_figures import asked_figures

        bundle = answer.bundle
        pair = f"{bundle.attention_workers} attention : {bundle.ffn_workers} FFN"
        heading = f"{pair}, B = {size}, m = {bundle.microbatches}: {answer.bottleneck} binds"
        write_picture(plot, asked_figures(answer, problem, found), heading)
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
                document=answered,
                command_line=command_line(),
                workload=workload.report,
            )
            write_report(report, page)
        if as_json:
            click.echo(to_json(answered))
            return
    tell(told)
