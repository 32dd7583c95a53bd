"""How long do attention, experts and copies take on the device at hand?"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import click

from afdplan.cli.options import options
from afdplan.cli.report import documented, json_option, print_json, progress, say_wrote, tell
from afdplan.model import profile_parameters as ask

__all__ = ["command"]


def _counts(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return a list of counts like `1,4,16` as a tuple."""
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"must be counts with commas between them, like 1,4,16, got {value!r}", ctx, param
        ) from None


@click.command()
@click.option(
    "--model",
    "model",
    help="Shipped name, Hugging Face id or config.json; a small one of our own unless given.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV table for `afdplan calibrate`; its environment is written beside it.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to measure; auto takes CUDA if it is there.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default=None,
    help="Of weights and cache; float32 on a CPU, bfloat16 on CUDA unless given.",
)
@click.option("--requests", callback=_counts, help="Requests per microbatch.")
@click.option("--contexts", callback=_counts, help="KV tokens per request.")
@click.option("--tokens", callback=_counts, help="Tokens of one FFN worker.")
@options(ask.FFN_DEVICES)
@click.option(
    "--routing",
    type=click.Choice(["balanced", "skewed"]),
    default="balanced",
    show_default=True,
    help="Which FFN times go into the table.",
)
@options(ask.REPEATS, ask.SEED, ask.THREADS)
@json_option
def command(
    model: str | None,
    output: Path | None,
    device: str,
    dtype: str | None,
    requests: tuple[int, ...] | None,
    contexts: tuple[int, ...] | None,
    tokens: tuple[int, ...] | None,
    ffn_devices: int,
    routing: str,
    repeats: int,
    seed: int,
    threads: int,
    as_json: bool,
) -> None:
    """Measure one layer of a model on this machine, for `afdplan calibrate`.

    Needs torch: pip install 'afdplan[profile]'.
    """
    from afdplan.calibration.catalogue import find_model
    from afdplan.calibration.profile import ProfilePlan, load_torch, profile, small_model
    from afdplan.files.measurements.profile_table import environment_path, write_profile
    from afdplan.report.profile import profile_told

    load_torch()
    architecture = small_model() if model is None else find_model(model)
    loads = {"requests": requests, "contexts": contexts, "tokens": tokens}
    given: dict[str, Any] = {name: value for name, value in loads.items() if value is not None}
    plan = ProfilePlan(
        device=device,
        dtype=dtype or "",
        ffn_devices=ffn_devices,
        routing="skewed" if routing == "skewed" else "balanced",
        repeats=repeats,
        seed=seed,
        threads=threads,
        **given,
    )
    with progress("measuring") as show:
        result = profile(architecture, plan, lambda done, total: show(done / total))
    if output is not None:
        beside = [dataclasses.asdict(point) for point in result.other_routing]
        write_profile(output, result.table, {**result.environment, "other_routing": beside})
    if as_json:
        inputs = {"model": architecture.name, **dataclasses.asdict(plan)}
        answer = {
            "measurements": [dataclasses.asdict(point) for point in result.table],
            "other_routing": [dataclasses.asdict(point) for point in result.other_routing],
            "environment": result.environment,
            "output": None if output is None else str(output),
        }
        print_json(
            documented(time_unit="s", inputs=inputs, warnings=list(result.warnings), answer=answer)
        )
        return
    told = profile_told(result)
    if output is not None:
        say_wrote(f"{output} and {environment_path(output)}")
        line = f"afdplan calibrate {shlex.quote(str(output))} -o model.toml"
        told = dataclasses.replace(told, following=line)
    tell(told)
