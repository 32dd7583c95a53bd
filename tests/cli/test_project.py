"""Does a project file stand in for what was not typed, and is that said?"""

from __future__ import annotations

import shlex

import pytest

from tests.cli.invoke import invoke

PROJECT = """trace = "requests.csv"
columns = "prompt=ctx,decode=out"
latency = "deepseek-v3-ascend-910c"
batch_size = 16
max-attention-workers = 32

[profile.large]
batch_size = 64

[profile.derived]
devices = "many"
"""
LAWS = ("--prompt", "geometric:100", "--decode", "geometric:50")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project, and a folder below it to work in."""
    (tmp_path / "afdplan.toml").write_text(PROJECT)
    rows = [f"{100 + 37 * k % 900},{1 + k * k % 300}" for k in range(200)]
    (tmp_path / "requests.csv").write_text("\n".join(["ctx,out", *rows]) + "\n")
    below = tmp_path / "below" / "it"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def answer(*given):
    outcome = invoke(*given)
    assert outcome.code == 0, outcome.err
    found = outcome.document
    return {key: value for key, value in found.items() if key != "command"}, found["command"]


def test_what_is_not_typed_comes_from_the_project_found_upwards(folder):
    ours, command = answer("ratio", "--json")
    typed = (
        *("ratio", "--trace", folder / "requests.csv", "--columns", "prompt=ctx,decode=out"),
        *("--latency", "deepseek-v3-ascend-910c", "--batch-size", 16),
        *("--max-attention-workers", 32, "--json"),
    )
    assert ours == answer("--project", "none", *typed)[0]
    assert ours["inputs"]["batch_size"] == 16
    # The line that is told asks the same without the file.
    (folder / "afdplan.toml").write_text('latency = "other"\n')
    assert answer(*shlex.split(command)[1:]) == (ours, command)


def test_typed_options_go_before_a_profile_before_the_project(folder):
    assert answer("ratio", "--json")[0]["inputs"]["batch_size"] == 16
    ours, command = answer("ratio", "--profile", "large", "--json")
    assert ours["inputs"]["batch_size"] == 64
    assert "--profile" not in command
    assert answer("ratio", "--batch-size", 8, "--profile=large", "--json")[0]["inputs"][
        "batch_size"
    ] == 8  # fmt: skip
    assert answer("ratio", "--requests-per-worker", 20, "--json")[0]["inputs"]["batch_size"] == 10


def test_what_is_typed_takes_the_place_of_its_alternatives(folder):
    inputs = answer("ratio", *LAWS, "--json")[0]["inputs"]
    assert inputs["prompt"] == "geometric:100"
    assert "trace" not in inputs
    (folder / "afdplan.toml").write_text(PROJECT + '\n[profile.laws]\nprompt = "5"\n')
    named = ("--model", "qwen3-30b-a3b", "--hardware", "h100", "--batch-size", 4)
    assert answer("ratio", *named, "--json")[0]["time_unit"] == "s"
    other = folder / "other.csv"
    other.write_text("prompt_tokens,decode_tokens,ctx,out\n" + "5,5,70,9\n8,8,90,4\n" * 20)
    assert answer("workload", other, "--json")[0]["inputs"]["trace"] == str(other)


def test_config_shows_each_value_with_its_origin(folder):
    document = invoke("config", "--profile", "large", "--json").document
    values = {one["name"]: (one["value"], one["origin"]) for one in document["values"]}
    path = str(folder / "afdplan.toml")
    assert document["file"] == path
    assert document["profiles"] == ["large", "derived"]
    assert values["batch_size"] == ("64", f"{path} [profile.large]")
    assert values["trace"] == (str(folder / "requests.csv"), path)
    assert values["microbatches"] == ("2", "default")
    text = " ".join(invoke("config").out.split())
    assert "gives 5 options" in text
    assert invoke("--project", "none", "config", "--json").document["file"] is None


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("bach_size = 4", ("ratio", *LAWS), "unknown key bach_size; did you mean batch_size?"),
        ("[profiles.a]\ntrace = 'x'", ("ratio",), "unknown key profiles; did you mean profile?"),
        ("[profile.a]\ntrase = 'x'", ("ratio",), "trase in [profile.a]; did you mean trace?"),
        ("batch_size = [4]", ("ratio", *LAWS), "must be text or a number"),
        ("profile = 3", ("ratio", *LAWS), "profiles must be tables"),
        ("[profile.night]\n", ("ratio", "--profile", "nihgt"), "did you mean night?"),
        ("devices = ", ("config",), "afdplan.toml"),
        ("# nothing\n", ("config", "--profile", "x"), "has no profile 'x'"),
        (f"latency = '{'a' * 300}'", ("ratio", *LAWS, "--batch-size", "8"), "no latency model"),
    ],
)
def test_a_wrong_project_is_refused_with_the_mend(folder, text, given, said):
    (folder / "afdplan.toml").write_text(text + "\n")
    outcome = invoke(*given)
    assert outcome.code == 1
    assert said in outcome.error_line


def test_a_value_that_is_no_number_names_its_file(folder):
    (folder / "afdplan.toml").write_text('devices = "many"\n')
    outcome = invoke("plan", *LAWS, "--latency", "deepseek-v3-ascend-910c", "--kv-tokens", "1e5")
    assert outcome.code == 2
    assert f"(from {folder / 'afdplan.toml'})" in outcome.error_line


def test_a_profile_without_a_project_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is none" in invoke("--project", "none", "ratio", "--profile", "x").error_line


@pytest.mark.parametrize(("name", "meant"), [("rato", "ratio"), ("plna", "plan")])
def test_an_unknown_command_names_the_nearest(name, meant):
    outcome = invoke(name)
    assert outcome.code == 2
    assert f"did you mean {meant}?" in outcome.error_line


def test_help_groups_commands_and_options():
    text = invoke("--help").out
    assert text.index("Decide:") < text.index("  plan ") < text.index("Run:")
    text = invoke("plan", "--help").out
    assert text.index("Requests:") < text.index("--trace") < text.index("Limits:")
    assert text.index("Limits:") < text.index("--tpot") < text.index("Output:")


def test_a_project_file_that_is_none_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "afdplan.toml"
    path.symlink_to(tmp_path / "gone.toml")
    assert "afdplan.toml must be a file" in invoke("config").error_line
    assert invoke("--project", "none", "config").code == 0
    path.unlink()
    path.mkdir()
    assert "afdplan.toml must be a file" in invoke("config").error_line


def test_a_value_out_of_its_domain_names_the_project_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afdplan.toml").write_text("batch_size = -3\n")
    laws = ("--prompt", 9, "--decode", 9, "--latency", "deepseek-v3-ascend-910c")
    said = invoke("ratio", *laws).error_line
    assert "--batch-size of the project file must be an integer >= 1" in said
