"""What would such a bundle really do, step by step?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
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
from afdplan.cli.quantity import parse_model_rate
from afdplan.cli.report import (
    command_line,
    command_with,
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
from afdplan.model import plan_parameters as of_plan
from afdplan.model.parameter import Parameter

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel
    from afdplan.report.page import Page
    from afdplan.report.telling import Telling
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.scenario import Scenario
    from afdplan.workload.requests import Workload

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan simulate --prompt geometric:100 --decode geometric:500 \\
      --latency deepseek-v3-ascend-910c --batch-size 256 --attention-workers 1,2,4,8,16
  afdplan simulate --trace requests.csv --latency model.toml --batch-size 64 \\
      --attention-workers 8 --arrivals trace --kv-capacity 400000 --memory preempt
  afdplan simulate ... --attention-workers 4 --timeline pipeline.json   (ui.perfetto.dev)
"""


SIMULATION = (
    ask.ATTENTION_WORKERS.changed(
        typed="bundles", metavar="A[,A...]", help="A of one bundle; a list sweeps."
    ),
    ask.SIMULATED_REQUESTS,
    ask.SEED,
    ask.START.changed(default=None),
    ask.MEASURED,
    Parameter(
        name="order",
        data="text",
        choices=("random", "trace"),
        help="Draw requests of a trace independently (default when saturated), or replay them.",
    ),
    ask.ARRIVALS.changed(
        default="saturated",
        choices=("saturated", *ask.ARRIVALS.choices),
        help="When requests come; gamma gaps need --arrival-cv.",
    ),
    ask.ARRIVAL_RATE,
    ask.ARRIVAL_CV,
    ask.PLACEMENT.changed(option="--policy"),
    ask.PLACEMENT_WINDOW,
    ask.KV_CAPACITY,
    ask.MEMORY,
    ask.FFN_TOKENS,
    Parameter(
        name="variation",
        data="text",
        metavar="CVS",
        help="Scatter of service times: attention=0.1,send=0,ffn=0.1,receive=0.",
    ),
    ask.EXPERT_IMBALANCE.changed(
        data="text",
        default=None,
        metavar="X[,CV]",
        help="Mean factor (>= 1) on the FFN time, and how it scatters beyond 1.",
    ),
    ask.REPLICATIONS,
    ask.PRECISION,
    ask.P99_PRECISION,
    ask.CONFIDENCE,
    of_plan.DEVICE_MTBF,
)
_ASKED_OTHERWISE = (ask.START, ask.PLACEMENT)
LOGS = (
    Parameter(
        name="timeline",
        data="text",
        metavar="FILE",
        help="Pipeline as .json (Perfetto), .svg, .png.",
    ),
    Parameter(
        name="per_request", data="text", metavar="FILE", help="Row per request: .csv or .parquet."
    ),
    Parameter(name="per_step", data="text", metavar="FILE", help="Row per step: .csv or .parquet."),
)


