"""Every command and option has a help text, and the page on commands shows all of them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from afdplan.cli.group import COMMANDS, cli

DOCS = Path(__file__).parents[2] / "docs"


def page_writer():
    spec = importlib.util.spec_from_file_location("commands_page", DOCS / "commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built_page():
    source = (DOCS / "commands.md").read_text(encoding="utf-8")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="commands.md"))
    return page_writer().on_page_markdown(source, page=page, config=None, files=None)


def command_of(name):
    return cli.get_command(click.Context(cli), name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name):
    command = command_of(name)
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert len((parameter.help or "").split()) > 1, parameter.opts
            assert parameter.help.endswith("."), parameter.opts
        else:  # an argument has no help of its own: the command's speaks of it
            shown = parameter.make_metavar(click.Context(command)).strip("[].").lower()
            assert shown.split("|")[0] in f"{command.help} {command.epilog}".lower(), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_shows_every_option(name):
    section = built_page().split(f"\n## afdplan {name}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `-")]
    options = [one for one in command_of(name).params if isinstance(one, click.Option)]
    assert len(rows) == len(options)
    for row, option in zip(rows, options, strict=True):
        assert row.startswith(f"| `{', '.join(option.opts)}")
        assert len(re.findall(r"(?<!\\)\|", row)) == 4, row  # three cells
        assert "UNSET" not in row


def test_defaults_and_choices_are_shown():
    text = built_page()
    assert "| `--microbatches INTEGER` | In flight, 1 to 8. | `2` |" in text
    assert "`--overlap pipelined\\|ideal`" in text
    assert "| required |" in text


def test_the_mark_is_replaced_on_its_page_only():
    assert "<!-- commands -->" not in built_page()
    other = SimpleNamespace(file=SimpleNamespace(src_uri="other.md"))
    assert page_writer().on_page_markdown("<!-- commands -->", page=other) == "<!-- commands -->"
