"""Is every parameter declared once: do Python, study files, options and JSON say what it says?"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import click
import pytest

import afdplan
from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.calibration.placement import place
from afdplan.cli.group import cli
from afdplan.errors import InvalidInputError
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.bundle import Bundle
from afdplan.model.parameter import Parameter
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.simulation.scenario import Arrivals, Scenario, Variation
from afdplan.studies.kinds import compute_kind
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio
from tests.cli.invoke import invoke

SOURCE = Path(afdplan.__file__).parent
DECLARED = [
    (name, value)
    for module in (ask, of_plan)
    for name, value in vars(module).items()
    if isinstance(value, Parameter)
]
RECORDS = dict(DECLARED)
LATENCY_COMMANDS = ("ratio", "simulate", "plan", "check")
QUESTIONS = {
    Bundle: ask.BUNDLE,
    RatioProblem: ask.PROBLEM,
    recommend_ratio: (*ask.PROBLEM, ask.MAX_ATTENTION_WORKERS),
    Scenario: (ask.OVERLAP, *ask.SCENARIO),
    Arrivals: (ask.ARRIVALS, ask.ARRIVAL_RATE, ask.ARRIVAL_CV),
    Variation: ask.VARIATION,
    Limits: (*of_plan.LIMITS, of_plan.OPTIONAL_DEVICES),
    DeviceCost: of_plan.COST,
    place: (ask.LINK, ask.SPECULATIVE_TOKENS, ask.ACCEPTANCE, ask.FFN_DEVICES, ask.FFN_WORKERS),
    LatencyChoice: (ask.SPECULATIVE_TOKENS, ask.ACCEPTANCE),
}


def command(name):
    return cli.get_command(click.Context(cli), name)


def test_names_are_used_once():
    names = [record.name for _, record in DECLARED]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_python_defaults_are_those_of_the_records(question):
    signature = inspect.signature(question).parameters
    for record in QUESTIONS[question]:
        default = signature[record.field].default
        assert default == record.default or default is inspect.Parameter.empty


def literal_defaults():
    """Yield every default in `src` that repeats a declared one as a number or text."""
    told = {r.field: r.default for r in RECORDS.values() if r.default not in (None, 0, 1, 1.0)}
    for path in SOURCE.rglob("*.py"):
        if path.name in ("parameters.py", "plan_parameters.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            pairs = []
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                both = (*arguments.posonlyargs, *arguments.args)
                pairs = [
                    *zip(
                        both[len(both) - len(arguments.defaults) :], arguments.defaults, strict=True
                    )
                ]
                pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                pairs = [(argument.arg, value) for argument, value in pairs]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                pairs = [(node.target.id, node.value)]
            for name, value in pairs:
                if isinstance(value, ast.Constant) and name in told and value.value == told[name]:
                    yield f"{path.relative_to(SOURCE)}:{node.lineno} {name} = {value.value!r}"


def test_no_default_is_written_twice():
    assert [one for one in literal_defaults() if not one.startswith("validation/")] == []


def test_no_option_of_these_commands_is_declared_elsewhere():
    declared = {record.option for record in RECORDS.values()}
    for name in ("ratio", "simulate", "plan", "check", "workload", "options", "plan_options"):
        tree = ast.parse((SOURCE / "cli" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.option":
                first = node.args[0]
                assert not (isinstance(first, ast.Constant) and first.value in declared), name


@pytest.mark.parametrize("name", ["ratio", "simulate", "plan", "check", "workload"])
def test_options_are_those_of_the_records(name):
    by_option = {}
    for record in RECORDS.values():
        by_option.setdefault(record.option, []).append(record)
    found = 0
    for option in command(name).params:
        for record in by_option.get(option.opts[0], ()):
            if option.help != record.help:
                continue  # the same word of another question, or told anew for a list
            found += 1
            if record.choices and name != "simulate":
                assert tuple(option.type.choices) == record.choices
            assert option.default in (record.default, None, "saturated")
            if option.default is None and isinstance(option.show_default, str):
                assert option.show_default == str(record.default)
    assert found >= 4


@pytest.mark.parametrize("name", LATENCY_COMMANDS)
def test_every_command_takes_the_same_choice_of_latency(name):
    options = {option.opts[0] for option in command(name).params}
    assert {record.option for record in (ask.LATENCY, *ask.DERIVED)} <= options


def test_studies_take_the_records():
    for kind in ("ratio", "simulate", "plan"):
        variables = compute_kind(kind).variables
        assert {record.name for record in ask.LATENCY_CHOICE} <= set(variables)
        for record in RECORDS.values():
            if record.name not in variables:
                continue
            one = variables[record.name]
            same = dataclasses.replace(one, default=record.default, choices=record.choices)
            assert same == record
    assert compute_kind("ratio").variables["microbatches"].default == ask.MICROBATCHES.default


def test_one_default_reaches_help_python_studies_and_json():
    laws = ("--prompt", "geometric:20", "--decode", "geometric:30")
    done = invoke(
        "ratio", *laws, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 8, "--json"
    )
    for record in (ask.MICROBATCHES, ask.OVERLAP, ask.METHOD, ask.PHASE, ask.FFN_WORKERS):
        assert done.document["inputs"][record.key] == record.default
    text = " ".join(invoke("ratio", "--help").out.split())
    assert f"{ask.MICROBATCHES.help} [default: {ask.MICROBATCHES.default}]" in text


@pytest.mark.parametrize(
    ("record", "wrong", "told"),
    [
        (ask.MICROBATCHES, 9, "microbatches must be an integer >= 1 and <= 8, got 9"),
        (ask.ACCEPTANCE, 1.5, "acceptance must be <= 1, got 1.5"),
        (ask.CONFIDENCE, 1, "confidence must be < 1, got 1"),
        (ask.FFN_WEIGHT, 0, "ffn_weight must be a finite number > 0, got 0"),
        (ask.OVERLAP, "none", "overlap must be one of pipelined, ideal"),
        (ask.TRACE, "", "trace must be text"),
    ],
)
def test_domains(record, wrong, told):
    with pytest.raises(InvalidInputError, match=told.replace("(", r"\(")):
        record.check(wrong)
