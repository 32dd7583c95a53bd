"""Is every emitted line one that the system's own parser takes, as recorded?"""

from __future__ import annotations

import dataclasses

import pytest

from afdplan.deploy.emit import deployment_files, deployment_of
from afdplan.files.atomic import write_folder
from tests.deployed import ran
from tests.unit.deploy.cases import NEEDED, request_for
from tests.unit.deploy.recorded_parsers import PROGRAMS, refuses
from tests.unit.deploy.test_every_number import CASES
from tests.unit.deploy.test_laws import UNSPLIT, plan_for


def lines(tmp_path, target, unsplit):
    plan = dataclasses.replace(plan_for(target, unsplit=UNSPLIT), prefill_workers=2)

    hardware = plan.inputs["hardware"]
    kv = None if hardware == "h200" and target.name != "vllm-afd-plugin" else "NixlConnector"
    request = request_for(
        target.name, plan, unsplit=unsplit, architecture=NEEDED.get(target.name, ""),
        max_model_len=8192, quantization="fp8", kv_transfer=kv,
    )  # fmt: skip
    write_folder(tmp_path / "out", deployment_files(request, target))
    for role in deployment_of(request, target).bundles[0]:
        for node in range(role.nodes):
            script = tmp_path / "out" / "bundle-001" / f"{role.name}.sh"
            for one in ran(script, node, tmp_path / "room", together=role.is_independent):
                yield one.words


@pytest.mark.parametrize(
    ("target", "unsplit"),
    [case for case in CASES if case[0].name != "stepmesh"],  # which has no command line
    ids=lambda x: f"{x.name}-{x.version}" if hasattr(x, "name") else x,
)
def test_every_line_is_taken_and_a_wrong_one_is_not(tmp_path, target, unsplit):
    seen = 0
    for words in lines(tmp_path, target, unsplit):
        if words[0] == "ray":
            continue
        asked = (target.name, target.version)
        assert not refuses(words, *asked)
        seen += 1
        assert refuses([*words, "--turbo", "1"], *asked)
        for at, word in enumerate(words):
            if word.startswith("--"):
                assert refuses([*words[:at], f"{word}x", *words[at + 1 :]], *asked), word
    assert seen


def test_every_flag_that_may_be_emitted_is_recorded():
    recorded = {flag for known in PROGRAMS.values() for flag in known}
    for target, _ in CASES:
        assert target.flags <= recorded | {"--afd-model-placement"}


def test_what_fastafd_checks_itself():
    line = ["python", "-m", "minisgl", "--cache-type", "naive", "--afd-num-mb", "2",
            "--afd-batch-size", "8", "--afd-attn-tp-size", "2", "--afd-mlp-tp-size", "4",
            "--afd-mlp-dp-size", "2", "--afd-mlp-ep-size", "8"]  # fmt: skip
    assert not refuses(line, "fastafd", "3c71619")
    for flag, value in (
        ("--afd-num-mb", "9"),
        ("--afd-attn-tp-size", "3"),
        ("--afd-mlp-ep-size", "2"),
        ("--cache-type", "radix"),
        ("--afd-batch-size", "many"),
    ):
        wrong = list(line)
        wrong[wrong.index(flag) + 1] = value
        assert refuses(wrong, "fastafd", "3c71619"), flag
