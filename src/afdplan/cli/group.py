"""Which commands are there? Their modules are imported only when one is called."""

from __future__ import annotations

import importlib

import click

import afdplan
from afdplan.cli.complete import with_completion

__all__ = ["COMMANDS", "cli"]

# In the order in which people use them.
COMMANDS = {
    "workload": "What do my requests look like to an AFD bundle?",
    "calibrate": "How long do attention, FFN and transfer take here?",
    "ratio": "How many attention workers per FFN worker, and what bottleneck?",
    "simulate": "What would such a bundle really do, step by step?",
    "plan": "What to deploy under TPOT, memory and devices, and is a split worth it?",
    "deploy": "The files that start a plan on a serving system.",
    "check": "Does the plan still stand, with today's requests?",
    "sweep": "What do thousands of cases say, from one declared file?",
    "validate": "Why should I believe you? Theory beside simulation, paper, measurements.",
    "models": "Which models does afdplan know, and what are their sizes?",
    "hardware": "Which devices does afdplan know, and how fast are they?",
    "profile": "How long do the stages of a layer take on this machine?",
    "doctor": "What is installed here, and what is missing for which command?",
}


class LazyGroup(click.Group):
    """A group whose commands live in `afdplan.cli.<name>` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order people use them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"afdplan.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return with_completion(cmd_name, command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(afdplan.__version__, prog_name="afdplan")
def cli() -> None:
    """Provision attention-FFN disaggregated (AFD) LLM decoding.

    From a request trace and a latency model to the ratio of attention to FFN workers.
    """
