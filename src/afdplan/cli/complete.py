"""What does the tab key offer for names and files? Nothing heavy is imported to say it.

Commands declare plain strings; what one stands for follows from its name and its metavar, by the
tables below, so that the same option completes alike on every command.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

__all__ = ["Completed", "with_completion"]


def shipped(kind: str) -> list[str]:
    """Return the names of the shipped files of a kind: latency, models or hardware.

    Examples
    --------
    >>> shipped("latency")
    ['deepseek-v3-ascend-910c']
    """
    folder = resources.files("afdplan.data") / kind
    return sorted(file.name.rpartition(".")[0] for file in folder.iterdir())


def trace_formats() -> list[str]:
    """Return the names of the trace formats.

    Examples
    --------
    >>> trace_formats()[:2]
    ['azure', 'burstgpt']
    """
    from afdplan.files.traces.formats import FORMATS

    return [*(one.name for one in FORMATS), "prometheus"]


def measurement_formats() -> list[str]:
    """Return the names of the formats of measurements."""
    from afdplan.files.measurements.reader import MEASUREMENT_FORMATS

    return list(MEASUREMENT_FORMATS)


def precisions() -> list[str]:
    """Return the names of the formats of weights and caches."""
    from afdplan.calibration.precision import PRECISIONS

    return list(PRECISIONS)


def systems(*others: str) -> list[str]:
    """Return the names of the serving systems, after some others."""
    from afdplan.deploy.names import system_names

    return [*others, *system_names()]


class Completed(StringParamType):
    """A string for which the shell offers names, and maybe files or folders.

    Parameters
    ----------
    names
        Returns the names that are known.
    path
        ``file`` or ``dir`` to let the shell complete paths as well.
    """

    def __init__(
        self, names: Callable[[], list[str] | tuple[str, ...]] = tuple, path: str | None = None
    ) -> None:
        self._names = names
        self._path = path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what begins with `incomplete`; paths are left to the shell."""
        # The path comes first: bash starts its list anew there, and falls back on it.
        found = [] if self._path is None else [CompletionItem(incomplete, type=self._path)]
        return found + [
            CompletionItem(name) for name in self._names() if name.startswith(incomplete)
        ]


FILE, FOLDER = Completed(path="file"), Completed(path="dir")
LATENCY = Completed(lambda: shipped("latency"), "file")
MODEL = Completed(lambda: shipped("models"), "file")
HARDWARE = Completed(lambda: shipped("hardware"), "file")
PRECISION = Completed(precisions)

BY_NAME = {
    "latency": LATENCY,
    "prior": LATENCY,
    "model": MODEL,
    "hardware": HARDWARE,
    "ffn_hardware": HARDWARE,
    "prefill_hardware": HARDWARE,
    "format": Completed(trace_formats),
    "format_name": Completed(measurement_formats),
    "target": Completed(lambda: systems("any")),
    "weight_precision": PRECISION,
    "kv_precision": PRECISION,
    "data": FILE,
    "plan_file": FILE,
    "study": FILE,
    "trace_file": FILE,
}
BY_METAVAR = {"FILE": FILE, "DIR": FOLDER, "FOLDER": FOLDER}
BY_COMMAND = {
    ("deploy", "target"): Completed(systems),
    ("models", "name"): MODEL,
    ("hardware", "name"): HARDWARE,
}


def with_completion(name: str, command: click.Command) -> click.Command:
    """Return the command with strings that complete.

    Parameters
    ----------
    name
        What the command line calls it.
    command
        Whose plain strings are given their completion.
    """
    for parameter in command.params:
        if type(parameter.type) is not StringParamType:
            continue
        chosen = BY_COMMAND.get((name, str(parameter.name)))
        chosen = chosen or BY_NAME.get(str(parameter.name))
        chosen = chosen or BY_METAVAR.get(parameter.metavar or "")
        if chosen is not None:
            parameter.type = chosen
    return command
