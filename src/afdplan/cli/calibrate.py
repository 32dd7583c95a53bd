"""How long do attention, FFN and transfer take here?"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.help import GroupedCommand
from afdplan.cli.report import (
    command_line,
    documented,
    json_option,
    plot_option,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.errors import InvalidInputError

if TYPE_CHECKING:
    from afdplan.model.latency import LatencyModel, TimeUnit
    from afdplan.model.measurement import Measurements
    from afdplan.model.sweep import RatioSweep
    from afdplan.plotting.figure import Figure
    from afdplan.report.page import Page
    from afdplan.report.telling import Telling

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan calibrate stages.csv --layers 61 -o model.toml --plot residuals.png
  afdplan calibrate stages.csv --form ffn=roofline --window ffn=64..4096
  afdplan calibrate sweep.csv --sweep --batch-size 48 --layers 94 --context 8192 -o model.toml
  afdplan calibrate steps.jsonl --attention-workers 28 --ffn-workers 4 --layers 94 -o model.toml
  afdplan calibrate attention.json.gz --role attention --load 393216 --to-table stages.csv
  afdplan calibrate metrics.prom --to-trace lengths.csv
  afdplan calibrate server.log --format expert-load --prior model.toml -o uneven.toml
"""
_FORMS = ("auto", "linear", "per-request", "roofline", "table")


