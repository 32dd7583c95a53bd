"""Do the emitted files agree with each other, parse, and survive hostile names?"""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.cli.invoke import invoke
from tests.deployed import words_of
from tests.plans import edited, split_of, written_plan

HOSTILE = ["$(touch pwned)", "a'b\"c `id` $HOME", "model; rm -rf .", "@HOST@", "ü & | > <"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return written_plan(tmp_path_factory.mktemp("plan"))


def deploy(plan, folder, target, *options):
    split = ("--deployment", "split")
    outcome = invoke("deploy", plan, "--target", target, "-o", folder, *split, *options)
    assert outcome.code == 0, outcome
    return folder


@pytest.mark.parametrize("target", ["vllm-afd-plugin", "fastafd"])
@pytest.mark.parametrize("model", [None, *HOSTILE])
def test_files_parse_and_name_the_model(plan, tmp_path, target, model):
    options = () if model is None else ("--model", model)
    folder = deploy(plan, tmp_path / "out", target, *options)
    scripts = sorted(folder.rglob("*.sh"))
    assert scripts
    for script in scripts:
        subprocess.run([shutil.which("bash"), "-n", str(script)], check=True)
        assert (model or "Qwen/Qwen3-30B-A3B") in words_of(script, 0, tmp_path / "room")
    settings = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["model"] == (model or "Qwen/Qwen3-30B-A3B")
    assert not (tmp_path / "pwned").exists()
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "Check after launch" in readme
    assert "assumed" in readme


def test_scripts_refuse_placeholders_and_bad_nodes(plan, tmp_path):
    folder = deploy(plan, tmp_path / "out", "vllm-afd-plugin")
    script = folder / "bundle-001" / "ffn.sh"
    ran = subprocess.run([str(script), "0"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "set FFN_HOST" in ran.stderr


def test_ranks_of_all_nodes_add_up(plan, tmp_path):
    folder = deploy(plan, tmp_path / "out", "vllm-afd-plugin", "--node-devices", 1)
    best = split_of(plan)
    text = (folder / "bundle-001" / "attention.sh").read_text(encoding="utf-8")
    nodes = re.findall(r"(\d+)\) start=(\d+); local=(\d+)", text)
    assert sum(int(local) for *_, local in nodes) == best["attention_workers"]


def test_hosts_are_written_and_checked(plan, tmp_path):
    bundles = split_of(plan)["bundles"]
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
        (("--target", "triton"), "target must be one of any, fastafd"),
        (("--target", "any"), "no files without a split are written for any: take sglang srt-afd,"),
        (("--target", "any", "--deployment", "split"), "written for any: take fastafd 3c71619,"),
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
    options = ("--ffn-workers", 2, "--max-attention-workers", 3, "--devices", 5)
    plan = written_plan(tmp_path, *options, drop=("--target", "--devices"))
    assert split_of(plan)["attention_workers"] == 3
    outcome = invoke(
        *("deploy", plan, "--target", "fastafd", "-o", tmp_path / "out"), "--deployment", "split"
    )
    assert outcome.code == 1
    assert "nearest legal pair" in outcome.error_line


def test_nothing_is_overwritten(plan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keep.txt").write_text("mine")
    outcome = invoke("deploy", plan, "--target", "fastafd", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["keep.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_plan_that_recommends_no_split_gives_ranks(plan, tmp_path):
    """Both forms of a plan: older ones recommend a split always."""
    document = json.loads(plan.read_text())
    split = split_of(plan)
    forms = {
        "old": {**document, "recommended": {k: v for k, v in split.items() if k != "kind"}},
        "un-split": {
            **document,
            "split": split,
            "recommended": {**document["colocated"], "kind": "un-split"},
        },
    }
    for form, changed in forms.items():
        changed = {k: v for k, v in changed.items() if form == "un-split" or k != "split"}
        path = tmp_path / f"{form}.json"
        path.write_text(json.dumps(changed))
        for choice in ("recommended", "split", "un-split"):
            out = tmp_path / f"{form}-{choice}"
            given = ("--target", "vllm-afd-plugin", "-o", out, "--deployment", choice, "--json")
            outcome = invoke("deploy", path, *given)
            assert outcome.code == 0, outcome
            wanted = choice if choice != "recommended" else {"old": "split"}.get(form, form)
            assert json.loads(outcome.out)["inputs"]["deployment"] == wanted
            names = {script.name for script in (out / "bundle-001").glob("*.sh")}
            assert names == ({"server.sh"} if wanted == "un-split" else {"attention.sh", "ffn.sh"})
    ranks = document["colocated"]
    words = words_of(tmp_path / "un-split-recommended" / "bundle-001" / "server.sh", 0, tmp_path)
    assert words[words.index("--data-parallel-size") + 1] == str(ranks["ranks"])
    assert words[words.index("--max-num-seqs") + 1] == str(ranks["requests_per_rank"])
    document["recommended"] = {"kind": "both"}
    path.write_text(json.dumps(document))
    outcome = invoke("deploy", path, "--target", "vllm-afd-plugin", "-o", tmp_path / "no")
    assert "recommended.kind must be split or un-split" in outcome.error_line


def test_prefill_servers_of_a_planned_service(plan, tmp_path):
    service = {"prefill_workers": 2, "prefill_devices_per_worker": 4}
    served = edited(plan, "service", value=service)
    folder = deploy(served, tmp_path / "out", "vllm-afd-plugin")
    text = (folder / "bundle-001" / "prefill.sh").read_text()
    assert "--tensor-parallel-size 4" in text
    broken = edited(plan, "service", value={"prefill_workers": -1})
    outcome = invoke("deploy", broken, "--target", "vllm-afd-plugin", "-o", tmp_path / "no")
    assert "service.prefill_workers must be" in outcome.error_line


def test_a_port_that_nothing_takes_is_refused(plan, tmp_path):
    asked = ("deploy", plan, "--deployment", "split", "--port", 7100)
    refused = invoke(*asked, "--target", "fastafd", "-o", tmp_path / "f")
    assert "--port is of a rendezvous, which fastafd has none of" in refused.error_line
    assert not (tmp_path / "f").exists()
    folder = tmp_path / "p"
    assert invoke(*asked, "--target", "vllm-afd-plugin", "-o", folder).code == 0
    assert "7100" in (folder / "bundle-001" / "ffn.sh").read_text(encoding="utf-8")
