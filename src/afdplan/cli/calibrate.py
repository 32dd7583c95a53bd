"""How long do attention, FFN and transfer take here?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.calibrate_data import kind_of, read_parts, read_sweep, step_points
from afdplan.cli.calibrate_fit import FORMS, Fit, fit_points, fit_stages
from afdplan.cli.help import GroupedCommand
from afdplan.cli.options import in_domain
from afdplan.cli.options import options as add_options
from afdplan.cli.quantity import FINITE
from afdplan.cli.report import (
    documented,
    json_option,
    plot_option,
    print_json,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.errors import InvalidInputError
from afdplan.model import parameters as ask
from afdplan.model.parameter import count, number

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit
    from afdplan.model.measurement import Measurements

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan calibrate stages.csv --layers 61 -o model.toml --plot residuals.png
  afdplan calibrate stages.csv --form ffn=roofline --window ffn=64..4096
  afdplan calibrate sweep.csv --sweep --batch-size 48 --layers 94 --context 8192 \
      --attention-devices 1 --ffn-devices 8 -o model.toml
  afdplan calibrate steps.jsonl --attention-workers 28 --ffn-workers 4 --layers 94 -o model.toml
  afdplan calibrate attention.json.gz --role attention --load 393216 --to-table stages.csv
  afdplan calibrate metrics.prom --to-trace lengths.csv
  afdplan calibrate server.log --format expert-load --prior model.toml -o uneven.toml
"""


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
@click.option("--form", "forms", multiple=True, metavar="[STAGE=]FORM", help=f"{', '.join(FORMS)}.")
@click.option(
    "--window", "windows", multiple=True, metavar="[STAGE=]LOW..HIGH", help="Loads to fit [tokens]."
)
@add_options(ask.LAYERS, ask.STEP_OVERHEAD, ask.TOKENS_PER_STEP)
@click.option(
    "--transfer-load",
    type=click.Choice(["worker", "aggregate"]),
    default="worker",
    show_default=True,
    help="Whose tokens the loads of transfers count: one attention worker's or all of a bundle.",
)
@click.option("--prior", metavar="NAME|FILE", help="Model that lends what was not measured.")
@click.option("--sweep", is_flag=True, help="DATA are step times or throughputs over ratios.")
@click.option(
    "--coupling",
    is_flag=True,
    help="DATA are steps with their stages: fit whom transfers occupy, and the launch.",
)
@add_options(
    number(
        "occupied",
        "Coupling: share of transfers that occupies the FFN; fitted by default.",
        maximum=1,
        metavar="SHARE",
    ),
    number("batch_size", "Sweep: per worker and microbatch.", strict=True, metavar="B"),
    ask.MICROBATCHES.changed(help="In flight; by default 2, in a profiler trace 1.", default=None),
    number("context", "Sweep, step logs: mean KV tokens per request.", strict=True, metavar="N"),
)
@click.option(
    "--attention-workers",
    type=FINITE,
    multiple=True,
    metavar="A",
    help="Step logs: one per file.",
    callback=in_domain(number("attention_workers", strict=True)),
)
@click.option(
    "--ffn-workers",
    type=FINITE,
    multiple=True,
    metavar="F",
    help="F; step logs: one per file.",
    callback=in_domain(number("ffn_workers", strict=True)),
)
@add_options(*ask.DEVICES_PER_WORKER, fills=False)
@click.option(
    "--maximum", type=click.Choice(["hard", "soft"]), default="hard", help="How limits meet."
)
@add_options(
    number("noise", "Sweep: relative error of a step time.", strict=True, default=0.01),
    number("transfer_time", "Sweep: there and back, per layer [s]; fitted by default."),
)
@click.option(
    "--role", type=click.Choice(["attention", "ffn"]), help="Profiler trace: whose it is."
)
@click.option(
    "--rank", metavar="NAME", help="Log of several ranks: DP0, 'DP0 TP0' or 0; by default all."
)
@add_options(
    number("load", "Profiler trace, StepMesh: load of a microbatch [tokens].", strict=True),
    number("requests", "Profiler trace: requests of a microbatch.", strict=True),
    count("peers", "Profiler trace: transfers per microbatch.", default=1),
)
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
    kind = None if options["sweep"] else kind_of(data[0], options["format_name"])
    experts = kind == "expert-load"
    of_bundle = not (options["stage"] or options["to_trace"] or options["coupling"] or experts)
    if not of_bundle and any(options[one.key] is not None for one in ask.DEVICES_PER_WORKER):
        raise click.UsageError(
            "--attention-devices and --ffn-devices belong to the latency model of a bundle"
        )
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
    if options["coupling"]:
        from afdplan.cli.calibrate_coupling import calibrate_coupling

        calibrate_coupling(data, prior, _inputs(data, options), options)
        return
    if options["occupied"] is not None:
        raise click.UsageError("--occupied is a share of transfers: it needs --coupling")
    if experts:
        from afdplan.cli.calibrate_experts import calibrate_experts

        asked = {name: options[name] for name in ("output", "as_json")}
        calibrate_experts(data, prior, _inputs(data, options), **asked)
        return
    points = None
    if options["sweep"]:
        points = read_sweep(data, options)
    else:
        parts = read_parts(data, options, kind)
        if options["to_table"]:
            _write_table(parts, data, options)
            return
        if all(s.stage == "step" for part in parts for s in part.stages):
            points = step_points(parts, options)
    name = options["name"] or Path(data[0]).name.split(".")[0]
    from rich.console import Console

    with Console(stderr=True).status("fitting"):
        result = (
            fit_stages(parts, name, prior, options)
            if points is None
            else fit_points(points, name, prior, options)
        )
    _deliver(result, data, options)


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
    inputs = _inputs(data, options)
    print_json(documented(time_unit=time_unit, inputs=inputs, warnings=notes, answer=answer))


def _inputs(data: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(data), **{k: v for k, v in options.items() if k != "as_json"}}


def _deliver(result: Fit, data: Sequence[str], options: dict[str, Any]) -> None:
    """Write and print what was asked for; files first, so that a failure prints no success."""
    from afdplan.files.latency_file import save_latency

    if options["output"]:
        if Path(options["output"]).suffix.lower() not in (".toml", ".json", ""):
            raise InvalidInputError(
                f"a latency model must end in .toml or .json, got {options['output']!r}"
            )
        save_latency(result.model, options["output"])
    if options["plot"]:
        drawn = tuple(drawn for section in result.sections() for drawn in section.figures)
        write_picture(options["plot"], drawn, result.model.name, columns=2 if len(drawn) > 2 else 1)
    if options["as_json"] or options["report"]:
        answered = documented(
            time_unit=result.model.time_unit,
            inputs=_inputs(data, options),
            warnings=result.told.warnings,
            answer=result.answer,
        )
        if options["report"]:
            from afdplan.report.page import Page

            page = Page(
                title=f"afdplan calibrate: {result.model.name}",
                told=result.told,
                sections=result.sections(),
            )
            write_report(options["report"], page, answered)
        if options["as_json"]:
            print_json(answered)
            return
    kept = options["output"] or "model.toml"
    line = shlex.join(["afdplan", "ratio", "--latency", kept, "--trace", "requests.csv"])
    line = f"{'' if options['output'] else 'add -o model.toml, then '}{line} --batch-size 128"
    tell(replace(result.told, following=line))
