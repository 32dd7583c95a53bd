"""Which options does `afdplan plan` take, and which source, space and cost do they name?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.quantity import parse_numbers
from afdplan.planning.objective import OBJECTIVES, DeviceCost, find_objective

if TYPE_CHECKING:
    from afdplan.planning.source import LatencySource
    from afdplan.planning.space import SearchSpace

__all__ = ["latency_options", "limit_options", "resolve_source", "resolve_space"]


def latency_options(command: Any) -> Any:
    """Add --latency, or --model and --hardware with what refines them."""
    options = [
        click.option("--latency", metavar="NAME|FILE", help="Measured latency model."),
        click.option(
            "--kv-tokens",
            type=float,
            metavar="N",
            help="With --latency: KV tokens that fit on one attention worker.",
        ),
        click.option(
            "--colocated-kv-tokens",
            type=float,
            metavar="N",
            help="With --latency: the same on a worker that holds the FFN weights too.",
        ),
        click.option("--model", metavar="NAME|PATH", help="Shipped model or config.json."),
        click.option("--hardware", metavar="NAME|FILE", help="Shipped device or its file."),
        click.option("--ffn-hardware", metavar="NAME|FILE", help="Device of the FFN workers."),
        click.option("--weight-precision", metavar="NAME", help="Format of the weights, e.g. fp8."),
        click.option("--kv-precision", metavar="NAME", help="Format of the KV cache, e.g. fp8."),
        click.option(
            "--link",
            type=click.Choice(["scale-up", "scale-out"]),
            help="Which link joins both sides.",
        ),
        click.option(
            "--speculative-tokens", type=int, default=0, metavar="K", help="Draft tokens per step."
        ),
        click.option(
            "--acceptance",
            type=float,
            metavar="P",
            help="With --speculative-tokens: chance of each draft, by default 0.85.",
        ),
        click.option(
            "--attention-devices",
            metavar="LIST",
            help="Devices per attention worker; with --model several may be tried: 1,2,4,8.",
        ),
        click.option(
            "--ffn-devices",
            type=int,
            metavar="N",
            help="With --latency: devices per FFN worker.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def limit_options(command: Any) -> Any:
    """Add limits, objective and candidates."""
    options = [
        click.option("--devices", type=int, metavar="N", help="Most devices of both sides."),
        click.option(
            "--rate", metavar="R", help="Requests/s to reach with fewest devices: 20/s, 900/min."
        ),
        click.option("--tpot", metavar="TIME", help="Most time per output token: 50ms, 0.05s."),
        click.option(
            "--tpot-statistic",
            type=click.Choice(["mean", "p50", "p95", "p99"]),
            default="mean",
            show_default=True,
            help="Of the step-time law that is held against --tpot.",
        ),
        click.option(
            "--overflow",
            type=float,
            default=1e-3,
            show_default=True,
            metavar="P",
            help="Most chance per attention worker and step that the KV cache overflows.",
        ),
        click.option(
            "--node-devices",
            type=int,
            default=1,
            show_default=True,
            metavar="N",
            help="Each side fills whole nodes of N devices; 1 shares nodes.",
        ),
        click.option(
            "--target",
            default="any",
            show_default=True,
            metavar="NAME",
            help="Serving system whose legal pairs are searched: vllm-afd-plugin, fastafd, ...",
        ),
        click.option(
            "--target-version", metavar="V", help="Of that system; the newest known otherwise."
        ),
        click.option(
            "--per",
            type=click.Choice(list(OBJECTIVES)),
            default="device",
            show_default=True,
            help="What throughput is divided by.",
        ),
        click.option(
            "--attention-cost",
            type=float,
            metavar="C",
            help="Price or watts of an attention device (taken from the hardware otherwise).",
        ),
        click.option("--ffn-cost", type=float, metavar="C", help="Likewise of an FFN device."),
        click.option(
            "--batch-sizes", metavar="LIST", help="Only these batch sizes B: 8,16 or 1..64."
        ),
        click.option(
            "--max-batch-size",
            type=int,
            default=1024,
            show_default=True,
            metavar="B",
            help="Largest B tried, with every one below.",
        ),
        click.option("--microbatches", metavar="LIST", help="m to try; by default 1,2,3."),
        click.option("--ffn-workers", metavar="LIST", help="F per bundle to try."),
        click.option("--max-attention-workers", type=int, metavar="A", help="Most A per bundle."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def resolve_space(options: dict[str, Any]) -> SearchSpace:
    """Return the candidates that the options name."""
    from afdplan.deploy.registry import find_target
    from afdplan.model.checks import check_count
    from afdplan.planning.space import SearchSpace, graph_batch_sizes

    check_count("max_batch_size", options["max_batch_size"], 1, 1_000_000)
    sizes = graph_batch_sizes(options["max_batch_size"])
    if options["batch_sizes"] is not None:
        sizes = parse_numbers("--batch-sizes", options["batch_sizes"])
    target = find_target(options["target"], options["target_version"])
    microbatches = target.microbatches
    if options["microbatches"] is not None:
        microbatches = parse_numbers("--microbatches", options["microbatches"])
    numbers = options["ffn_workers"]
    return SearchSpace(
        batch_sizes=sizes,
        fills_gaps=options["batch_sizes"] is None,
        microbatches=microbatches,
        target=target,
        max_attention_workers=options["max_attention_workers"],
        ffn_workers=None if numbers is None else parse_numbers("--ffn-workers", numbers),
    )


def resolve_source(options: dict[str, Any]) -> tuple[LatencySource, DeviceCost]:
    """Return the latency source and the cost that the options name."""
    tensor = options["attention_devices"]
    devices = None if tensor is None else parse_numbers("--attention-devices", tensor)
    if options["latency"] is not None:
        for name in (
            "model",
            "hardware",
            "ffn_hardware",
            "weight_precision",
            "kv_precision",
            "link",
        ):
            if options[name] is not None:
                raise click.UsageError(
                    f"give --latency, or --model and --hardware; --{name.replace('_', '-')} "
                    "belongs to the latter"
                )
        if options["speculative_tokens"] or options["acceptance"] is not None:
            raise click.UsageError(
                "--speculative-tokens and --acceptance belong to --model: a latency model states "
                "its tokens_per_step"
            )
        from afdplan.files.latency_file import load_latency
        from afdplan.planning.source import MeasuredSource

        if devices is not None and len(devices) > 1:
            raise click.UsageError("--latency was measured at one number of --attention-devices")
        measured = MeasuredSource(
            load_latency(options["latency"]),
            attention_devices=devices[0] if devices else 1,
            ffn_devices=options["ffn_devices"] or 1,
            kv_tokens=options["kv_tokens"],
            colocated_kv_tokens=options["colocated_kv_tokens"],
        )
        return measured, _cost(options, None, None)
    if options["model"] is None or options["hardware"] is None:
        raise click.UsageError(
            "say how long stages take: --latency FILE, or --model and --hardware"
        )
    for name in ("kv_tokens", "colocated_kv_tokens", "ffn_devices"):
        if options[name] is not None:
            raise click.UsageError(
                f"--{name.replace('_', '-')} belongs to --latency; with --model it is derived"
            )
    from afdplan.planning.derived_choice import DerivedChoice

    if options["acceptance"] is None:
        options["acceptance"] = 0.85
    elif not options["speculative_tokens"]:
        raise click.UsageError("--acceptance is of draft tokens: give --speculative-tokens too")
    choice = DerivedChoice(
        attention_devices=devices,
        **{
            name: options[name]
            for name in (
                "model",
                "hardware",
                "ffn_hardware",
                "weight_precision",
                "kv_precision",
                "link",
                "speculative_tokens",
                "acceptance",
            )
        },
    )
    return choice.source(), _cost(options, *choice.devices())


def _cost(options: dict[str, Any], attention: Any, ffn: Any) -> DeviceCost:
    per = options["per"]
    objective = find_objective(per)
    given = {"attention": options["attention_cost"], "ffn": options["ffn_cost"]}
    if not objective.hardware_field:
        if any(value is not None for value in given.values()):
            *others, last = [name for name, one in OBJECTIVES.items() if one.hardware_field]
            raise click.UsageError(
                f"--attention-cost and --ffn-cost need --per {', '.join(others)} or {last}"
            )
        return objective.cost(per=per)
    costs = {}
    for side, hardware in (("attention", attention), ("ffn", ffn)):
        cost = given[side]
        if cost is None and hardware is not None:
            cost = getattr(hardware, objective.hardware_field)
        if cost is None:
            raise click.UsageError(f"--per {per} needs --{side}-cost: what a device costs")
        costs[side] = cost
    unit = objective.unit
    if objective.hardware_field == "price_per_hour" and attention is not None:
        unit = f"{attention.currency}/h"
    return objective.cost(per=per, attention=costs["attention"], ffn=costs["ffn"], unit=unit)
