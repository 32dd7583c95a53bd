"""Which commands are there? Their modules are imported only when one is called."""

from __future__ import annotations

import importlib

import click

from afdplan.cli.complete import with_completion
from afdplan.model.words import nearest
from afdplan.version import __version__

__all__ = ["COMMANDS", "PROJECT", "cli"]

# In the order in which people use them.
GROUPS = {
    "Measure": {
        "workload": "What do my requests look like to an AFD bundle?",
        "calibrate": "How long do attention, FFN and transfer take here?",
        "profile": "How long do the stages of a layer take on this machine?",
    },
    "Decide": {
        "ratio": "How many attention workers per FFN worker, and what bottleneck?",
        "simulate": "What would such a bundle really do, step by step?",
        "plan": "What to deploy under TPOT, memory and devices, and is a split worth it?",
        "compare": "What differs between two answers, and what does it cost?",
    },
    "Run": {
        "deploy": "The files that start a plan on a serving system.",
        "check": "Does the plan still stand, with today's requests?",
    },
    "Study and prove": {
        "sweep": "What do thousands of cases say, from one declared file?",
        "validate": "Why should I believe you? Theory beside simulation, paper, measurements.",
    },
    "Look up": {
        "models": "Which models does afdplan know, and what are their sizes?",
        "hardware": "Which devices does afdplan know, and how fast are they?",
        "config": "Which options does the project file give, and from where?",
        "doctor": "What is installed here, and what is missing for which command?",
    },
}
COMMANDS = {name: question for group in GROUPS.values() for name, question in group.items()}


PROJECT = "afdplan.project"
"""Where a context keeps the file that --project names."""


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first; of an unknown one say what is near."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r:.60}; {nearest(args[0].lower(), COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, group by group, without importing them."""
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(list(group.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="afdplan")
@click.option(
    "--project",
    metavar="FILE",
    expose_value=False,
    callback=lambda context, _, path: context.meta.update({PROJECT: path}),
    help="Options that need not be typed; by default afdplan.toml here or above, none for none.",
)
def cli() -> None:
    """Provision attention-FFN disaggregated (AFD) LLM decoding.

    From a request trace and a latency model to the ratio of attention to FFN workers.
    """
