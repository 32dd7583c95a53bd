"""Which options mean the same on every command, and what do they resolve to?"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel
    from afdplan.model.trace import Trace
    from afdplan.workload.report import WorkloadReport

__all__ = [
    "Latency",
    "Workload",
    "batch_options",
    "json_option",
    "latency_options",
    "resolve_batch_size",
    "resolve_latency",
    "resolve_workload",
    "workload_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

LATENCY_NAMES = (
    "latency",
    "model",
    "hardware",
    "ffn_hardware",
    "weight_precision",
    "attention_devices",
    "ffn_devices",
)
_LAW = "100, fixed:100, geometric:500, uniform:512..1536, lognormal:mean=1200,cv=1.3"


def workload_options(command: Command) -> Command:
    """Add --trace/--format/--columns and --prompt/--decode."""
    options = [
        click.option("--trace", metavar="FILE", help="Request trace; its format is detected."),
        click.option("--format", "trace_format", metavar="NAME", help="Force a trace format."),
        click.option(
            "--columns",
            metavar="MAP",
            help="Columns of any other table: prompt=NAME,decode=NAME,arrival=NAME.",
        ),
        click.option("--prompt", metavar="LAW", help=f"Law of prompt lengths: {_LAW}."),
        click.option("--decode", metavar="LAW", help="Law of output lengths, likewise."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def latency_options(command: Command) -> Command:
    """Add --latency, and --model with --hardware and their refinements."""
    options = [
        click.option(
            "--latency",
            metavar="NAME|FILE",
            help="Latency model: a built-in name (deepseek-v3-ascend-910c) or a TOML/JSON file.",
        ),
        click.option(
            "--model",
            metavar="NAME|FILE",
            help="Derive the latency model: a name of `afdplan models` or a config.json.",
        ),
        click.option(
            "--hardware",
            metavar="NAME|FILE",
            help="Device of the attention workers: a name of `afdplan hardware` or a file.",
        ),
        click.option("--ffn-hardware", metavar="NAME|FILE", help="Device of the FFN workers."),
        click.option(
            "--weight-precision", metavar="NAME", help="Of the weights, for example fp8 or bf16."
        ),
        click.option("--attention-devices", type=int, help="Devices per attention worker (TP)."),
        click.option("--ffn-devices", type=int, help="Devices per FFN worker (TP/EP)."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What the latency options resolved to.

    Attributes
    ----------
    model
        Times of the stages.
    ffn_weight
        Cost of an FFN worker over an attention worker, by devices; 1 if the model says nothing.
    inputs
        What to print under `inputs`.
    """

    model: LatencyModel
    ffn_weight: float
    inputs: dict[str, Any]


def resolve_latency(
    options: MutableMapping[str, Any], *, batch_size: int, ffn_workers: int
) -> Latency:
    """Return the latency model that the options of `latency_options` name.

    Parameters
    ----------
    options
        Values by parameter name; those of `latency_options` are taken out.
    batch_size, ffn_workers
        B and F: a derived FFN worker holds its share of the experts.
    """
    choice = {name: options.pop(name) for name in LATENCY_NAMES}
    given = {name: value for name, value in choice.items() if value is not None}
    if given.get("latency") == "":
        raise click.UsageError("--latency is empty: give a built-in name or a file")
    if "latency" in given:
        others = sorted(given.keys() - {"latency"})
        if others:
            raise click.UsageError(
                f"give --latency, or --model and --hardware; --{others[0].replace('_', '-')} "
                "belongs to the latter"
            )
        from afdplan.files.latency_file import load_latency

        model = load_latency(given["latency"])
        weight = 1.0
    elif "model" in given and "hardware" in given:
        from afdplan.calibration.derived import derived_model

        name, device = given.pop("model"), given.pop("hardware")
        if "weight_precision" in given:
            given["precision"] = given.pop("weight_precision")
        derived = derived_model(
            name, device, batch_size=batch_size, ffn_workers=ffn_workers, **given
        )
        model, weight = derived.latency, derived.ffn_weight()
    else:
        raise click.UsageError(
            "say how long the stages take: --latency NAME|FILE, or --model and --hardware"
        )
    inputs = {
        **choice,
        "latency": {
            "name": model.name,
            "source": model.source,
            "layers": model.layers,
            "assumptions": model.assumptions,
        },
    }
    return Latency(model=model, ffn_weight=weight, inputs=inputs)


