"""How long does a prefill worker take here?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from afdplan.errors import InvalidInputError
from afdplan.model import plan_parameters as ask

__all__ = ["calibrate_prefill"]

TAKEN = ("data", "stage", "name", "output", "time_unit", "as_json")
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def calibrate_prefill(data: Sequence[str], options: dict[str, Any]) -> None:
    """Fit a table or log of prompts, write the worker and say how well it fits."""
    import numpy as np

    from afdplan.calibration.prefill_fit import fit_prefill
    from afdplan.files.measurements.fpm import read_prefill_passes
    from afdplan.files.prefill_file import prefill_document, save_prefill
    from afdplan.report.quantities import counted, share

    context = click.get_current_context()
    for one in context.command.params:
        is_given = context.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE
        if is_given and one.name not in TAKEN:
            raise click.UsageError(f"{one.opts[0]} is not of --stage prefill")
    if len(data) > 1:
        raise click.UsageError("--stage prefill fits one table or log")
    unit = options["time_unit"] or "s"
    if unit not in UNITS:
        raise click.UsageError(f"--time-unit of prefill must be one of {', '.join(UNITS)}")
    columns = read_prefill_passes(data[0])
    chunk = ask.PREFILL_CHUNK.default
    if columns is None:
        columns = _columns(data[0])
    else:  # every pass is one chunk, in seconds
        unit, chunk = "s", max(chunk, int(columns["tokens"].max()))
    fit = fit_prefill(
        columns["tokens"],
        columns["latency"] * UNITS[unit],
        cached=columns.get("cached", np.zeros(columns["tokens"].size)),
        chunk_tokens=chunk,
        name=options["name"] or Path(data[0]).name.split(".")[0],
    )
    if options["output"]:
        save_prefill(fit.model, options["output"])
        from afdplan.cli.report import say_wrote

        say_wrote(options["output"])
    if options["as_json"]:
        from afdplan.cli.report import documented, print_json

        errors = {"median_error": fit.median_error, "largest_error": fit.largest_error}
        answer = {"prefill_model": prefill_document(fit.model), "prompts": fit.prompts, **errors}
        inputs = {"data": list(data), "stage": "prefill", "time_unit": unit}
        told = documented(time_unit="s", inputs=inputs, warnings=(), answer=answer)
        print_json(told)
        return
    click.echo(
        f"{fit.model.name}: {fit.model.compute}, {fit.model.pairs[0].time:.4g} s per causal pair; "
        f"{counted(fit.prompts, 'prompt')} fitted within {share(fit.median_error)} in the median, "
        f"{share(fit.largest_error)} at most."
    )


def _columns(path: str) -> dict[str, Any]:
    """Return tokens, latency and maybe cached tokens of a CSV table."""
    import csv

    import numpy as np

    from afdplan.errors import reason

    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path}: cannot be read as CSV: {reason(error)}") from None
    found = {}
    for name in ("tokens", "latency", "cached"):
        if rows and name not in rows[0]:
            if name != "cached":
                raise InvalidInputError(
                    f"{path}: has no column {name!r}; needed are tokens and latency"
                )
            continue
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except (TypeError, ValueError):
            raise InvalidInputError(f"{path}: column {name!r} must hold numbers only") from None
    return found
