"""Do the emitted files agree with each other, parse, and survive hostile names?"""

import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from afdplan.deploy.flags import FASTAFD, VLLM_AFD_PLUGIN
from afdplan.errors import UnsupportedError
from tests.cli.invoke import invoke
from tests.plans import written_plan

HOSTILE = ["$(touch pwned)", "a'b\"c `id` $HOME", "model; rm -rf .", "@HOST@", "ü & | > <"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return written_plan(tmp_path_factory.mktemp("plan"))


def deploy(plan, folder, target, *options):
    outcome = invoke("deploy", plan, "--target", target, "-o", folder, *options)
    assert outcome.code == 0, outcome
    return folder


def command_line(script):
    """Return the words that bash passes to the last command of a script."""
    text = script.read_text(encoding="utf-8")
    return shlex.split(text[text.index("exec ") :])


@pytest.mark.parametrize("target", ["vllm-afd-plugin", "fastafd"])
@pytest.mark.parametrize("model", [None, *HOSTILE])
def test_files_parse_and_name_the_model(plan, tmp_path, target, model):
    options = () if model is None else ("--model", model)
    folder = deploy(plan, tmp_path / "out", target, *options)
    scripts = sorted(folder.rglob("*.sh"))
    assert scripts
    for script in scripts:
        subprocess.run([shutil.which("bash"), "-n", str(script)], check=True)
        assert (model or "Qwen/Qwen3-30B-A3B") in command_line(script)
    settings = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["model"] == (model or "Qwen/Qwen3-30B-A3B")
    assert not (tmp_path / "pwned").exists()
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "Check after launch" in readme
    assert "assumed" in readme


def test_both_roles_agree(plan, tmp_path):
    folder = deploy(plan, tmp_path / "out", "vllm-afd-plugin")
    best = json.loads(plan.read_text())["split"]
    a, f = best["attention_workers"], best["ffn_workers"]
    words = {r: command_line(folder / "bundle-001" / f"{r}.sh") for r in ("attention", "ffn")}

    def value(role, flag):
        return words[role][words[role].index(flag) + 1]

    def config(role):
        text = value(role, "--additional-config")
        return json.loads(text.replace("$FFN_HOST", "host"))["afd"]

    attention, ffn = config("attention"), config("ffn")
    assert attention.pop("role") == "attention"
    assert ffn.pop("role") == "ffn"
    assert attention == ffn
    assert (attention["num_attention_ranks"], attention["num_ffn_ranks"]) == (a, f)
    slots = best["requests_per_attention_worker"]
    assert int(value("attention", "--max-num-seqs")) == slots
    assert int(value("ffn", "--max-num-seqs")) * f == a * slots  # B_F = A B / F
    for role, line in words.items():
        graph = json.loads(value(role, "--compilation-config"))
        assert graph["cudagraph_capture_sizes"] == [int(value(role, "--max-num-seqs"))]
        assert ("--enable-dbo" in line) == (best["microbatches"] == 2)
    for flag in ("--dbo-decode-token-threshold", "--dbo-prefill-token-threshold"):
        assert value("attention", flag) == value("ffn", flag)


@pytest.mark.parametrize(
    ("target", "allowed"), [("vllm-afd-plugin", VLLM_AFD_PLUGIN), ("fastafd", FASTAFD)]
)
def test_every_flag_is_on_the_allow_list(plan, tmp_path, target, allowed):
    for script in deploy(plan, tmp_path / "out", target).rglob("*.sh"):
        text = script.read_text(encoding="utf-8")
        flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
        assert flags
        assert flags <= allowed.flags


def test_unknown_flags_are_refused():
    with pytest.raises(UnsupportedError, match="--turbo"):
        VLLM_AFD_PLUGIN.check(["--turbo"])
    with pytest.raises(UnsupportedError, match="ports"):
        VLLM_AFD_PLUGIN.check([], {"ports": 1})


def test_scripts_refuse_placeholders_and_bad_nodes(plan, tmp_path):
    folder = deploy(plan, tmp_path / "out", "vllm-afd-plugin")
    script = folder / "bundle-001" / "ffn.sh"
    ran = subprocess.run([str(script), "0"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "set FFN_HOST" in ran.stderr


def test_ranks_of_all_nodes_add_up(plan, tmp_path):
    folder = deploy(plan, tmp_path / "out", "vllm-afd-plugin", "--node-devices", 1)
    best = json.loads(plan.read_text())["split"]
    text = (folder / "bundle-001" / "attention.sh").read_text(encoding="utf-8")
    nodes = re.findall(r"(\d+)\) start=(\d+); local=(\d+)", text)
    assert sum(int(local) for *_, local in nodes) == best["attention_workers"]


def test_hosts_are_written_and_checked(plan, tmp_path):
    bundles = json.loads(plan.read_text())["split"]["bundles"]
    hosts = ",".join(f"10.0.0.{k + 1}" for k in range(bundles))
    folder = deploy(plan, tmp_path / "out", "vllm-afd-plugin", "--ffn-host", hosts)
    assert "FFN_HOST=10.0.0.1" in (folder / "bundle-001" / "cluster.env").read_text()
    bad = invoke(
        *("deploy", plan, "--target", "vllm-afd-plugin", "-o", tmp_path / "no"),
        *("--ffn-host", "x;reboot"),
    )
    assert bad.code == 1
    assert "host names or addresses" in bad.error_line
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "triton"), "target must be one of vllm-afd-plugin, fastafd"),
        (("--target", "fastafd", "--model", "-rf"), "must not start with '-'"),
        (("--target", "fastafd", "--model", "a\nb"), "control characters"),
        (("--target", "vllm-afd-plugin", "--port", 80), "port must be"),
    ],
)
def test_refusals(plan, tmp_path, options, message):
    outcome = invoke("deploy", plan, "-o", tmp_path / "out", *options)
    assert outcome.code == 1
    assert message in outcome.error_line
    assert not (tmp_path / "out").exists()


def test_illegal_pairs_are_refused_with_the_nearest(tmp_path):
    plan = written_plan(
        *(tmp_path, "--target", "any", "--ffn-workers", 2, "--max-attention-workers", 3),
        *("--devices", 5),
    )
    if json.loads(plan.read_text())["split"]["attention_workers"] != 3:
        pytest.skip("another pair is best")
    outcome = invoke("deploy", plan, "--target", "vllm-afd-plugin", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "nearest legal pair" in outcome.error_line


def test_nothing_is_overwritten(plan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keep.txt").write_text("mine")
    outcome = invoke("deploy", plan, "--target", "fastafd", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["keep.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
