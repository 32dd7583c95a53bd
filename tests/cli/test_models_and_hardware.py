import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from afdplan.cli.hardware import command as hardware
from afdplan.cli.models import command as models
from afdplan.errors import InvalidInputError
from tests.cli.invoke import invoke


@pytest.mark.parametrize(("command", "key"), [(models, "models"), (hardware, "hardware")])
def test_lists_in_json(command, key):
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["time_unit"] == "s"
    assert len(document[key]) >= 8
    assert all(entry["name"] for entry in document[key])


@pytest.mark.parametrize("command", [models, hardware])
def test_lists_for_people_fit_into_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 0
    assert "…" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_one_model_and_one_device():
    shown = CliRunner().invoke(models, ["deepseek-ai/deepseek-V3.2"]).stdout
    assert "671.9 B" in shown
    assert "top 2048" in shown
    shown = CliRunner().invoke(hardware, ["910c"]).stdout
    assert "die" in shown
    assert "assumption" in shown


def test_unknown_names_give_the_nearest():
    result = CliRunner().invoke(models, ["deepseek-v4"])
    assert isinstance(result.exception, InvalidInputError)
    assert "nearest" in str(result.exception)


def test_json_says_too_as_what_a_model_is_read(tmp_path):
    config = {
        "model_type": "new_moe", "hidden_size": 2048, "intermediate_size": 6144,
        "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
        "vocab_size": 151936,
    }  # fmt: skip
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    said = invoke("models", file, "--json").document["warnings"]
    assert any("model_type new_moe is not known: read as qwen3_moe" in one for one in said)


def test_profile_without_torch_names_the_mend():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from afdplan.cli.profile import command\n"
        "from afdplan.errors import AfdplanError\n"
        "try:\n    command([], standalone_mode=False)\n"
        "except AfdplanError as error:\n    print(error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert out == "afdplan profile needs torch: pip install 'afdplan[profile]'\n"


def test_a_printed_device_can_be_saved_changed_and_used(tmp_path):
    printed = CliRunner().invoke(hardware, ["h200", "--json"]).stdout
    device = json.loads(printed)["hardware"][0]
    assert device["power"] == 700
    assert all(key.isidentifier() for key in device)
    whole = tmp_path / "my-device.json"
    whole.write_text(printed)
    one = tmp_path / "facts.json"
    one.write_text(json.dumps(device))
    asked = ("ratio", "--model", "deepseek-v3", "--prompt", 100, "--decode", 50, "--batch-size", 8)
    shipped = invoke(*asked, "--hardware", "h200", "--json").document
    for path in (whole, one):
        found = invoke(*asked, "--hardware", path, "--json").document
        assert found["curve"] == shipped["curve"]
    several = tmp_path / "all.json"
    several.write_text(CliRunner().invoke(hardware, ["--json"]).stdout)
    outcome = invoke(*asked, "--hardware", several)
    assert outcome.code == 1
    assert "must hold one device" in outcome.error_line
    both = tmp_path / "both.json"
    both.write_text(json.dumps(device | {"watts": 1}))
    assert "give one of them" in invoke(*asked, "--hardware", both).error_line


def test_thousands_have_separators():
    for name in ((), ("b300",)):  # sources are quoted
        text = invoke("hardware", *name, "--full").out.partition("sources")[0]
        assert "14,000" in text
        assert not re.search(r"(?<![\w.,:-])\d{4,}(?![\w-])", text), text
        assert " us" not in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--overflow", 2, "--devices", 4), "--overflow must be <= 1, got 2"),
        (("--rate", "1e300/s"), "--rate must be of a size from 1e-100 to 1e+100, got 1e+300"),
        (("--devices", 200_000), "--devices must be an integer >= 1 and <= 100,000, got 200,000"),
        (("--max-batch-size", 10**9, "--devices", 4), "--max-batch-size must be an integer"),
    ],
)
def test_a_value_out_of_its_domain_is_called_by_its_option(given, said):
    laws = ("--prompt", "9", "--decode", "9", "--latency", "deepseek-v3-ascend-910c")
    refused = invoke("plan", *laws, *given)
    assert refused.code == 1
    assert said in refused.error_line
