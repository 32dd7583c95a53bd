"""What would such a bundle really do, step by step?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
from afdplan.cli.quantity import parse_model_rate
from afdplan.cli.report import (
    command_line,
    progress,
    report_option,
    tell,
    write_picture,
    write_report,
)

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel
    from afdplan.report.page import Page
    from afdplan.report.telling import Telling
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.scenario import Scenario

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan simulate --prompt geometric:100 --decode geometric:500 \\
      --latency deepseek-v3-ascend-910c --batch-size 256 --attention-workers 1,2,4,8,16
  afdplan simulate --trace requests.csv --latency model.toml --batch-size 64 \\
      --attention-workers 8 --arrivals trace --kv-capacity 400000 --memory preempt
  afdplan simulate ... --attention-workers 4 --timeline pipeline.json   (ui.perfetto.dev)
"""


def _counts(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected integers such as 8 or 1,2,4,8, got {text!r}") from None
    if len(set(counts)) < len(counts):
        raise click.BadParameter(f"every number is simulated once, got {text!r}")
    return counts


def _fraction(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        raise click.BadParameter(f"expected a share such as 0.5% or 0.005, got {text!r}") from None
    if not 0 < number < 1:
        raise click.BadParameter(f"expected a share between 0 and 100 %, got {text!r}")
    return number


def _simulation_options(function: Any) -> Any:
    options = [
        click.option(
            "--attention-workers",
            metavar="A[,A...]",
            callback=_counts,
            required=True,
            help="A of one bundle; a list sweeps.",
        ),
        click.option(
            "--requests",
            type=int,
            metavar="N",
            default=10_000,
            show_default=True,
            help="Finished requests to wait for, per attention worker.",
        ),
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Of all that is random."
        ),
        click.option(
            "--start",
            type=click.Choice(["stationary", "fresh"]),
            help="Slots as an observer finds them (default), or all requests begin at time zero.",
        ),
        click.option(
            "--window",
            type=click.Choice(["steady", "all", "first-80"]),
            default="steady",
            show_default=True,
            help="Leave the warm-up out, keep all, or the first 80 % of completions.",
        ),
        click.option(
            "--order",
            type=click.Choice(["random", "trace"]),
            help="Draw requests of a trace independently (default when saturated), or replay them.",
        ),
        click.option(
            "--arrivals",
            type=click.Choice(["saturated", "trace", "poisson", "gamma"]),
            default="saturated",
            show_default=True,
            help="When requests come; gamma gaps need --arrival-cv.",
        ),
        click.option(
            "--rate",
            metavar="R",
            help="Mean arrivals, scales a trace's: 20/s, 900/min; per time unit if abstract: 0.01.",
        ),
        click.option(
            "--arrival-cv", type=float, default=1.0, metavar="CV", help="Of the gaps of gamma."
        ),
        click.option(
            "--policy",
            type=click.Choice(["round-robin", "least-requests", "least-tokens", "longest-prompt"]),
            default="round-robin",
            show_default=True,
            help="Which free slot an admitted request gets.",
        ),
        click.option(
            "--kv-capacity", type=int, metavar="TOKENS", help="KV memory of one attention worker."
        ),
        click.option(
            "--memory",
            type=click.Choice(["reserve", "preempt"]),
            default="reserve",
            show_default=True,
            help="Admit when the largest size fits, or the present one (and preempt).",
        ),
        click.option(
            "--ffn-tokens",
            type=click.Choice(["padded", "active"]),
            default="padded",
            show_default=True,
            help="Whether FFN and transfers work on empty slots too.",
        ),
        click.option(
            "--variation",
            metavar="CVS",
            help="Scatter of service times: attention=0.1,send=0,ffn=0.1,receive=0.",
        ),
        click.option(
            "--expert-imbalance",
            metavar="X[,CV]",
            help="Mean factor (>= 1) on the FFN time, and how it scatters beyond 1.",
        ),
        click.option(
            "--replications", type=int, metavar="R", help="Independent runs; by default as needed."
        ),
        click.option(
            "--precision",
            metavar="SHARE",
            callback=_fraction,
            help="Run until the throughput's interval is this narrow (half-width), e.g. 0.5%.",
        ),
        click.option(
            "--p99-precision",
            metavar="SHARE",
            callback=_fraction,
            help="The same for the 99th percentile of the step time.",
        ),
        click.option(
            "--confidence", type=float, default=0.95, show_default=True, help="Of all intervals."
        ),
        click.option(
            "--timeline", metavar="FILE", help="Pipeline as .json (Perfetto), .svg, .png."
        ),
        click.option("--per-request", metavar="FILE", help="Row per request: .csv or .parquet."),
        click.option("--per-step", metavar="FILE", help="Row per step: .csv or .parquet."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command("simulate", epilog=EXAMPLES)
@workload_options
@latency_options
@batch_options
@_simulation_options
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
    attention_workers: list[int],
    as_json: bool,
    timeline: str | None,
    per_request: str | None,
    per_step: str | None,
    report: str | None,
    **options: Any,
) -> None:
    """Play a bundle step by step: throughput, cycle and step times, idle time, waiting.

    Random lengths, slots that are refilled, KV caches that grow, a barrier that waits for the
    slowest worker. Every mean comes with an interval.
    """
    size = resolve_batch_size(batch_size, requests_per_worker, microbatches, overlap)
    logs = (("--timeline", timeline), ("--per-request", per_request), ("--per-step", per_step))
    for name, path in logs:
        if path is not None and len(attention_workers) > 1:
            raise click.UsageError(f"{name} shows one bundle: give one --attention-workers")
    if timeline is not None and not timeline.lower().endswith((".json", ".svg", ".png")):
        raise click.UsageError(f"--timeline must end in .json, .svg or .png, got {timeline!r}")
    for _, path in logs:
        if path is not None:
            from afdplan.files.atomic import check_folder

            check_folder(path)
    latency = resolve_latency(options, batch_size=size, ffn_workers=ffn_workers)
    model = latency.model
    if options["rate"] is not None:
        options["rate"] = parse_model_rate("--rate", options["rate"], model.time_unit)
    workload = resolve_workload(trace, trace_format, columns, prompt, decode)

    def scenario_of(count: int) -> Scenario:
        from afdplan.model.bundle import Bundle

        bundle = Bundle(
            attention_workers=count,
            ffn_workers=ffn_workers,
            batch_size=size,
            microbatches=microbatches,
        )
        return _scenario(bundle, model, workload, overlap, options)

    scenarios = [scenario_of(count) for count in attention_workers]
    results: list[SimulationResult] = []
    with _tables(per_request, per_step) as (on_requests, on_steps), progress("simulating") as show:
        from afdplan.simulation.run import simulate

        for k, scenario in enumerate(scenarios):
            results.append(
                simulate(
                    scenario,
                    progress=lambda done, k=k: show((k + done) / len(scenarios)),  # type: ignore[misc]
                    on_requests=on_requests,
                    on_steps=on_steps,
                )
            )
    if timeline is not None:
        _write_timeline(timeline, results[0])
    inputs = {**workload.inputs, **latency.inputs}
    from afdplan.report.simulate import simulation_document, simulation_told

    told = simulation_told(results, f"{workload.law.name}; {model.name}", workload.warnings)
    if as_json or report is not None:
        from afdplan.report.document import to_json

        answered = simulation_document(
            results, inputs, attention_workers, options, workload.warnings
        )
        if report is not None:
            write_report(report, _page(told, results, workload, answered))
        if as_json:
            click.echo(to_json(answered))
            return
    tell(told)


def _scenario(
    bundle: Any, model: LatencyModel, workload: Workload, overlap: Any, options: dict[str, Any]
) -> Scenario:
    """Return the scenario that the options describe."""
    from afdplan.simulation.scenario import Arrivals, Scenario, Variation

    arrivals = None
    if options["arrivals"] != "saturated":
        arrivals = Arrivals(
            process=options["arrivals"], rate=options["rate"], cv=options["arrival_cv"]
        )
    elif options["rate"] is not None:
        raise click.UsageError("--rate needs --arrivals trace, poisson or gamma")
    order = options["order"] or ("trace" if arrivals else "random")
    if options["order"] == "trace" and workload.trace is None:
        raise click.UsageError("--order trace needs a --trace to replay")
    replay = order == "trace" and workload.trace is not None
    factors = _numbers("--variation", options["variation"], ("attention", "send", "ffn", "receive"))
    if options["expert_imbalance"] is not None:
        mean, _, cv = options["expert_imbalance"].partition(",")
        factors |= {"expert_imbalance": _number("--expert-imbalance", mean)}
        factors |= {"expert_imbalance_cv": _number("--expert-imbalance", cv or "0")}
    start: Any = options["start"] or ("fresh" if arrivals else "stationary")
    return Scenario(
        bundle=bundle,
        latency=model,
        lengths=workload.trace if replay and workload.trace is not None else workload.law,
        requests_per_worker=options["requests"],
        seed=options["seed"],
        overlap=overlap,
        start=start,
        window=options["window"],
        arrivals=arrivals,
        placement=options["policy"],
        kv_capacity=options["kv_capacity"],
        memory=options["memory"],
        ffn_tokens=options["ffn_tokens"],
        variation=Variation(**factors),
        replications=options["replications"],
        precision=options["precision"],
        p99_precision=options["p99_precision"],
        confidence=options["confidence"],
    )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{name} expects numbers, got {text!r}") from None


def _numbers(name: str, text: str | None, known: tuple[str, ...]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals or key.strip() not in known:
            raise click.UsageError(f"{name} expects {'=..,'.join(known)}=.., got {part!r}")
        numbers[key.strip()] = _number(name, value)
    return numbers


@contextlib.contextmanager
def _tables(per_request: str | None, per_step: str | None) -> Iterator[tuple[Any, Any]]:
    """Yield the sinks of both logs; their files appear when all went well."""
    from afdplan.files.results.table import TableWriter
    from afdplan.simulation.record import REQUEST_COLUMNS, STEP_COLUMNS

    with contextlib.ExitStack() as stack:
        sinks: list[Any] = [None, None]
        if per_request is not None:
            times = {"arrival_time", "start_time", "end_time"}
            sinks[0] = stack.enter_context(
                TableWriter(
                    per_request,
                    REQUEST_COLUMNS,
                    whole_columns=[name for name in REQUEST_COLUMNS if name not in times],
                    missing_columns=["start_time"],
                )
            ).write
        if per_step is not None:
            whole = ("step", "microbatch", "active_requests", "queued_requests")
            sinks[1] = stack.enter_context(
                TableWriter(per_step, STEP_COLUMNS, whole_columns=whole)
            ).write
        yield sinks[0], sinks[1]


def _write_timeline(path: str, result: SimulationResult) -> None:
    from afdplan.files.atomic import write_atomic
    from afdplan.simulation.timeline import record_timeline

    timeline = record_timeline(result.scenario)
    if path.lower().endswith(".json"):
        from afdplan.files.results.timeline import chrome_trace

        spans = (
            (
                span.stage,
                f"worker {span.worker + 1}",
                f"microbatch {span.microbatch + 1}",
                span.start,
                span.end,
                {"step": span.step, "layer": span.layer},
            )
            for span in timeline.spans
        )
        seconds = result.scenario.latency.time_unit == "s"
        write_atomic(path, chrome_trace(spans, microseconds=1e6 if seconds else 1.0))
        return
    from afdplan.plotting.pipeline_figure import pipeline_figure

    write_picture(path, [pipeline_figure(timeline)], result.title)


def _page(
    told: Telling, results: list[SimulationResult], workload: Workload, answered: dict[str, Any]
) -> Page:
    """Compute what the page shows around the results: a timeline, drift, the theory's curve."""
    from afdplan.planning.theory_curve import theory_curve
    from afdplan.report.page_simulate import simulation_page
    from afdplan.simulation.timeline import record_timeline

    best = max(results, key=lambda result: result.throughput_per_instance.value)
    counts = [result.scenario.bundle.attention_workers for result in results]
    return simulation_page(
        told,
        results,
        record_timeline(best.scenario, steps=3),
        workload.law,
        theory=theory_curve(best.scenario, workload.law, counts),
        document=answered,
        command_line=command_line(),
        workload=workload.report,
    )
