"""Which options does the project file give a command that were not typed?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from afdplan.cli.group import PROJECT
from afdplan.cli.help import GroupedCommand
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan

if TYPE_CHECKING:
    from afdplan.files.project_file import ProjectFile

__all__ = ["PARAMETERS", "ProjectCommand", "filled_in", "project_file", "taken"]

PARAMETERS = (
    *(*ask.WORKLOAD, of_plan.PLANNED_WINDOW, ask.CONFIDENCE),
    *(*ask.LATENCY_CHOICE, of_plan.KV_TOKENS, of_plan.COLOCATED_KV_TOKENS),
    *(*of_plan.LIMITS, *of_plan.TARGETS, *of_plan.COST, of_plan.LARGEST_BATCH_SIZE),
    *(*ask.SLOTS, *ask.RATIO),
)
"""What a project file may hold."""
_TRACE = tuple(one.key for one in (ask.TRACE, *ask.OF_TRACE))
_LAWS = (ask.PROMPT.key, ask.DECODE.key)
_MEASURED = tuple(one.key for one in (ask.LATENCY, of_plan.KV_TOKENS, of_plan.COLOCATED_KV_TOKENS))
_DERIVED = tuple(one.key for one in ask.DERIVED)
_NAMED = tuple(one.key for one in ask.NAMED)
_SLOTS = (ask.BATCH_SIZE.key, ask.REQUESTS_PER_WORKER.key)
ALTERNATIVES = (
    (_LAWS, _TRACE),
    ((ask.TRACE.key, "trace_file"), _LAWS),
    (("trace_file",), (ask.TRACE.key,)),
    (("metrics", "prometheus", "settings"), _TRACE),
    ((ask.LATENCY.key,), _DERIVED),
    (_NAMED, _MEASURED),
    (_SLOTS, _SLOTS),
)
"""Options which, typed, take the place of others that the project gives."""
ONLY = {"check": _TRACE}
"""A plan is checked with its own stage times and limits."""
OTHERWISE = {"simulate": (of_plan.REQUESTS_PER_SECOND.key,)}
"""Keys under which a command asks for something else."""
FROM_PROJECT = "afdplan.from_project"
"""Where a context keeps what a command took."""


def project_file(context: click.Context) -> ProjectFile | None:
    """Return the project file that --project names, or else the nearest one; None without."""
    from afdplan.files.project_file import find_project, read_project

    asked = context.meta.get(PROJECT)
    if asked == "none":
        return None
    path = find_project(Path.cwd()) if asked is None else Path(asked)
    return None if path is None else read_project(path, [one.key for one in PARAMETERS])


def taken(
    command: click.Command, given: Mapping[str, Any], values: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Return the values, with their origins, that a command takes from the project.

    Parameters
    ----------
    command
        Which one.
    given
        Options that were typed, by name: they and what they replace are left out.
    values
        Those of the project and its profile.
    """
    name = str(command.name)
    known = {str(parameter.name) for parameter in command.params} - {*OTHERWISE.get(name, ())}
    # An argument that is left out is there all the same, as none of these.
    typed = {key for key, value in given.items() if isinstance(value, str | bool | tuple) and value}
    out = {key for one, other in ALTERNATIVES if typed & {*one} for key in other}
    return {
        key: value
        for key, value in values.items()
        if key in known and key in ONLY.get(name, known) and key not in typed | out
    }


class ProjectCommand(GroupedCommand):
    """A command that takes what was not typed from the project file."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params.append(
            click.Option(
                ["--profile"],
                metavar="NAME",
                expose_value=False,
                help="Profile of the project file, afdplan.toml here or above.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed, and fill in what the project says."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        project, profile = None, given.get("profile")
        if not given.get("help"):
            project = project_file(ctx)
        if project is None and profile is not None:
            raise click.UsageError("--profile names a part of a project file, but there is none")
        values = {} if project is None else taken(self, given, project.merged(profile))
        ctx.default_map = {key: value for key, (value, _) in values.items()}
        ctx.meta[FROM_PROJECT] = values
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            origin = values.get(str(error.param.name)) if error.param else None
            if origin is None:
                raise
            raise click.BadParameter(
                f"{error.message} (from {origin[1]})", ctx=error.ctx, param=error.param
            ) from None


def filled_in(context: click.Context) -> list[str]:
    """Return the options that the project gave, as one would have typed them."""
    words: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            words += [parameter.opts[-1], context.meta[FROM_PROJECT][name][0]]
    return words
