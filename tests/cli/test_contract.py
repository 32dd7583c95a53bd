"""Is everything still there that programs and people relied on before the house was redrawn?

`tests/samples/contract.json` was written from commit 961d009 of 2026-11-26, by this test with
`AFDPLAN_WRITE_CONTRACT=1` in the environment: every option of every command and every name in the
JSON documents of the runs below. Names may be added; none may go.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.invoke import invoke
from tests.plans import SMALL

SNAPSHOT = Path(__file__).parents[1] / "samples" / "contract.json"
LAWS = ("--prompt", "geometric:100", "--decode", "geometric:50")
MODEL = ("--latency", "deepseek-v3-ascend-910c")
TRACE = Path(__file__).parents[2] / "src/afdplan/data/example_trace.csv.gz"
RUNS: dict[str, tuple[Any, ...]] = {
    "workload": ("workload", TRACE),
    "ratio of laws": ("ratio", *LAWS, *MODEL, "--batch-size", 16),
    "ratio of a trace": (
        *("ratio", "--trace", TRACE, "--model", "qwen3-30b-a3b", "--hardware", "h100"),
        *("--batch-size", 16, "--ffn-workers", 2),
    ),
    "ratio with a horizon": (
        *("ratio", *LAWS, *MODEL, "--batch-size", 16, "--method", "mean-field", "--horizon", 100),
    ),
    "simulate": (
        *("simulate", *LAWS, *MODEL, "--batch-size", 4, "--attention-workers", 2),
        *("--requests", 200),
    ),
    "simulate arrivals": (
        *("simulate", *LAWS, *MODEL, "--batch-size", 4, "--attention-workers", 2),
        *("--requests", 200, "--arrivals", "poisson", "--rate", "0.0001"),
    ),
    "plan": ("plan", *SMALL),
    "models": ("models",),
    "one model": ("models", "qwen3-30b-a3b"),
    "hardware": ("hardware",),
    "one device": ("hardware", "h100"),
}


def options_of_commands() -> dict[str, list[str]]:
    from afdplan.cli.group import COMMANDS, cli

    context = click.Context(cli)
    found = {}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        names = (name for p in command.params for name in (*p.opts, *p.secondary_opts))
        found[name] = sorted(names)
    return found


def names_in(value: Any, prefix: str = "") -> set[str]:
    """Return every path of names; the entries of a list share theirs."""
    if isinstance(value, dict):
        found = {f"{prefix}.{name}" if prefix else name for name in value}
        for name, part in value.items():
            found |= names_in(part, f"{prefix}.{name}" if prefix else name)
        return found
    if isinstance(value, list):
        return set().union(*(names_in(part, f"{prefix}[]") for part in value)) if value else set()
    return set()


def snapshot() -> dict[str, Any]:
    documents = {
        name: sorted(names_in(invoke(*run, "--json").document)) for name, run in RUNS.items()
    }
    return {"options": options_of_commands(), "documents": documents}


if os.environ.get("AFDPLAN_WRITE_CONTRACT"):
    SNAPSHOT.write_text(json.dumps(snapshot(), indent=1) + "\n", encoding="utf-8")


def test_no_option_is_lost():
    then = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["options"]
    now = options_of_commands()
    lost = {name: sorted(set(options) - set(now.get(name, ()))) for name, options in then.items()}
    assert {name: options for name, options in lost.items() if options} == {}


@pytest.mark.parametrize("name", RUNS)
def test_no_json_name_is_lost(name):
    then = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["documents"][name]
    now = names_in(invoke(*RUNS[name], "--json").document)
    # Where no split is recommended, what it would be stands under another name.
    now |= {name.replace("split.", "recommended.", 1) for name in now if name.startswith("split.")}
    assert sorted(set(then) - now) == []
