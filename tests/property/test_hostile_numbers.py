"""Numbers that no one means, in every option that takes one: an answer or a plain refusal.

``AFDPLAN_FUZZ_CASES=5000`` tries more than the tests do; a failure names its options.
"""

import json
import math
import os
import random
import warnings

import numpy as np
import pytest

from afdplan.errors import AfdplanError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.scenario import Scenario
from afdplan.theory.recommend import recommend_ratio
from tests.cli.invoke import invoke

LATENCY = ("--latency", "deepseek-v3-ascend-910c")
LENGTHS = ("--prompt", "geometric:20", "--decode", "geometric:30")
NUMBERS = (
    *(
        "0",
        "-1",
        "1",
        "2",
        "7",
        "0.5",
        "-0.0",
        "1e-320",
        "1e-90",
        "1e90",
        "1e308",
        "1e400",
        "-1e308",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "",
        " ",
        "abc",
        "0x10",
        "1_000",
        "١٢",
        "1e",
        "1,2",
        "9" * 40,
        "1e-5000",
    ),
)
COMMANDS = {
    "ratio": (
        (*LENGTHS, *LATENCY, "--batch-size", "16"),
        ("--batch-size", "--microbatches", "--ffn-weight", "--max-attention-workers"),
    ),
    "plan": (
        ("--model", "deepseek-v2-lite", "--hardware", "h200", *LENGTHS, "--devices", "8",
         "--tpot", "50ms", "--batch-sizes", "8,16", "--per", "currency",
         "--attention-cost", "2", "--ffn-cost", "3"),
        ("--devices", "--attention-cost", "--ffn-cost", "--overflow", "--node-devices",
         "--attention-devices", "--microbatches", "--max-attention-workers", "--rate", "--tpot"),
    ),
    "workload": (LENGTHS, ("--prompt", "--decode")),
}  # fmt: skip
SHARP = ("1e-320", "1e308", "nan")  # tried in every option, the others by chance
CASES = int(os.environ.get("AFDPLAN_FUZZ_CASES", "20"))


def changes_of(command, options):
    yield from ([name, number] for name in options for number in SHARP)
    for seed in range(CASES):
        chance = random.Random(f"{command} {seed}")
        names = chance.sample(options, chance.choice([1, 1, 2]))
        yield [part for name in names for part in (name, chance.choice(NUMBERS))]


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_numbers_are_answered_or_refused(command):
    given, options = COMMANDS[command]
    for told in changes_of(command, options):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # an overflow is no answer
            outcome = invoke(command, *given, *told, "--json")
        assert outcome.code in (0, 1, 2, 3), told
        assert len(outcome.err.strip().splitlines()) <= 4, (told, outcome.err)
        assert "Traceback" not in outcome.err, told
        if outcome.out:
            json.loads(outcome.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
        assert bool(outcome.out) or outcome.code, told


VALUES = (math.nan, math.inf, -1, 0, "x", [], {}, 10**30, 1e308, True, np.float64("nan"), print)
LINES = LatencyModel.linear(attention=(0.1, 50), ffn=(0.1, 30))
LAW = IndependentLengths(prompt="20", decode="geometric:5")


@pytest.mark.parametrize("value", VALUES, ids=lambda value: getattr(value, "__name__", repr(value)))
def test_values_of_any_kind_are_refused_by_functions(value):
    """A failure must be an error of ours: these were AttributeErrors of whatever came first."""
    bundle = Bundle(attention_workers=2, batch_size=4)
    with pytest.raises(AfdplanError):
        Scenario(bundle=bundle, latency=LINES, lengths=LAW, failures=value)
    with pytest.raises(AfdplanError):
        recommend_ratio(law=value, latency=LINES, batch_size=4)
    with pytest.raises(AfdplanError):
        LatencyModel.linear(attention=value, ffn=(0.1, 30))


def test_whole_numbers_of_numpy_are_whole_numbers():
    counts = {"batch_size": 8, "microbatches": 3, "ffn_workers": 2, "max_attention_workers": 6}
    arrays = {name: np.int64(value) for name, value in counts.items()}
    one = recommend_ratio(law=LAW, latency=LINES, **counts)
    other = recommend_ratio(law=LAW, latency=LINES, **arrays)
    assert other.optimal_attention_workers == one.optimal_attention_workers
    assert other.optimal_ratio == one.optimal_ratio
