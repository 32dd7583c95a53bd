"""Do the systems' own parsers take what is emitted? Skipped where they are not installed.

`AFDPLAN_VLLM_PYTHON` names a Python that can import vLLM (the CPU build 0.26.0 was tried),
`AFDPLAN_AFD_PLUGIN` a checkout of vllm-project/afd-plugin (2e4378f), `AFDPLAN_LWS_CRD` the
CustomResourceDefinition of DisaggregatedSet (kubernetes-sigs/lws 060ab4d).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from afdplan.deploy.emit import deployment_files
from afdplan.deploy.registry import find_target, versions
from afdplan.deploy.vllm_serve import SERVE_FLAGS
from afdplan.files.atomic import write_folder
from tests.deployed import scripts, value, words_of
from tests.unit.deploy.cases import MODEL_OF, pair_plan, request_for
from tests.unit.deploy.test_laws import UNSPLIT

VLLM = os.environ.get("AFDPLAN_VLLM_PYTHON")
PLUGIN = os.environ.get("AFDPLAN_AFD_PLUGIN")
CRD = os.environ.get("AFDPLAN_LWS_CRD")

PARSE = """
import json, sys
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.entrypoints.openai.cli_args import make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser())
known = [flag for action in parser._actions for flag in action.option_strings]
lines = json.load(sys.stdin)
told = [vars(parser.parse_args(line)) for line in lines]
names = ("max_num_seqs", "max_num_batched_tokens", "data_parallel_size", "enable_dbo",
         "data_parallel_start_rank", "additional_config", "headless")
print("TOLD", json.dumps({"known": known, "lines": [{n: t.get(n) for n in names} for t in told]}))
"""

CHECK = """
import json, sys
from afd_plugin.config import afd_config_from_mapping
for one in json.load(sys.stdin):
    afd_config_from_mapping(one, validate=True)
"""


def emitted(tmp_path):
    """Return every `vllm serve` line of all versions, with and without a split, on all nodes."""
    lines = []
    for name in ("vllm-afd-plugin", "vllm-afd-ascend"):
        for target in versions(name):
            for unsplit in (False, True) if target.unsplit else (False,):
                hardware = "ascend-910c" if name == "vllm-afd-ascend" else "h200"
                plan = pair_plan(6, 2, 31, unsplit=UNSPLIT, hardware=hardware)
                request = request_for(
                    name,
                    plan,
                    unsplit=unsplit,
                    architecture=next(iter(target.models or {MODEL_OF[name]})),
                    kv_transfer="NixlConnector",
                    max_model_len=8192,
                    node_devices=4,
                )
                folder = tmp_path / f"{name}-{target.version}-{unsplit}"
                write_folder(folder, deployment_files(request, target))
                lines += [
                    words_of(script, node, tmp_path / "room")
                    for script in scripts(folder)
                    for node in (0, 1)
                    if f"  {node})" in script.read_text()
                ]
    return lines


@pytest.mark.skipif(VLLM is None, reason="AFDPLAN_VLLM_PYTHON names no Python with vLLM")
def test_vllm_takes_every_line(tmp_path):
    lines = emitted(tmp_path)
    ran = subprocess.run(
        [VLLM, "-c", PARSE],
        input=json.dumps([["--model", *line[2:]] for line in lines]),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    (text,) = [line[5:] for line in ran.stdout.splitlines() if line.startswith("TOLD ")]
    told = json.loads(text)
    assert set(told["known"]) >= SERVE_FLAGS
    for words, parsed in zip(lines, told["lines"], strict=True):
        assert parsed["max_num_seqs"] == int(value(words, "--max-num-seqs"))
        assert parsed["max_num_batched_tokens"] >= parsed["max_num_seqs"]
        assert parsed["enable_dbo"] == ("--enable-dbo" in words)
        assert parsed["headless"] == ("--headless" in words)


@pytest.mark.skipif(PLUGIN is None, reason="AFDPLAN_AFD_PLUGIN names no checkout of the plugin")
def test_the_plugin_takes_its_configuration(tmp_path):
    target = find_target("vllm-afd-plugin", "2e4378f")
    request = request_for("vllm-afd-plugin", pair_plan(6, 2))
    write_folder(tmp_path / "out", deployment_files(request, target))
    configs = [
        value(words_of(script, 0, tmp_path / "room"), "--additional-config")["afd"]
        for script in scripts(tmp_path / "out")
    ]
    for broken in (False, True):
        if broken:
            configs[0]["turbo"] = 1
        ran = subprocess.run(
            [sys.executable, "-c", CHECK],
            input=json.dumps(configs),
            env={"PYTHONPATH": str(PLUGIN)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode == 0) != broken, ran.stderr


@pytest.mark.skipif(CRD is None, reason="AFDPLAN_LWS_CRD names no schema of DisaggregatedSet")
def test_the_schema_of_disaggregated_set_takes_it():
    validate = pytest.importorskip("jsonschema").validate
    (version, *_) = yaml.safe_load(Path(str(CRD)).read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    _forbid_the_unknown(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    for name in ("vllm-afd-plugin", "vllm-afd-ascend", "sglang", "stepmesh"):
        request = request_for(name, image="img", node_devices=2, plan_digest="abc", per_pod=True)
        plan = dataclasses.replace(request.plan, prefill_workers=3, prefill_devices=2)
        request = dataclasses.replace(request, plan=plan)
        files = deployment_files(request, find_target(name), "kubernetes")
        whole = list(yaml.safe_load_all(files["bundle-001.yaml"]))[-1]
        validate(whole, schema)
        whole["spec"]["roles"][0]["spec"]["leaderWorkerTemplate"]["sizes"] = 1
        with pytest.raises(Exception, match="sizes"):
            validate(whole, schema)


def _forbid_the_unknown(node):
    """Let a schema refuse fields that it does not name, as the server does in strict mode."""
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            _forbid_the_unknown(child)
    if isinstance(node, dict):
        if node.pop("x-kubernetes-int-or-string", False):
            node.pop("anyOf", None)
            node.pop("type", None)
        if isinstance(node.get("properties"), dict):
            node.setdefault("additionalProperties", False)