@click.command("simulate", cls=ProjectCommand, epilog=EXAMPLES)
@workload_options
@latency_options
@options(*ask.SLOTS, *SIMULATION)
@options(of_plan.RESTART, fills=False)
@options(*ask.MODE, *LOGS)
@plot_option("throughput and idle causes")
@report_option
@json_option
def command(
    attention_workers: list[int],
    timeline: str | None,
    per_request: str | None,
    per_step: str | None,
    plot: str | None,
    report: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Play a bundle step by step: throughput, cycle and step times, idle time, waiting.

    Random lengths, slots that are refilled, KV caches that grow, a barrier that waits for the
    slowest worker. Every mean comes with an interval.
    """
    size = resolve_batch_size(given)
    _check_logs((timeline, per_request, per_step), attention_workers)
    choice = resolve_choice(given)
    model = choice.resolve(batch_size=size, ffn_workers=given["ffn_workers"])
    if given["rate"] is not None:
        given["rate"] = parse_model_rate("--rate", given["rate"], model.time_unit)
    workload = resolve_workload(given)
    if given["kv_capacity"] is None:  # else the simulator keeps to a memory itself
        from afdplan.planning.memory_limit import require_fit

        require_fit(choice, workload.law, size, given["ffn_workers"], given["microbatches"])
    scenarios = [_scenario(count, size, model, workload, given) for count in attention_workers]
    results = _played(scenarios, per_request, per_step)
    if timeline is not None:
        _write_timeline(timeline, results[0])
    if plot is not None:
        from afdplan.plotting.simulation_figures import simulation_figures

        write_picture(plot, simulation_figures(results), f"{workload.law.name}; {model.name}")
    inputs = {**workload_inputs(given, workload), **latency_inputs(given, model)}
    asked = {one.key: given[one.key] for one in (*SIMULATION[1:], of_plan.RESTART, *ask.MODE)}
    from afdplan.planning.theory_curve import step_time_by_draws
    from afdplan.report.simulate import simulation_document, simulation_told

    known = [step_time_by_draws(scenario, workload.law) for scenario in scenarios]
    told = simulation_told(results, f"{workload.law.name}; {model.name}", workload.warnings, known)
    same = (*ask.WORKLOAD, *ask.LATENCY_CHOICE, *ask.SLOTS)
    told = replace(told, following=command_with("ratio", same))
    if as_json or report is not None:
        answered = simulation_document(
            results, inputs, attention_workers, asked, workload.warnings, known
        )
        answered["command"] = command_line()
        if report is not None:
            write_report(report, _page(told, results, workload), answered)
        if as_json:
            print_json(answered)
            return
    tell(told)


def _check_logs(paths: tuple[str | None, ...], attention_workers: list[int]) -> None:
    """Refuse logs of several bundles, and names of files that could not be written."""
    for log, path in zip(LOGS, paths, strict=True):
        if path is not None and len(attention_workers) > 1:
            raise click.UsageError(f"{log.option} shows one bundle: give one --attention-workers")
    timeline = paths[0]
    if timeline is not None and not timeline.lower().endswith((".json", ".svg", ".png")):
        raise click.UsageError(f"--timeline must end in .json, .svg or .png, got {timeline!r}")
    for path in paths:
        if path is not None:
            from afdplan.files.atomic import check_folder

            check_folder(path)


def _played(
    scenarios: list[Scenario], per_request: str | None, per_step: str | None
) -> list[SimulationResult]:
    """Play bundles one after the other, each on all cores, with a bar and both logs."""
    from afdplan.processes import available_cores
    from afdplan.simulation.run import simulate

    results: list[SimulationResult] = []
    tables = _tables(per_request, per_step, scenarios[0].execution)
    with tables as (on_requests, on_steps), progress("simulating") as show:

        def show_share(k: int, done: float) -> None:
            show((k + done) / len(scenarios))

        for k, scenario in enumerate(scenarios):
            results.append(
                simulate(
                    scenario,
                    progress=partial(show_share, k),
                    on_requests=on_requests,
                    on_steps=on_steps,
                    threads=available_cores(),
                )
            )
    return results


def _scenario(
    attention_workers: int,
    batch_size: int,
    model: LatencyModel,
    workload: Workload,
    given: dict[str, Any],
) -> Scenario:
    """Return the scenario that the options describe."""
    from afdplan.model.bundle import Bundle
    from afdplan.simulation.scenario import Arrivals, Scenario, Variation

    arrivals = None
    if given["arrivals"] != "saturated":
        arrivals = Arrivals(process=given["arrivals"], rate=given["rate"], cv=given["arrival_cv"])
    elif given["rate"] is not None:
        raise click.UsageError("--rate needs --arrivals trace, poisson or gamma")
    order = given["order"] or ("trace" if arrivals else "random")
    if given["order"] == "trace" and workload.trace is None:
        raise click.UsageError("--order trace needs a --trace to replay")
    replay = order == "trace" and workload.trace is not None
    factors = _numbers("--variation", given["variation"], ("attention", "send", "ffn", "receive"))
    if given["expert_imbalance"] is not None:
        mean, _, cv = given["expert_imbalance"].partition(",")
        for one, text in ((ask.EXPERT_IMBALANCE, mean), (ask.SCATTER, cv or "0")):
            name = "--expert-imbalance"
            factors[one.key] = one.check(_number(name, text), name)
    mtbf, restart = (given[one.key] for one in (of_plan.DEVICE_MTBF, of_plan.RESTART))
    failures = None
    if mtbf is not None:
        from afdplan.model.failures import Failures

        failures = Failures(
            device_mtbf=mtbf, restart=of_plan.RESTART.default if restart is None else restart
        )
    elif restart is not None:
        raise click.UsageError("--restart is of failures: give --device-mtbf too")
    start: Any = given["start"] or ("fresh" if arrivals else "stationary")
    return Scenario(
        bundle=Bundle(
            attention_workers=attention_workers,
            ffn_workers=given["ffn_workers"],
            batch_size=batch_size,
            microbatches=given["microbatches"],
        ),
        latency=model,
        lengths=workload.trace if replay and workload.trace is not None else workload.law,
        overlap=given["overlap"],
        start=start,
        arrivals=arrivals,
        variation=Variation(**factors),
        failures=failures,
        placement=given["policy"],
        **{one.field: given[one.key] for one in ask.SCENARIO if one not in _ASKED_OTHERWISE},
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
def _tables(
    per_request: str | None, per_step: str | None, execution: str
) -> Iterator[tuple[Any, Any]]:
    """Yield the sinks of both logs; their files appear when all went well."""
    from afdplan.files.results.table import TableWriter
    from afdplan.simulation.record import (
        BARRIER_FREE_STEP_COLUMNS,
        REQUEST_COLUMNS,
        STEP_COLUMNS,
    )

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
            free = execution == "barrier-free"
            columns = BARRIER_FREE_STEP_COLUMNS if free else STEP_COLUMNS
            whole = ["step", "microbatch", "active_requests", "queued_requests"]
            whole += ["attention_worker"] * free
            sinks[1] = stack.enter_context(
                TableWriter(per_step, columns, whole_columns=whole)
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
                f"microbatch {span.microbatch + 1}" if span.calls == 1 else f"{span.calls} calls",
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


def _page(told: Telling, results: list[SimulationResult], workload: Workload) -> Page:
    """Compute what the page shows around the results: a timeline, drift, the theory's curve."""
    from afdplan.planning.theory_curve import theory_curve
    from afdplan.report.page_simulate import simulation_page
    from afdplan.simulation.result import best_of
    from afdplan.simulation.timeline import record_timeline

    best = best_of(results)
    counts = [result.scenario.bundle.attention_workers for result in results]
    return simulation_page(
        told,
        results,
        record_timeline(best.scenario, steps=3),
        workload.law,
        theory=theory_curve(best.scenario, workload.law, counts),
        workload=workload.report,
    )
