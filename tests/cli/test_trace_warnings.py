"""Do all commands that read a trace pass on what is wrong with it?"""

import numpy as np
import pytest

from tests.cli.invoke import invoke
from tests.plans import SMALL, written_plan

PLAN = ("plan", *SMALL[4:])
COMMANDS = {
    "workload": ("workload",),
    "ratio": ("ratio", "--latency", "deepseek-v3-ascend-910c", "--batch-size", 8),
    "simulate": (
        *("simulate", "--latency", "deepseek-v3-ascend-910c", "--batch-size", 4),
        *("--attention-workers", 2, "--requests", 20),
    ),
    "plan": PLAN,
}


def write(path, prompts, decodes):
    rows = "".join(f"{p},{d}\n" for p, d in zip(prompts, decodes, strict=True))
    path.write_text("prompt_tokens,output_tokens\n" + rows)
    return path


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    rng = np.random.default_rng(1)
    decodes = rng.geometric(1 / 50, 2000)
    prompts = rng.geometric(1 / 500, 2000)
    return {
        "drifts": write(
            folder / "drift.csv", prompts * np.linspace(1, 9, 2000).astype(int), decodes
        ),
        "0 tokens": write(folder / "zero.csv", np.zeros(2000, int), decodes),
        "no interval": write(folder / "one.csv", [500], [50]),
    }


@pytest.mark.parametrize("words", ["drifts", "0 tokens", "no interval"])
@pytest.mark.parametrize("name", [*COMMANDS, "check"])
def test_every_command_passes_warnings_on(name, words, traces, tmp_path):
    command = ("check", written_plan(tmp_path)) if name == "check" else COMMANDS[name]
    outcome = invoke(*command, "--trace", traces[words], "--json")
    if (name, words) == ("workload", "no interval"):
        assert "at least 2 requests" in outcome.error_line
        return
    assert outcome.code in (0, 4), outcome
    assert any(words in warning for warning in outcome.document["warnings"])


@pytest.mark.parametrize("name", ["simulate", "plan"])
def test_the_text_shows_them(name, traces):
    out = invoke(*COMMANDS[name], "--trace", traces["0 tokens"]).out
    assert "every prompt has 0 tokens" in " ".join(out.split())
