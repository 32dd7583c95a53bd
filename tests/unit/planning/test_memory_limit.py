"""Is a bundle refused whose requests do not fit the named device, and what fits, named exactly?"""

import inspect
import re
from dataclasses import replace

import pytest

import afdplan
from afdplan.calibration.derived import derived_model
from afdplan.errors import InfeasibleError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.planning.memory_limit import memory_limit, require_memory
from afdplan.simulation.scenario import Scenario
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


def test_one_request_that_does_not_fit_is_one():
    law = IndependentLengths(prompt="fixed:5000000", decode="fixed:1")
    memory = derived_model("deepseek-v3", "h200").memory
    words = re.escape("microbatches does not fit: 1 request takes ") + r".* none fits$"
    with pytest.raises(InfeasibleError, match=words):
        require_memory(law, memory, 1, 1)


def test_nothing_is_known_without_a_device():
    assert require_memory(LAW, None, 10**6, 8) is None


@pytest.mark.parametrize(
    "command", [("ratio",), ("simulate", "--attention-workers", 2, "--requests", 50)]
)
def test_commands_refuse_what_no_device_holds(command):
    outcome = invoke(*command, *NAMED, "--batch-size", 20_000)
    assert outcome.code == 3
    assert "the largest batch size that fits is" in outcome.error_line


def test_python_refuses_what_the_commands_refuse(tmp_path):
    latency = derived_model("deepseek-v3", "h200", ffn_workers=8).latency
    bundle = Bundle(attention_workers=1, ffn_workers=8, batch_size=40_000)
    asked = (*NAMED, "--batch-size", 40_000)
    said = invoke("ratio", *asked).error_line
    assert "does not fit" in said
    assert invoke("simulate", *asked, "--attention-workers", 1).error_line == said
    with pytest.raises(InfeasibleError) as refused:
        afdplan.recommend_ratio(LAW, latency, batch_size=40_000, ffn_workers=8)
    assert said == f"afdplan: {refused.value}"
    with pytest.raises(InfeasibleError) as refused:
        afdplan.simulate(Scenario(bundle=bundle, latency=latency, lengths=LAW))
    assert said == f"afdplan: {refused.value}"
    nameless = replace(latency, memory=None)  # as of a file: nothing is known of its devices
    assert afdplan.recommend_ratio(LAW, nameless, batch_size=40_000, method="mean-field")
    with pytest.raises(TypeError, match="batch_size"):
        afdplan.recommend_ratio(LAW, latency)
    assert "batch_size" in inspect.signature(afdplan.recommend_ratio).parameters


def test_a_page_of_python_offers_only_what_fits(tmp_path):
    latency = derived_model("deepseek-v3", "h200", ffn_workers=8).latency
    most = memory_limit(LAW, latency.memory, 1).largest_batch_size(2)
    page = tmp_path / "page.html"
    answer = afdplan.recommend_ratio(
        LAW, latency, batch_size=most, ffn_workers=8, method="mean-field"
    )
    answer.report(str(page))
    sizes = re.findall(r'name="batch size B" value="(\d+)"', page.read_text())
    assert max(map(int, sizes)) == most
