"""Which options say what runs now: snapshots of engines, or a Prometheus server?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["running_options", "window_seconds"]

Command = TypeVar("Command", bound=Callable[..., Any])


def running_options(command: Command) -> Command:
    """Add --metrics, --prometheus, --window and --selector."""
    options = [
        click.option(
            "--metrics",
            metavar="FILE",
            multiple=True,
            help="Snapshot of an engine's /metrics, JSON of Prometheus's API, or forward pass "
            "metrics; - for standard input; two snapshots are subtracted. prompt=FILE, "
            "decode=FILE for results without names.",
        ),
        click.option("--prometheus", metavar="URL", help="Ask this Prometheus server instead."),
        click.option(
            "--window",
            metavar="TIME",
            default="1h",
            show_default=True,
            help="Of --prometheus: the last 30min, 1h, 1d.",
        ),
        click.option(
            "--selector", metavar="LABELS", default="", help='Which engines: job="decode".'
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def window_seconds(text: str) -> float:
    """Return how long --window says [s]."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", text.strip())
    per = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    seconds = float(match[1]) * per[match[2]] if match else 0.0
    if not 1 <= seconds <= 366 * 86400.0:
        raise click.UsageError(f"--window must be a time such as 30min, 1h or 1d, got {text!r}")
    return seconds
