"""Does a new serving system touch one file, from plan to launch script?"""

from __future__ import annotations

import json

import pytest

import afdplan.deploy.targets
from afdplan.deploy.registry import find_target, target_names, versions
from afdplan.errors import InvalidInputError
from tests.cli.invoke import invoke
from tests.deployed import words_of
from tests.plans import split_of, written_plan

NEW_SYSTEM = '''
"""A system with pairs of its own, defined by a test."""

from afdplan.deploy.deployment import Deployment, Role
from afdplan.deploy.pairs import PairRule
from afdplan.deploy.target import Target


def deployment(request, target):
    bundle = request.plan.bundle
    words = ("vllm", "--twice", str(bundle.attention_workers))
    target.check(words)
    role = Role(name="server", workers=1, devices=1, workers_per_node=1, command=words)
    return Deployment(
        title="two to one",
        bundles=((role,),) * request.plan.bundles,
        settings={},
        start=("run",),
        assumed=(),
    )


TARGETS = (
    Target(
        name="twice-as-many",
        version="1",
        source="a test",
        pairs=PairRule(
            words="attention must be twice FFN", test=lambda a, f, da, df: a * da == 2 * f * df
        ),
        microbatches=(2,),
        flags=frozenset({"--twice"}),
        split=deployment,
    ),
)
'''


@pytest.fixture
def new_system(tmp_path, monkeypatch):
    folder = tmp_path / "systems"
    folder.mkdir()
    (folder / "twice_as_many.py").write_text(NEW_SYSTEM)
    path = [*afdplan.deploy.targets.__path__, str(folder)]
    monkeypatch.setattr(afdplan.deploy.targets, "__path__", path)
    yield "twice-as-many"
    monkeypatch.delitem(
        __import__("sys").modules, "afdplan.deploy.targets.twice_as_many", raising=False
    )


def test_plan_and_deploy_know_a_system_from_its_one_file(new_system, tmp_path):
    assert new_system in target_names()
    plan = written_plan(
        tmp_path, "--target", new_system, "--devices", 6, drop=("--target", "--devices")
    )
    document = json.loads(plan.read_text())
    best = split_of(plan)
    assert best["attention_workers"] == 2 * best["ffn_workers"]
    assert document["inputs"]["target_version"] == "1"
    split, out = ("--deployment", "split"), tmp_path / "out"
    outcome = invoke("deploy", plan, "--target", new_system, *split, "-o", out)
    assert outcome.code == 0, outcome
    script = tmp_path / "out" / "bundle-001" / "server.sh"
    told = words_of(script, 0, tmp_path / "room")
    assert told == ["vllm", "--twice", str(best["attention_workers"])]


def test_every_other_pair_is_refused(new_system, tmp_path):
    plan = written_plan(tmp_path, "--ffn-workers", 4, "--max-attention-workers", 4)
    split, out = ("--deployment", "split"), tmp_path / "out"
    outcome = invoke("deploy", plan, "--target", new_system, *split, "-o", out)
    assert outcome.code == 1
    assert "attention must be twice FFN" in outcome.error_line
    assert "nearest legal pair" in outcome.error_line


def test_names_versions_and_records_are_whole():
    for name in target_names():
        known = versions(name)
        assert find_target(name) is known[0]
        assert len({target.version for target in known}) == len(known)
        for target in known:
            assert target.name == name
            assert target.source
            assert name == "any" or target.split is not None or target.unsplit is not None
    with pytest.raises(InvalidInputError, match="target must be one of any, fastafd"):
        find_target("triton")
    with pytest.raises(InvalidInputError, match="version of fastafd must be one of 3c71619"):
        find_target("fastafd", "7")
