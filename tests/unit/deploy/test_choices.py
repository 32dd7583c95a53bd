"""Which pair, which version, which words: every choice at its edge, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.deploy.deployment import Role, evenly, nodes_of
from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.deploy.modes import in_mode
from afdplan.deploy.pairs import ANY_PAIR, FREE, SINGLE, PairRule
from afdplan.deploy.registry import find_target
from afdplan.deploy.running import differences
from afdplan.deploy.target import ANY
from afdplan.deploy.templates import _lines, placement_words
from afdplan.deploy.words import Variable, flags, joined_hosts, plain, shell
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.files.plan_barrier_free import BarrierFreePlan
from afdplan.files.running import RunningSettings
from tests.unit.deploy.cases import pair_plan, request_for
from tests.unit.deploy.test_laws import UNSPLIT

MODE = BarrierFreePlan(
    attention_workers=6, step_time=0.025, step_time_p99=0.029, least_calls=3, gain=0.1
)


def only(a, f):
    """Return a target that runs one pair only."""
    rule = PairRule(words="one", test=lambda x, y, *_: (x == a) & (y == f))
    return replace(ANY, pairs=rule)


@pytest.mark.parametrize(
    ("a", "f", "found"),
    [(84, 1, True), (85, 1, False), (1, 44, True), (1, 45, False), (1, 1, True)],
)
def test_how_far_a_legal_pair_is_looked_for(a, f, found):
    """From 5:3 up to 4 x 5 + 64 attention workers, and 4 x 3 + 32 FFN workers."""
    assert only(a, f).nearest(5, 3, 1, 1) == ((a, f) if found else None)


def test_no_rule_takes_a_side_without_workers():
    for rule in (ANY_PAIR, FREE, SINGLE, find_target("sglang", "host-pool").pairs):
        for a in (0, 1, 2):
            assert bool(rule.test(a, 1, 1, 1)) == (a > 0)
    for rule in (ANY_PAIR, FREE):
        assert [bool(rule.test(1, f, 1, 1)) for f in (0, 1, 2)] == [False, True, True]


def test_which_targets_restrict():
    assert not ANY.restricts
    assert find_target("fastafd").restricts
    assert not find_target("vllm-afd-plugin", "6fa5b0d").restricts
    assert ANY.microbatches == (1, 2, 3)


def test_a_version_knows_what_it_registers():
    listed, none = replace(ANY, models=frozenset({"a"})), ANY
    assert [listed.knows(name) for name in ("a", "a_text", "", "b")] == [True, True, True, False]
    assert none.knows("b")


def test_flags_and_keys_apart():
    target = replace(ANY, flags=frozenset({"--a"}), keys=frozenset({"k"}))
    target.check(["--a", "b", "-c"], ["k"])
    for words, keys in ((["--b"], []), ([], ["--a"]), (["--a", "--k"], ["k"])):
        with pytest.raises(UnsupportedError, match="must not be emitted"):
            target.check(words, keys)


@pytest.mark.parametrize(("gain", "free"), [(1e-9, True), (0.0, False), (-0.1, False)])
def test_without_a_barrier_where_it_gains(gain, free):
    plan = replace(pair_plan(4, 2), barrier_free=replace(MODE, gain=gain))
    version = "6fa5b0d" if free else "0.30"
    assert in_mode(plan, "vllm-afd-plugin")[1].version == version
    assert in_mode(plan, "vllm-afd-plugin", "2e4378f")[1].version == "2e4378f"
    assert in_mode(plan, "vllm-afd-plugin", None, "synchronous")[1].version == "0.30"
    asked, target = in_mode(plan, "vllm-afd-plugin", None, "barrier-free")
    assert (target.version, asked.bundle.attention_workers) == ("6fa5b0d", 6)


def test_the_version_of_the_plan_is_kept_for_its_own_system():
    plan = replace(pair_plan(4, 2), target="vllm-afd-plugin", target_version="2e4378f")
    assert in_mode(plan, "vllm-afd-plugin") == (plan, find_target("vllm-afd-plugin", "2e4378f"))
    assert in_mode(plan, "vllm-afd-plugin", "0.30")[1].version == "0.30"
    assert in_mode(plan, "vllm-afd-plugin", None, "synchronous")[1].version == "0.30"
    other = replace(plan, target="sglang")
    assert in_mode(other, "vllm-afd-plugin")[1].version == "0.30"
    # A plan of a version without a barrier that compared nothing stands as it is.
    free = replace(plan, target_version="6fa5b0d")
    assert in_mode(free, "vllm-afd-plugin") == (free, find_target("vllm-afd-plugin", "6fa5b0d"))
    with pytest.raises(InvalidInputError, match="the plan compared no modes"):
        in_mode(plan, "vllm-afd-plugin", None, "barrier-free")


@pytest.mark.parametrize(
    ("plan", "model"),
    [(pair_plan(4, 2, m=3), ""), (pair_plan(4, 2, m=2), "qwen3_moe")],
)
def test_a_version_that_cannot_run_it_is_not_chosen(plan, model):
    """GpuAsync takes one or two microbatches, and its version registers no Qwen3."""
    plan = replace(plan, barrier_free=MODE)
    assert in_mode(plan, "vllm-afd-plugin", model_type=model)[1].version == "0.30"


def test_pairs_of_several_devices_in_the_mode_that_is_chosen():
    """The pool takes workers of one device; six hosts, whatever A of the split with a barrier."""
    for devices, version in (((1, 1), "host-pool"), ((2, 1), "srt-afd"), ((1, 2), "srt-afd")):
        plan = replace(pair_plan(4, 1, m=1, devices=devices), barrier_free=MODE)
        assert in_mode(plan, "sglang")[1].version == version


def test_the_rate_without_a_barrier_counts_every_slot_and_token_of_a_step():
    """Two bundles of 6 + 2 in 17 devices, 2 microbatches of 24 each, 2 tokens in 25 ms."""
    plan = pair_plan(4, 2, 24, 2)
    plan = replace(
        plan, barrier_free=MODE, inputs={"devices": 17},
        latency=replace(plan.latency, tokens_per_step=2),
    )  # fmt: skip
    found, _ = in_mode(plan, "vllm-afd-plugin")
    assert found.tokens_per_second == pytest.approx(2 * 6 * 48 * 2 / 0.025)
    assert (found.bundles, found.bundle.batch_size, found.least_calls) == (2, 24, 3)


def test_what_a_server_runs_otherwise():
    plan, target = pair_plan(4, 2, 24), find_target("vllm-afd-plugin")

    def of(role, **values):
        return differences(plan, target, RunningSettings(role=role, values=values))

    assert of("attention", cache_tokens=100_000) == ()  # the cache alone will do
    assert [one.name for one in of("attention", cache_tokens=99_999)] == ["cache_tokens"]
    assert of("ffn", max_num_seqs=96, cache_tokens=1) == ()  # what fits beside FFN weights
    (wrong,) = of("ffn", max_num_seqs=95)
    assert (wrong.name, wrong.planned, wrong.running) == ("max_num_seqs", 96, 95)
    assert of("attention", enable_dbo=1) == ()
    assert [one.planned for one in of("attention", enable_dbo=0)] == [1]
    for role, values in (("attention", {"x": 1}), ("ffn", {"cache_tokens": 1}), ("attention", {})):
        with pytest.raises(InvalidInputError, match="tells none of the planned settings"):
            of(role, **values)
    with pytest.raises(InvalidInputError, match="runs as server, the plan has ffn and attention"):
        of("server", max_num_seqs=48)
    with pytest.raises(InvalidInputError, match="names no system to compare"):
        differences(plan, ANY, RunningSettings(role="attention", values={}))
    both = replace(plan, unsplit=UNSPLIT)
    served = RunningSettings(role="server", values={"max_num_seqs": 60, "cache_tokens": 1})
    assert differences(replace(both, recommends_unsplit=True), target, served) == ()
    with pytest.raises(InvalidInputError, match="runs as server"):
        differences(both, target, served)
    unknown = replace(plan, cache_capacity=None)
    with pytest.raises(InvalidInputError, match="tells none of the planned settings"):
        differences(unknown, target, RunningSettings(role="attention", values={"cache_tokens": 1}))


def test_words_of_a_command():
    host = Variable("FFN_HOST")
    assert shell(("", host, ":80")) == '"$FFN_HOST":80'
    assert (shell(""), shell(())) == ("''", "''")
    assert plain(("a", host, ":1"), {"FFN_HOST": "h"}) == "ah:1"
    assert joined_hosts([(host, "80"), (":80", host), (host, host), (host, "-", ":1")]) == set()
    assert joined_hosts([("tcp://", host, ":1", Variable("B"))]) == {"FFN_HOST"}
    assert flags(["--a", "b", host, ("--c",), "-d"]) == ["--a"]
    assert _lines(["x", "--a", "1", "--b", host]) == 'x \\\n  --a 1 \\\n  --b "$FFN_HOST"'
    assert _lines(["--a", "1"]) == "--a 1"
    assert _lines([]) == ""


def test_workers_and_their_nodes():
    assert [nodes_of(*given) for given in ((9, 1, 8), (9, 3, 8), (1, 3, 8), (5, 8, 8))] == [
        8, 2, 1, 1,
    ]  # fmt: skip
    with pytest.raises(InvalidInputError, match="9 devices does not fit on a node of 8"):
        nodes_of(1, 9, 8)
    assert [evenly(*given) for given in ((9, 8), (8, 8), (17, 8), (1, 8))] == [5, 8, 6, 1]
    role = Role(
        name="x", workers=5, devices=1, workers_per_node=2,
        command=("a", Variable("node"), Variable("OWN"), Variable("local"), Variable("start")),
        first=(Variable("B_HOST"),), others=(Variable("A_HOST"),), prepare=(Variable("P"),),
        join=(Variable("J"),), environment={"E": Variable("V")},
    )  # fmt: skip
    assert role.shares == ((0, 2), (2, 2), (4, 1))
    assert role.hosts == ("A_HOST", "B_HOST")
    assert role.asks == ("J", "OWN", "P", "V")
    assert (role.nodes, role.health, role.is_independent) == (3, "/health", False)


def test_what_is_said_of_placement():
    target = find_target("fastafd")
    for placement, count in ((None, 1), ("fewest-tokens", 1), ("longest-prompt", 2), ("x", 1)):
        plan = replace(pair_plan(), inputs={"hardware": "h200", "placement": placement})
        words = placement_words(request_for("fastafd", plan), target)
        assert len(words) == count
        assert words[0] == f"{target.placement}."
    assert placement_words(request_for("fastafd"), replace(target, placement="")) == []


def test_what_a_readme_promises():
    """30 ms a step of two tokens: 15 ms a token; without a split 20 ms and its own rate."""
    target = find_target("vllm-afd-plugin")
    plan = pair_plan(unsplit=UNSPLIT)

    def readme(plan, **options):
        files = deployment_files(request_for(target.name, plan, **options), target)
        assert set(files) >= {"README.md", "settings.yaml"}
        assert "checklist.md" not in files
        for name, text in files.items():
            assert text.endswith("\n"), name
            if name.endswith(".sh"):
                assert "\n\n\n" not in text
                assert not any(line.startswith((" export", " need")) for line in text.splitlines())
        return files["README.md"]

    split = readme(plan)
    assert "- mean step time 30 ms (30 ms per output token), p99 40 ms\n" in split
    assert "12 devices in all." in split
    assert "\n## Placement of requests\n" in split
    assert "\n1. Set `FFN_HOST`" in split
    alone = readme(plan, unsplit=True)
    assert "- mean step time 20 ms (20 ms per output token), p99 30 ms\n" in alone
    assert "- 50,000 tokens/s with every slot busy" in alone
    assert "32 devices in all." in alone
    without = readme(replace(plan, step_time_p99=None))
    assert "- mean step time 30 ms (30 ms per output token)\n" in without


def test_the_second_bundle_is_looked_at_too():
    """A pair of hosts each: an IPv6 address where a port follows it, in the second bundle only."""
    hosts = {"ffn_hosts": ("f1", "fd00::1"), "attention_hosts": ("a1", "a2")}
    target = find_target("sglang")
    with pytest.raises(UnsupportedError, match=r"instead of fd00::1$"):
        deployment_of(request_for("sglang", **hosts), target)
    hosts["ffn_hosts"] = ("f1", "10.0.0.1")
    assert deployment_of(request_for("sglang", **hosts), target)
    files = deployment_files(request_for("sglang", **hosts), target)
    assert [files[f"bundle-00{k}/cluster.env"].splitlines()[-2:] for k in (1, 2)] == [
        ["ATTENTION_HOST=a1", "FFN_HOST=f1"], ["ATTENTION_HOST=a2", "FFN_HOST=10.0.0.1"],
    ]  # fmt: skip


def test_jobs_of_slurm_place_roles_one_after_the_other():
    """Of the FFN two nodes, of attention four, on nodes of one device."""
    request = request_for("vllm-afd-plugin", pair_plan(4, 2), node_devices=1)
    files = deployment_files(request, find_target("vllm-afd-plugin"), "slurm")
    job = files["bundle-002/job.sbatch"]
    for line in (
        "#SBATCH --job-name=afdplan-002", "#SBATCH --nodes=6", "#SBATCH --gres=gpu:1",
        'export FFN_HOST="${hosts[0]}"', 'export ATTENTION_HOST="${hosts[2]}"',
        "start ffn 0 2", "start attention 2 4",
    ):  # fmt: skip
        assert line in job.splitlines()


def test_the_last_port_of_all():
    """Six from 65530 on end at 65535, the highest that there is; a seventh would be beyond."""
    request = request_for("fastafd", pair_plan(bundles=1), port=65530)
    assert request.port_of(1, 6) == 65530
    with pytest.raises(InvalidInputError, match="1 bundles need 7 ports each from 65530 on"):
        request.port_of(1, 7)


def test_those_that_can_are_named_where_one_cannot():
    with pytest.raises(UnsupportedError, match=r"written for any: take fastafd 3c71619, .*plugin"):
        deployment_of(request_for("fastafd"), ANY)
    request = request_for("fastafd", pair_plan(unsplit=UNSPLIT), unsplit=True)
    with pytest.raises(UnsupportedError, match=r"for fastafd 3c71619: take sglang srt-afd, vllm-"):
        deployment_of(request, find_target("fastafd"))


def test_how_the_cache_travels_is_kept_where_it_was_named():
    plan = replace(pair_plan(), prefill_workers=1, prefill_devices=1)
    for named, used in ((None, "NixlConnector"), ("MooncakeConnector", "MooncakeConnector")):
        request = request_for("vllm-afd-plugin", plan, kv_transfer=named)
        for role in deployment_of(request, find_target("vllm-afd-plugin")).bundles[0][1:]:
            told = role.command[role.command.index("--kv-transfer-config") + 1]
            assert f'"kv_connector":"{used}"' in told[0]


def test_devices_of_another_maker_are_refused():
    for hardware, device in (("ascend-910c", None), ("my-chip", "ascend"), (None, "ascend")):
        plan = replace(pair_plan(), inputs={"hardware": hardware})
        with pytest.raises(UnsupportedError, match="runs on nvidia devices, the plan is for asc"):
            deployment_of(request_for("fastafd", plan, device=device), find_target("fastafd"))
    unknown = replace(pair_plan(), inputs={})
    assert deployment_of(request_for("fastafd", unknown), find_target("fastafd"))


def test_which_versions_there_are():
    free = "barrier-free"
    assert find_target("vllm-afd-plugin", None, free).version == "6fa5b0d"
    assert find_target("vllm-afd-plugin", "0.30", "synchronous").version == "0.30"
    for given, error, words in (
        (("fastafd", None, free), UnsupportedError, "^fastafd has no .*: take another system$"),
        (("fastafd", "3c71619", free), UnsupportedError, "^fastafd 3c71619 has no barrier-free"),
        (("vllm-afd-plugin", "0.30", free), UnsupportedError, "that have it: 6fa5b0d$"),
        (("fastafd", "x"), InvalidInputError, "must be one of 3c71619, fork-393bc98, got 'x'$"),
        (("fastafd", "x", free), InvalidInputError, "must be one of 3c71619, fork-393bc98"),
        (("fast",), InvalidInputError, "target must be one of any, fastafd"),
    ):
        with pytest.raises(error, match=words):
            find_target(*given)