@click.command("calibrate", cls=GroupedCommand, epilog=EXAMPLES)
@click.argument("data", nargs=-1, required=True, metavar="DATA...")
@click.option("-o", "--output", metavar="FILE", help="Write the latency model (TOML, or .json).")
@click.option("--name", help="Name of the model; by default that of the first file.")
@click.option("--format", "format_name", metavar="NAME", help="Force a format of DATA.")
@click.option(
    "--stage",
    type=click.Choice(["prefill"]),
    help="Fit a prefill worker: a CSV of prompts with columns tokens, latency and maybe cached.",
)
@click.option("--time-unit", metavar="UNIT", help="Of a table's times: s, ms, us, ns, abstract.")
@click.option(
    "--form", "forms", multiple=True, metavar="[STAGE=]FORM", help=f"{', '.join(_FORMS)}."
)
@click.option(
    "--window", "windows", multiple=True, metavar="[STAGE=]LOW..HIGH", help="Loads to fit [tokens]."
)
@click.option("--layers", type=int, default=1, show_default=True, help="Layers per step.")
@click.option("--step-overhead", type=float, default=0.0, help="Time per step outside the layers.")
@click.option("--tokens-per-step", type=float, default=1.0, help="Above 1 with MTP.")
@click.option(
    "--transfer-load",
    type=click.Choice(["worker", "aggregate"]),
    default="worker",
    show_default=True,
    help="Whose tokens the loads of transfers count: one attention worker's or all of a bundle.",
)
@click.option("--prior", metavar="NAME|FILE", help="Model that lends what was not measured.")
@click.option("--sweep", is_flag=True, help="DATA are step times or throughputs over ratios.")
@click.option("--batch-size", type=float, metavar="B", help="Sweep: per worker and microbatch.")
@click.option("--microbatches", type=int, help="In flight; by default 2, in a profiler trace 1.")
@click.option(
    "--context", type=float, metavar="N", help="Sweep, step logs: mean KV tokens per request."
)
@click.option(
    "--attention-workers", type=float, multiple=True, metavar="A", help="Step logs: one per file."
)
@click.option(
    "--ffn-workers", type=float, multiple=True, metavar="F", help="F; step logs: one per file."
)
@click.option(
    "--maximum", type=click.Choice(["hard", "soft"]), default="hard", help="How limits meet."
)
@click.option("--noise", type=float, default=0.01, help="Sweep: relative error of a step time.")
@click.option(
    "--transfer-time", type=float, help="Sweep: there and back, per layer [s]; fitted by default."
)
@click.option(
    "--role", type=click.Choice(["attention", "ffn"]), help="Profiler trace: whose it is."
)
@click.option(
    "--rank", metavar="NAME", help="Log of several ranks: DP0, 'DP0 TP0' or 0; by default all."
)
@click.option("--load", type=float, help="Profiler trace, StepMesh: load of a microbatch [tokens].")
@click.option("--requests", type=float, help="Profiler trace: requests of a microbatch.")
@click.option("--peers", type=int, default=1, help="Profiler trace: transfers per microbatch.")
@plot_option("fit and residuals")
@click.option("--to-table", metavar="FILE", help="Write what was read as a table, fit nothing.")
@click.option(
    "--to-trace",
    metavar="FILE",
    help="Write the lengths of a Prometheus snapshot, or between two, as a trace.",
)
@report_option
@json_option
def command(data: tuple[str, ...], **options: Any) -> None:
    """Fit a latency model to measurements, serving logs or a sweep over ratios.

    DATA is a table with columns stage, load, latency and maybe requests (CSV, JSON lines,
    Parquet), a log of FastAFD, SGLang or StepMesh, a torch profiler trace of the vLLM AFD plugin,
    counts of experts' choices or a log of their balance (vLLM, SGLang, Ascend), or with --sweep a
    table of ratios with step times or throughputs.
    """
    from afdplan.model.checks import check_count, check_number

    check_count("layers", options["layers"], 1, 10_000)
    if options["microbatches"] is not None:
        check_count("microbatches", options["microbatches"], 1, 8)
    check_count("peers", options["peers"])
    for name in ("batch_size", "context", "load", "requests", "noise"):
        if options[name] is not None:
            check_number(name, options[name], strict=True)
    for name in ("step_overhead", "transfer_time"):
        if options[name] is not None:
            check_number(name, options[name])
    if options["stage"] == "prefill":
        from afdplan.cli.calibrate_prefill import calibrate_prefill

        calibrate_prefill(data, options)
        return
    if options["to_trace"]:
        _write_trace(data, options)
        return
    prior = None
    if options["prior"]:
        from afdplan.files.latency_file import load_latency

        prior = load_latency(options["prior"])
    if not options["sweep"] and _kind(data[0], options["format_name"]) == "expert-load":
        from afdplan.cli.calibrate_experts import calibrate_experts

        asked = {name: options[name] for name in ("output", "as_json")}
        calibrate_experts(data, prior, _inputs(data, options), **asked)
        return
    points = None
    if options["sweep"]:
        points = _read_sweep(data, options)
    else:
        parts = _read_parts(data, options)
        if options["to_table"]:
            _write_table(parts, data, options)
            return
        if all(s.stage == "step" for part in parts for s in part.stages):
            points = _step_points(parts, options)
    name = options["name"] or Path(data[0]).name.split(".")[0]
    from rich.console import Console

    with Console(stderr=True).status("fitting"):
        result = (
            _fit_stages(parts, name, prior, options)
            if points is None
            else _fit_points(points, name, prior, options)
        )
    _deliver(result, data, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """A calibrated model, and how to tell and draw it; `page` takes document and command."""

    model: LatencyModel
    told: Telling
    answer: dict[str, Any]
    figures: Callable[[], tuple[Figure, ...]]
    page: Callable[..., Page]


def _kind(path: str, format_name: str | None) -> str | None:
    """Return the format of a file; None of a pipe, which can be read only once."""
    from afdplan.files.measurements.reader import recognise_measurements

    if format_name or not Path(path).is_file():
        return format_name
    return recognise_measurements(path)


def _read_parts(data: Sequence[str], options: dict[str, Any]) -> list[Measurements]:
    from rich.console import Console
    from rich.text import Text

    from afdplan.files.measurements.reader import read_measurements
    from afdplan.report.quantities import plain

    parts = []
    console = Console(stderr=True)
    for path in data:
        with console.status(Text(plain(f"reading {Path(path).name}"))):
            parts.append(
                read_measurements(
                    path,
                    format_name=options["format_name"],
                    time_unit=options["time_unit"],
                    role=options["role"],
                    load=options["load"],
                    requests=options["requests"],
                    microbatches=options["microbatches"],
                    peers=options["peers"],
                    rank=options["rank"],
                    layers=options["layers"],
                )
            )
    return parts


def _read_sweep(data: Sequence[str], options: dict[str, Any]) -> RatioSweep:
    from afdplan.calibration.gather import join_sweeps
    from afdplan.files.measurements.table import read_ratio_sweep

    workers = options["ffn_workers"]
    return join_sweeps(
        [
            read_ratio_sweep(
                path,
                time_unit=options["time_unit"],
                ffn_workers=workers[0] if workers else 1.0,
                batch_size=options["batch_size"],
                microbatches=options["microbatches"] or 2,
                context=options["context"],
                tokens_per_step=options["tokens_per_step"],
            )
            for path in data
        ]
    )


def _step_points(parts: list[Measurements], options: dict[str, Any]) -> RatioSweep:
    """Return the step times of logs as points of a sweep; each log needs its A and F."""
    from afdplan.calibration.gather import join_sweeps, step_sweep

    attention, ffn = options["attention_workers"], options["ffn_workers"] or (1.0,)
    if len(attention) != len(parts) or len(ffn) not in (1, len(parts)):
        raise click.UsageError(
            "a log of whole steps does not say its bundle: give --attention-workers (and "
            f"--ffn-workers) once per file, {len(parts)} times"
        )
    if len(ffn) == 1:
        ffn = ffn * len(parts)
    return join_sweeps(
        [
            step_sweep(
                part,
                attention_workers=a,
                ffn_workers=f,
                microbatches=options["microbatches"] or 2,
                context=options["context"],
            )
            for part, a, f in zip(parts, attention, ffn, strict=True)
        ]
    )


def _fit_points(
    points: RatioSweep, name: str, prior: LatencyModel | None, options: dict[str, Any]
) -> _Result:
    from afdplan.calibration.sweep import fit_sweep
    from afdplan.calibration.sweep_model import sweep_latency_model
    from afdplan.report.calibrate import sweep_answer, sweep_told

    fit = fit_sweep(
        points,
        layers=options["layers"],
        step_overhead=options["step_overhead"],
        maximum=options["maximum"],
        transfer_time=options["transfer_time"],
        noise=options["noise"],
        prior=prior,
    )
    model = sweep_latency_model(fit, name=name, tokens_per_step=options["tokens_per_step"])

    def figures() -> tuple[Figure, ...]:
        from afdplan.plotting.calibration_figures import sweep_figures

        return sweep_figures(fit)

    told = sweep_told(fit, model, fit.warnings, points.notes)

    def page(**around: Any) -> Page:
        from afdplan.report.page_calibrate import sweep_page

        return sweep_page(told, fit, model, **around)

    return _Result(
        model=model,
        told=told,
        answer=sweep_answer(fit, model),
        figures=figures,
        page=page,
    )


def _fit_stages(
    parts: list[Measurements], name: str, prior: LatencyModel | None, options: dict[str, Any]
) -> _Result:
    from afdplan.calibration.assemble import assemble
    from afdplan.calibration.gather import gather, suspect_units
    from afdplan.calibration.stage import fit_stage
    from afdplan.report.calibrate import fit_answer, fit_told, fit_warnings

    together = gather(parts)
    stages = [samples for samples in together.stages if samples.stage != "step"]
    forms = _by_stage("form", options["forms"], [s.stage for s in stages])
    windows = _by_stage("window", options["windows"], [s.stage for s in stages])
    for form in forms.values():
        if form not in _FORMS:
            raise click.UsageError(f"--form must be one of {', '.join(_FORMS)}, got {form!r}")
    fits = [
        fit_stage(
            samples,
            form=forms.get(samples.stage, "auto"),  # type: ignore[arg-type]  # checked above
            window=_window(windows[samples.stage]) if samples.stage in windows else None,
        )
        for samples in stages
    ]
    model = assemble(
        fits,
        name=name,
        time_unit=together.time_unit,
        source=together.source,
        layers=options["layers"],
        transfer_load=options["transfer_load"],
        step_overhead=options["step_overhead"],
        tokens_per_step=options["tokens_per_step"],
        prior=prior,
    )
    warnings = suspect_units(together, options["layers"]) + fit_warnings(fits)
    notes = list(together.notes)
    if len(stages) < len(together.stages):
        notes.append("Whole steps among the stages are not used.")

    def figures() -> tuple[Figure, ...]:
        from afdplan.plotting.calibration_figures import stage_figures

        return stage_figures(fits, model.time_unit)

    told = fit_told(fits, model, warnings, notes)

    def page(**around: Any) -> Page:
        from afdplan.report.page_calibrate import fit_page

        return fit_page(told, fits, model, **around)

    return _Result(
        model=model,
        told=told,
        answer=fit_answer(fits, model),
        figures=figures,
        page=page,
    )


def _by_stage(option: str, given: Sequence[str], stages: Sequence[str]) -> dict[str, str]:
    """Return the value of each stage from ``VALUE`` (all stages) and ``STAGE=VALUE``."""
    chosen: dict[str, str] = {}
    for text in sorted(given, key=lambda text: "=" in text):
        stage, equals, value = text.partition("=")
        if not equals:
            chosen.update(dict.fromkeys(stages, stage))
        elif stage in stages:
            chosen[stage] = value
        else:
            raise click.UsageError(
                f"--{option} {text}: the data hold {', '.join(stages)}, not {stage}"
            )
    return chosen


def _window(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (1.0, 0.0)
    if not dots or not 0 <= bounds[0] <= bounds[1]:
        raise click.UsageError(f"--window must be LOW..HIGH with 0 <= LOW <= HIGH, got {text!r}")
    return bounds


def _write_table(parts: list[Measurements], data: Sequence[str], options: dict[str, Any]) -> None:
    from afdplan.calibration.gather import gather
    from afdplan.files.measurements.table import write_latency_table

    together = gather(parts)
    write_latency_table(together, options["to_table"])
    counts = {samples.stage: samples.count for samples in together.stages}
    answer = {"table": options["to_table"], "times": counts}
    _tell_written(data, options, together.time_unit, together.notes, answer)


def _write_trace(data: Sequence[str], options: dict[str, Any]) -> None:
    from afdplan.files.atomic import write_atomic
    from afdplan.files.measurements.prometheus import read_metrics
    from afdplan.workload.observed import observed_trace

    trace = observed_trace(read_metrics(*data), ", ".join(data))
    rows = [f"{p},{d}" for p, d in zip(trace.prompt_tokens, trace.decode_tokens, strict=True)]
    text = "\n".join(["prompt_tokens,decode_tokens", *rows]) + "\n"
    write_atomic(options["to_trace"], text.encode())
    answer = {"trace": options["to_trace"], "requests": len(rows)}
    _tell_written(data, options, "s", (*trace.doubts, *trace.notes), answer)


def _tell_written(
    data: Sequence[str],
    options: dict[str, Any],
    time_unit: TimeUnit,
    notes: Sequence[str],
    answer: dict[str, Any],
) -> None:
    if not options["as_json"]:
        lines = [f"{stage}: {count} times" for stage, count in answer.get("times", {}).items()]
        for line in (*lines, *(f"note: {note}" for note in notes)):
            click.echo(line, err=True)
        return
    from afdplan.report.document import to_json

    inputs = _inputs(data, options)
    click.echo(
        to_json(documented(time_unit=time_unit, inputs=inputs, warnings=notes, answer=answer))
    )


def _inputs(data: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(data), **{k: v for k, v in options.items() if k != "as_json"}}


def _deliver(result: _Result, data: Sequence[str], options: dict[str, Any]) -> None:
    """Write and print what was asked for; files first, so that a failure prints no success."""
    from afdplan.files.latency_file import save_latency

    if options["output"]:
        if Path(options["output"]).suffix.lower() not in (".toml", ".json", ""):
            raise InvalidInputError(
                f"a latency model must end in .toml or .json, got {options['output']!r}"
            )
        save_latency(result.model, options["output"])
    if options["plot"]:
        drawn = result.figures()
        write_picture(options["plot"], drawn, result.model.name, columns=2 if len(drawn) > 2 else 1)
    if options["as_json"] or options["report"]:
        from afdplan.report.document import to_json

        answered = documented(
            time_unit=result.model.time_unit,
            inputs=_inputs(data, options),
            warnings=result.told.warnings,
            answer=result.answer,
        )
        if options["report"]:
            page = result.page(document=answered, command_line=command_line())
            write_report(options["report"], page)
        if options["as_json"]:
            click.echo(to_json(answered))
            return
    kept = options["output"] or "model.toml"
    line = shlex.join(["afdplan", "ratio", "--latency", kept, "--trace", "requests.csv"])
    line = f"{'' if options['output'] else 'add -o model.toml, then '}{line} --batch-size 128"
    tell(replace(result.told, following=line))
