"""Which options does the project file give, and where does each value come from?"""

from __future__ import annotations

import click

from afdplan.cli.project import PARAMETERS, project_file
from afdplan.cli.report import documented, json_option, print_json, tell

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan config
  afdplan config --profile night --json
"""


@click.command("config", epilog=EXAMPLES)
@click.option("--profile", metavar="NAME", help="As if this profile were asked for.")
@json_option
@click.pass_context
def command(context: click.Context, profile: str | None, as_json: bool) -> None:
    """Show the options of the project file, afdplan.toml here or above, with their origin.

    Typed options go before a profile, a profile before the project, the project before defaults.
    """
    from afdplan.report.config import Setting, config_answer, config_told

    project = project_file(context)
    if project is None and profile is not None:
        raise click.UsageError("--profile names a part of a project file, but there is none")
    found = {} if project is None else project.merged(profile)
    settings = []
    for one in dict.fromkeys(PARAMETERS):
        default = None if one.default is None else str(one.default)
        value, origin = found.get(one.key, (default, "default"))
        settings.append(Setting(name=one.key, value=value, origin=origin))
    path = None if project is None else str(project.path)
    profiles = () if project is None else tuple(project.profiles)
    if as_json:
        answered = documented(
            time_unit="s",
            inputs={"profile": profile},
            warnings=(),
            answer=config_answer(path, profiles, settings),
        )
        print_json(answered)
        return
    tell(config_told(path, profiles, settings))
