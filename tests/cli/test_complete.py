"""The tab key offers names and files where an option takes them, in bash, zsh and fish."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.shell_completion import BashComplete
from click.types import StringParamType

from afdplan.calibration.catalogue import shipped_hardware, shipped_models
from afdplan.calibration.precision import PRECISIONS
from afdplan.cli import complete
from afdplan.cli.group import COMMANDS, cli
from afdplan.deploy.names import system_names
from afdplan.deploy.registry import target_names
from afdplan.files.latency_file import built_in_latency_names
from afdplan.files.measurements.reader import MEASUREMENT_FORMATS


def offered(line):
    """Return (kind, value) of what the shell offers at the end of a line."""
    *words, last = line.split(" ")
    found = BashComplete(cli, {}, "afdplan", "_AFDPLAN_COMPLETE").get_completions(words, last)
    return [(item.type, item.value) for item in found]


def plain(*names):
    return [("plain", name) for name in names]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("work", plain("workload")),
        ("ratio --latency deep", [("file", "deep"), *plain("deepseek-v3-ascend-910c")]),
        ("ratio --hardware h20", [("file", "h20"), *plain("h20", "h200")]),
        ("plan --ffn-hardware mi", [("file", "mi"), *plain("mi300x", "mi355x")]),
        ("simulate --model mix", [("file", "mix"), *plain("mixtral-8x22b")]),
        ("models glm-4.5", [("file", "glm-4.5"), *plain("glm-4.5")]),
        ("hardware gb2", [("file", "gb2"), *plain("gb200")]),
        ("profile --model step", [("file", "step"), *plain("step-3", "step-3.7-flash")]),
        ("calibrate --prior deep", [("file", "deep"), *plain("deepseek-v3-ascend-910c")]),
        ("workload --format li", plain("litellm")),
        ("calibrate --format sg", plain("sglang-pool", "sglang-log", "sglang-steps")),
        ("plan --target vllm-afd-p", plain("vllm-afd-plugin")),
        ("deploy --target s", plain("sglang", "stepmesh")),
        ("plan --weight-precision fp", plain("fp8")),
        ("simulate --precision 0", []),
        ("ratio --trace a", [("file", "a")]),
        ("workload a", [("file", "a")]),
        ("deploy plan.json -o d", [("dir", "d")]),
        ("sweep s", [("file", "s")]),
        ("sweep --summary r", [("dir", "r")]),
        ("ratio --overlap p", plain("pipelined")),
        ("ratio --pro", plain("--prompt", "--profile")),
    ],
)
def test_what_is_offered(line, found):
    assert offered(line) == found


def test_every_file_completes():
    for name in COMMANDS:
        for parameter in cli.get_command(click.Context(cli), name).params:
            if any(word in (parameter.metavar or "") for word in ("FILE", "DIR", "FOLDER", "PATH")):
                kinds = [kind for kind, _ in offered(f"{name} {parameter.opts[0]} x")]
                assert kinds in (["file"], ["dir"]), (name, parameter.opts)


def test_names_are_those_that_the_commands_take():
    assert complete.shipped("latency") == built_in_latency_names()
    assert complete.shipped("models") == sorted(shipped_models())
    assert complete.shipped("hardware") == sorted(shipped_hardware())
    for line, names in (
        ("plan --target ", target_names()),
        ("deploy --target ", system_names()),
        ("simulate --kv-precision ", PRECISIONS),
        ("calibrate --format ", MEASUREMENT_FORMATS),
    ):
        assert [value for _, value in offered(line)] == list(names)


def test_values_are_passed_on_as_they_are():
    command = cli.get_command(click.Context(cli), "ratio")
    given = {one.name: one.type for one in command.params}
    assert isinstance(given["trace"], StringParamType)
    assert given["trace"].convert("no/such file", None, None) == "no/such file"


def ask(shell, line):
    words = f"afdplan {line}"
    env = os.environ | {"_AFDPLAN_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
    *before, last = words.split(" ")
    env["COMP_CWORD"] = last if shell == "fish" else str(len(before))
    script = (
        "import sys\nfrom afdplan.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'numba', 'scipy', 'polars', 'matplotlib', 'rich', 'msgspec'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]", "completion must not import heavy libraries"
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_it_and_nothing_heavy_is_imported(shell):
    assert "h800-sxm" in ask(shell, "plan --hardware h8")
    assert "servegen" not in ask(shell, "workload --format s")
    assert "splitwise" in ask(shell, "workload --format s")
    assert "file" in ask(shell, "ratio --trace x")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script(shell):
    done = subprocess.run(
        [sys.executable, "-c", "from afdplan.cli import main; main()"],
        env=os.environ | {"_AFDPLAN_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_AFDPLAN_COMPLETE" in done.stdout