def batch_options(command: Command) -> Command:
    """Add --batch-size, --requests-per-worker, --microbatches, --overlap, --ffn-workers."""
    options = [
        click.option(
            "--batch-size",
            type=int,
            metavar="B",
            help="Request slots per attention worker and microbatch.",
        ),
        click.option(
            "--requests-per-worker",
            type=int,
            metavar="S",
            help="Request slots per attention worker, all microbatches (S = m B).",
        ),
        click.option(
            "--microbatches", type=int, default=2, show_default=True, help="In flight, 1 to 8."
        ),
        click.option(
            "--overlap",
            type=click.Choice(["pipelined", "ideal"]),
            default="pipelined",
            show_default=True,
            help="What systems do, or the paper's perfect overlap (ignores microbatches).",
        ),
        click.option(
            "--ffn-workers", type=int, default=1, show_default=True, help="F of one bundle."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
    )(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the workload options resolved to.

    Attributes
    ----------
    law
        Joint law of prompt and decode lengths.
    trace
        The trace behind it; None for a law of the mini-language.
    report
        What was found in the trace; None for a law, or if the trace is too short to judge.
    warnings
        What to mistrust about the trace, one sentence each.
    inputs
        What to print under `inputs`.
    """

    law: LengthLaw
    trace: Trace | None
    report: WorkloadReport | None
    warnings: tuple[str, ...]
    inputs: dict[str, Any]

    @property
    def token_load(self) -> Estimate | None:
        """The mean token load with its interval; None if there is none."""
        return None if self.report is None else self.report.token_load


def resolve_workload(
    trace: str | None,
    trace_format: str | None,
    columns: str | None,
    prompt: str | None,
    decode: str | None,
    confidence: float = 0.95,
) -> Workload:
    """Return the workload that the options name; exactly one of trace and laws must be given.

    Parameters
    ----------
    trace, trace_format, columns, prompt, decode
        Values of the options of `workload_options`.
    confidence
        Coverage of the interval of a trace's mean token load.
    """
    from afdplan.lengths.law import EmpiricalLengths, IndependentLengths

    if trace is not None and (prompt is not None or decode is not None):
        raise click.UsageError("give --trace, or --prompt and --decode, not both")
    if trace is not None:
        from afdplan.files.traces.reader import read_trace

        requests = read_trace(trace, format=trace_format, columns=columns)
        report, warnings = _described(requests, confidence)
        return Workload(
            law=EmpiricalLengths(requests),
            trace=requests,
            report=report,
            warnings=warnings,
            inputs={
                "trace": trace,
                "format": requests.format,
                "columns": columns,
                "requests": requests.requests,
                "dropped_requests": requests.dropped_requests,
                "time_unit_in_file": requests.time_unit_in_file,
                "notes": requests.notes,
            },
        )
    if trace_format is not None or columns is not None:
        raise click.UsageError("--format and --columns describe a file: give --trace too")
    if prompt is None or decode is None:
        raise click.UsageError("say what the requests are: --trace FILE, or --prompt and --decode")
    law = IndependentLengths(prompt=prompt, decode=decode)
    inputs = {"prompt": prompt, "decode": decode}
    return Workload(law=law, trace=None, report=None, warnings=(), inputs=inputs)


def _described(trace: Trace, confidence: float) -> tuple[WorkloadReport | None, tuple[str, ...]]:
    """Return what was found in a trace, and the warnings that every command must pass on."""
    from afdplan.errors import InsufficientDataError
    from afdplan.workload.description import describe_workload
    from afdplan.workload.warnings import load_warnings

    try:
        report = describe_workload(trace, confidence)
    except InsufficientDataError as error:
        return None, (f"the token load has no interval: {error}",)
    return report, load_warnings(report)


def resolve_batch_size(
    batch_size: int | None, requests_per_worker: int | None, microbatches: int, overlap: str
) -> int:
    """Return B, slots per attention worker and microbatch, from either way of saying it.

    A value out of its domain is an expected failure (exit code 1), as everywhere; options that are
    wrongly written or do not go together are usage (2).
    """
    from afdplan.model.checks import check_count

    if batch_size is not None and requests_per_worker is None:
        return check_count("batch_size", batch_size, 1, 1_000_000)
    if requests_per_worker is None or batch_size is not None:
        raise click.UsageError("give one of --batch-size B and --requests-per-worker S (= m B)")
    if overlap == "ideal":
        raise click.UsageError(
            "--requests-per-worker counts microbatches, which --overlap ideal ignores: "
            "give --batch-size"
        )
    check_count("microbatches", microbatches, 1, 8)
    check_count("requests_per_worker", requests_per_worker)
    if requests_per_worker % microbatches:
        raise click.UsageError(
            f"--requests-per-worker must be a multiple of --microbatches {microbatches}, "
            f"got {requests_per_worker}"
        )
    return requests_per_worker // microbatches
