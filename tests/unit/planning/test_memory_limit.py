"""Is a bundle refused whose requests do not fit the named device, and what fits, named exactly?"""

import re

import pytest

from afdplan.calibration.derived import derived_model
from afdplan.errors import InfeasibleError
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.planning.memory_limit import memory_limit, require_memory
from tests.cli.invoke import invoke

LAW = IndependentLengths(prompt="geometric:2000", decode="geometric:500")
NAMED = (
    *("--model", "deepseek-v3", "--hardware", "h200", "--ffn-workers", 8),
    *("--prompt", "geometric:2000", "--decode", "geometric:500"),
)


def test_the_largest_batch_that_fits_is_named():
    memory = derived_model("deepseek-v3", "h200").memory
    with pytest.raises(InfeasibleError, match="does not fit") as refused:
        require_memory(LAW, memory, 20_000, 2)
    most = int(re.search(r"fits is ([\d,]+)", str(refused.value))[1].replace(",", ""))
    assert require_memory(LAW, memory, most, 2).largest_batch_size(2) == most
    with pytest.raises(InfeasibleError):
        require_memory(LAW, memory, most + 1, 2)
    space = CacheSpace.of(memory)
    held = CacheMemory(CacheSums(LAW, space.kinds), space)
    assert held.overflow_probability(2 * most) <= 1e-3 < held.overflow_probability(2 * most + 2)


def test_bytes_are_those_of_the_loads():
    """DeepSeek-V3 keeps 576 numbers of 2 bytes per layer and token in its 61 layers."""
    limit = memory_limit(LAW, derived_model("deepseek-v3", "h200").memory, 100)
    load = LAW.token_load().mean
    assert limit.mean_bytes == pytest.approx(100 * load * 576 * 2 * 61, rel=1e-6)


def test_nothing_is_known_without_a_device():
    assert require_memory(LAW, None, 10**6, 8) is None


@pytest.mark.parametrize(
    "command", [("ratio",), ("simulate", "--attention-workers", 2, "--requests", 50)]
)
def test_commands_refuse_what_no_device_holds(command):
    outcome = invoke(*command, *NAMED, "--batch-size", 20_000)
    assert outcome.code == 3
    assert "the largest batch size that fits is" in outcome.error_line
