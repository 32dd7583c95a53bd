"""Where do requests for files end, which pairs are near, and what was published of each version?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.deploy.connector import Connector
from afdplan.deploy.emit import deployment_files
from afdplan.deploy.names import system_names
from afdplan.deploy.pairs import (
    ANY_PAIR,
    BLOCKS,
    EITHER_MULTIPLE,
    FREE,
    MULTIPLE,
    MUTUAL,
    SINGLE,
    WINDOW,
    PairRule,
)
from afdplan.deploy.registry import find_target, versions
from afdplan.deploy.sglang import spreads
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.files.atomic import write_folder
from tests.deployed import value, words_of
from tests.unit.deploy.cases import pair_plan, request_for
from tests.unit.deploy.test_laws import UNSPLIT


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [("node_devices", 1, 1024), ("port", 1024, 65535), ("max_model_len", 1, 100_000_000)],
)
def test_both_ends_of_a_domain_are_inside(field, low, high):
    for inside in (low, high):
        assert getattr(request_for("fastafd", **{field: inside}), field) == inside
    for outside in (low - 1, high + 1):
        with pytest.raises(InvalidInputError, match=field):
            request_for("fastafd", **{field: outside})


def test_hosts_are_those_of_their_bundle():
    """Two bundles; a third host or a single one is refused."""
    asked = {"ffn_hosts": ("f1", "f2"), "attention_hosts": ("a1", "a2")}
    request = request_for("fastafd", **asked)
    names = ("FFN_HOST", "ATTENTION_HOST")
    assert [[request.host(name, n) for n in (1, 2)] for name in names] == [
        ["f1", "f2"], ["a1", "a2"]
    ]  # fmt: skip
    for hosts in (("f1",), ("f1", "f2", "f3")):
        with pytest.raises(InvalidInputError, match=f"per bundle, 2, got {len(hosts)}"):
            request_for("fastafd", ffn_hosts=hosts)
    assert request_for("fastafd").host("FFN_HOST", 2) == "CHANGE_ME"
    assert request_for("fastafd", one_machine=True).host("FFN_HOST", 2) == "127.0.0.1"


RULES = {
    "ANY_PAIR": (ANY_PAIR, lambda a, f, da, df: True),
    "BLOCKS": (
        BLOCKS, lambda a, f, da, df: a >= f if da == df else (a * da) % (f * df) == 0
    ),
    "EITHER_MULTIPLE": (
        EITHER_MULTIPLE,
        lambda a, f, da, df: (a * da) % (f * df) == 0 or (f * df) % (a * da) == 0,
    ),
    "FREE": (FREE, lambda a, f, da, df: da % df == 0 or df % da == 0),
    "MULTIPLE": (MULTIPLE, lambda a, f, da, df: (a * da) % (f * df) == 0),
    "MUTUAL": (
        MUTUAL,
        lambda a, f, da, df: (a % f == 0 or f % a == 0) and (da % df == 0 or df % da == 0),
    ),
    "SINGLE": (SINGLE, lambda a, f, da, df: f * df == 1),
    "WINDOW": (WINDOW, lambda a, f, da, df: f >= 2 and da == df == 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_pair_rules_on_every_small_pair(name):
    rule, legal = RULES[name]
    a, f = np.meshgrid(np.arange(1, 13), np.arange(1, 13))
    for da, df in ((1, 1), (1, 2), (2, 1), (2, 3), (4, 8)):
        found = np.broadcast_to(rule.test(a, f, da, df), a.shape)
        for x, y, one in zip(a.ravel(), f.ravel(), found.ravel(), strict=True):
            assert bool(one) == bool(legal(x, y, da, df)), (x, y, da, df)


def test_the_busiest_of_a_pair():
    assert [PairRule.peers(a, f) for a, f in ((7, 2), (6, 2), (1, 3))] == [4, 3, 1]


def test_ranks_on_nodes():
    for ranks in range(1, 80):
        nodes = next(n for n in range(1, 80) if n * 8 >= ranks)
        assert bool(spreads(ranks)) == (ranks % nodes == 0 and nodes <= 8)
        four = next(n for n in range(1, 80) if n * 4 >= ranks)
        assert bool(spreads(ranks, 4)) == (ranks % four == 0 and four <= 8)


@pytest.mark.parametrize(
    ("pair", "nearest"), [((8, 3), (9, 3)), ((5, 2), (6, 2)), ((1, 2), (1, 1))]
)
def test_the_nearest_pair(pair, nearest):
    """By the sum of both factors, in logarithms: 9:3 is nearer to 8:3 than 8:4 or 8:2."""
    target = find_target("vllm-afd-plugin", "2e4378f")
    assert target.nearest(*pair, 1, 1) == nearest
    request = request_for("vllm-afd-plugin", pair_plan(*pair))
    with pytest.raises(UnsupportedError, match=f"nearest legal pair {nearest[0]}:{nearest[1]}. "):
        deployment_files(request, target)


def test_no_pair_is_near_where_none_is_legal():
    target = find_target("rtp-llm")
    assert target.nearest(4, 1, 1, 2) is None
    assert target.nearest(4, 7, 1, 1) == (4, 1)
    request = request_for("rtp-llm", pair_plan(4, 1, devices=(1, 2)), architecture="qwen3")
    with pytest.raises(UnsupportedError, match=r"one FFN rank\. Plan again"):
        deployment_files(request, target)


PUBLISHED = {
    "fastafd 3c71619": ((1, 2, 3, 4), "synchronous", False, False),
    "fastafd fork-393bc98": ((1, 2, 3, 4), "synchronous", False, False),
    "rtp-llm 2026-08": ((2,), "synchronous", False, False),
    "rtp-llm moe": ((2,), "synchronous", False, False),
    "sglang srt-afd": ((2,), "synchronous", False, True),
    "sglang host-pool": ((1,), "barrier-free", False, False),
    "stepmesh 740ac12": ((3,), "synchronous", False, False),
    "vllm-afd-ascend 0.30": ((1, 2), "synchronous", False, False),
    "vllm-afd-ascend 2e4378f": ((1, 2), "synchronous", False, False),
    "vllm-afd-ascend pr408": ((1, 2), "synchronous", False, False),
    "vllm-afd-ascend 57bcde1-window": ((1, 2), "synchronous", False, False),
    "vllm-afd-ascend 57bcde1-window-async": ((1, 2), "barrier-free", False, False),
    "vllm-afd-plugin 0.30": ((1, 2), "synchronous", True, True),
    "vllm-afd-plugin 2e4378f": ((1, 2), "synchronous", True, True),
    "vllm-afd-plugin 6fa5b0d": ((1, 2), "barrier-free", True, True),
}
"""Microbatches, execution, whether prompts come from elsewhere, and the plan without a split."""


def test_what_versions_can_do_is_as_published():
    assert {
        f"{one.name} {one.version}": (
            one.microbatches, one.execution, one.prefills, one.unsplit is not None
        )
        for name in system_names()
        for one in versions(name)
    } == PUBLISHED  # fmt: skip


def test_microbatches_pay_from_where_they_were_measured_to():
    known = Connector(name="x", overlap_gain=((100, -0.1), (200, 0.1)))
    assert [known.overlap_pays(n) for n in (1, 149, 150, 200, 999)] == [
        False, False, True, True, True
    ]  # fmt: skip
    assert Connector(name="x").overlap_pays(1)
    sliced, every = Connector(name="x", peers="sliced"), Connector(name="x", peers="all")
    assert [sliced.ffn_size(10, a, f) for a, f in ((2, 6), (3, 3), (4, 3))] == [4, 10, 20]
    assert every.ffn_size(10, 7, 2) == 10
    assert Connector(name="x").ffn_size(10, 2, 6) == 10
    assert (known.host().name, replace(known, attention_first=True).host().name) == (
        "FFN_HOST", "ATTENTION_HOST"
    )  # fmt: skip


@pytest.mark.parametrize("version", ["57bcde1-window", "57bcde1-window-async"])
def test_the_window_takes_512_tokens_a_step(version):
    target = find_target("vllm-afd-ascend", version)
    asked = {"architecture": "deepseek_v4"}
    full = pair_plan(4, 2, 256, 2, hardware="ascend-910c")
    assert deployment_files(request_for("vllm-afd-ascend", full, **asked), target)
    over = pair_plan(4, 2, 257, 2, hardware="ascend-910c")
    with pytest.raises(UnsupportedError, match=r"at most 512 .* 514 .* --max-batch-size 256"):
        deployment_files(request_for("vllm-afd-ascend", over, **asked), target)


@pytest.mark.parametrize(("ranks", "spread"), [(1, False), (2, True)])
def test_one_rank_has_no_one_to_share_its_output_embedding(tmp_path, ranks, spread):
    plan = pair_plan(4, 2, unsplit=replace(UNSPLIT, ranks=ranks))
    request = request_for("sglang", plan, unsplit=True)
    write_folder(tmp_path / "out", deployment_files(request, find_target("sglang")))
    words = words_of(tmp_path / "out" / "bundle-001" / "server.sh", 0, tmp_path / "room")
    assert ("--enable-dp-lm-head" in words) == spread
    assert ("--enable-dp-attention" in words) == spread
    assert "--enable-two-batch-overlap" in words
    assert int(value(words, "--tp-size")) == ranks


def test_which_rules_may_load_ffn_ranks_unevenly():
    uneven = {name for name, (rule, _) in RULES.items() if rule.is_uneven}
    assert uneven == {"BLOCKS", "FREE"}


def test_without_a_barrier_a_token_takes_its_share_of_a_step():
    """30 ms a step, two tokens a step: 15 ms, within a limit of 15 ms, above one of 14."""
    plan = pair_plan()
    plan = replace(
        plan, step_time_p99=None, latency=replace(plan.latency, tokens_per_step=2.0),
        time_per_output_token=0.015,
    )  # fmt: skip
    for limit, words in ((0.015, ", within 0.015 s"), (0.014, ", above 0.014 s"), (None, "")):
        request = request_for("fastafd", replace(plan, time_per_output_token=limit))
        (said,) = request.mode_words
        assert said.startswith(
            f"without a barrier a worker's mean time per token is 0.015 s{words};"
        )
    (known,) = request_for("fastafd").mode_words
    assert known.startswith("the plan's step times are those with a barrier")


def test_rendezvous_ports_of_all_bundles_are_free():
    """Three ports for each of two bundles from 65530 on; none of those that servers have."""
    request = request_for("fastafd", port=65530)
    assert [request.port_of(bundle, 3) for bundle in (1, 2)] == [65530, 65533]
    with pytest.raises(InvalidInputError, match="2 bundles need 4 ports each from 65530 on"):
        request.port_of(1, 4)
    low = request_for("fastafd", port=5000)
    for clear in (range(4000, 5000), range(5006, 6000)):
        assert low.port_of(2, 3, clear) == 5003
    for taken in (range(4000, 5001), range(5005, 6000), range(5002, 5003)):
        with pytest.raises(InvalidInputError, match=f"hold the ports {taken.start} to"):
            low.port_of(1, 3, taken)
