"""Is a number outside its option's domain refused by the option's name, in every command?"""

from __future__ import annotations

import click
import pytest

from afdplan.cli.group import COMMANDS, cli
from tests.cli.invoke import invoke

NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
ARGUMENTS = {
    "calibrate": ("stages.csv",),
    "deploy": ("plan.json", "--target", "fastafd", "-o", "out"),
    "check": ("plan.json",),
    "sweep": ("study.toml",),
    "workload": ("trace.csv",),
}
"""What else a command cannot do without; no file is there, and none is looked for."""


def numeric_options():
    """Every option of a number, of every command, as it is declared."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.type, NUMBERS):
                yield name, option.opts[0], option.type


OPTIONS = sorted((name, option, type(kind).__name__) for name, option, kind in numeric_options())


@pytest.mark.parametrize(("command", "option", "kind"), OPTIONS)
def test_a_number_out_of_its_domain_is_refused_by_the_name_of_its_option(command, option, kind):
    beyond = "9" * 400 if kind == "IntParamType" else "1e300"
    for value in ("-1", "-9999999999999999999", "nan", "inf", "0", beyond):
        outcome = invoke(command, option, value, *ARGUMENTS.get(command, ()))
        assert outcome.code in (1, 2), (value, outcome)
        line = outcome.error_line
        is_plain = value.startswith("-") or " must be " in line or "not a valid" in line
        assert option in line or not is_plain, (value, line)
        if value.startswith("-"):  # a number, but none of the domain: a failure, not usage
            assert outcome.code == 1, (value, line)


@pytest.mark.parametrize("option", ["--attention-workers", "--ffn-workers"])
@pytest.mark.parametrize("value", ["0", "-0.5", "-1"])
def test_options_that_are_given_once_per_file_are_held_to_it_too(option, value):
    outcome = invoke("calibrate", "steps.jsonl", option, "2", option, value)
    assert outcome.code == 1
    assert outcome.error_line.startswith(f"afdplan: {option} must be a finite number > 0, got ")


@pytest.mark.parametrize("value", ["0", "-3", "2,-3", "4,0"])
def test_a_list_of_bundles_is_held_to_the_domain_of_each(value):
    outcome = invoke("simulate", "--attention-workers", value)
    assert outcome.code == 1
    assert outcome.error_line.startswith("afdplan: --attention-workers must be an integer >= 1 and")
