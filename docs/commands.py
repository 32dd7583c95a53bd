"""Write the options of every command into the page on commands when the site is built."""

from __future__ import annotations

import inspect
import re
from typing import Any

import click

from afdplan.cli.group import COMMANDS, cli

__all__ = ["commands_markdown", "on_page_markdown"]

PAGE = "commands.md"
MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page with every command in place of the mark (called by mkdocs)."""
    return markdown.replace(MARK, commands_markdown()) if page.file.src_uri == PAGE else markdown


def commands_markdown() -> str:
    """Return all commands in Markdown, in the order in which people use them."""
    with click.Context(cli, info_name="afdplan", **cli.context_settings) as parent:
        return "\n".join(_command(name, parent) for name in COMMANDS)


def _command(name: str, parent: click.Context) -> str:
    command = cli.get_command(parent, name)
    assert command is not None
    with click.Context(command, info_name=name, parent=parent) as ctx:
        pieces = " ".join(command.collect_usage_pieces(ctx))
        options = [one for one in command.params if isinstance(one, click.Option)]
        rows = [_row(option, ctx) for option in options if not option.hidden]
    parts = [
        f"## afdplan {name}",
        f"*{COMMANDS[name]}*",
        f"```text\nafdplan {name} {pieces}\n```",
        _text(command.help or ""),
        "| option | meaning | default |\n|---|---|---|\n" + "\n".join(rows),
    ]
    if command.epilog:
        examples = inspect.cleandoc(command.epilog.replace("\b", "").strip()).splitlines()
        if examples[0] == "Examples:":
            examples = examples[1:]
        parts.append("```sh\n" + inspect.cleandoc("\n".join(["", *examples])) + "\n```")
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """Return help text with options as code."""
    plain = inspect.cleandoc(text).replace("\b", "")
    return re.sub(r"(?<![\w`])--[a-z][a-z0-9-]*", r"`\g<0>`", plain).replace("<", "&lt;")


def _row(option: click.Option, ctx: click.Context) -> str:
    """Return one option as a row of the table."""
    names = ", ".join((*option.opts, *option.secondary_opts))
    if isinstance(option.type, click.Choice):
        value = "|".join(str(choice) for choice in option.type.choices)
    elif option.is_flag or option.count:
        value = ""
    else:
        value = option.make_metavar(ctx).removesuffix(" RANGE")
    default = option.get_default(ctx)
    shown = ""
    if option.required:
        shown = "required"
    elif isinstance(default, str | int | float) and not option.is_flag:
        shown = f"`{default}`"
    meaning = _text(option.help or "").replace("|", "\\|").replace("\n", " ")
    name = f"{names} {value}".strip().replace("|", "\\|")
    again = " May be repeated." if option.multiple else ""
    return f"| `{name}` | {meaning}{again} | {shown} |"
