"""Does the text of every command fit a screen, end with its command, and say what it leaves out?"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from afdplan.report.brief import LINES, pasted, shortened, to_brief
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling
from tests.cli.invoke import invoke
from tests.media import shown_lines
from tests.traces import SHORT

TRACE = Path(__file__).parents[2] / "src/afdplan/data/example_trace.csv.gz"
MADE_UP = ("--latency", "deepseek-v3-ascend-910c")
DERIVED = ("--model", "qwen3-30b-a3b", "--hardware", "h100")
LAWS = ("--prompt", "geometric:100", "--decode", "geometric:50")
BUNDLE = ("--batch-size", 8, "--attention-workers", "1,2", "--requests", 300)
STUDY = """name = "s"
compute = "ratio"
[fixed]
latency = "deepseek-v3-ascend-910c"
prompt = "geometric:20"
decode = "geometric:40"
[grid]
batch_size = [8, 16]
microbatches = [1, 2]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold what commands read that others write."""
    made = tmp_path_factory.mktemp("brief")
    plan = ("plan", *LAWS, *DERIVED, "--tpot", "25ms", "--devices", 2, "--max-batch-size", 8)
    assert invoke(*plan, "-o", made / "plan.json").code == 0
    for name, size in (("one", 8), ("other", 64)):
        ratio = invoke("ratio", *LAWS, *MADE_UP, "--batch-size", size, "--json")
        (made / f"{name}.json").write_text(ratio.out)
    (made / "study.toml").write_text(STUDY)
    assert invoke("sweep", made / "study.toml", "-o", made / "results").code == 0
    stages = [f"attention,{n},{5e-5 + 2e-10 * n}" for n in range(999, 10**6, 49999)]
    stages += [f"ffn,{n},{9e-5 + 6e-8 * n}" for n in range(16, 4096, 200)]
    (made / "stages.csv").write_text("\n".join(["stage,load,latency", *stages]) + "\n")
    return made


COMMANDS = {
    "workload": ("workload", SHORT),
    "workload of laws": ("workload", *LAWS),
    "calibrate": ("calibrate", "stages.csv", "--time-unit", "s"),
    "ratio": ("ratio", "--trace", SHORT, *MADE_UP, "--batch-size", 128),
    "ratio, derived": ("ratio", "--trace", SHORT, *DERIVED, "--batch-size", 16),
    "ratio by hour": ("ratio", "--trace", TRACE, *MADE_UP, "--batch-size", 64, "--by", "1h"),
    "simulate": ("simulate", *LAWS, *MADE_UP, *BUNDLE),
    "simulate, derived": ("simulate", *LAWS, *DERIVED, *BUNDLE[:2], "--attention-workers", 2),
    "plan": (
        *("plan", "--trace", SHORT, *DERIVED, "--tpot", "25ms", "--devices", 2),
        *("--max-batch-size", 16),
    ),
    "plan for a rate": (
        *("plan", *LAWS, *DERIVED, "--tpot", "25ms", "--devices", 4, "--rate", "2/s"),
        *("--max-batch-size", 32, "--margin", "10%"),
    ),
    "plan, measured": (
        *("plan", *LAWS, *MADE_UP, "--kv-tokens", "1e5", "--devices", 4),
        *("--max-batch-size", 16),
    ),
    "check": ("check", "plan.json", "--trace", SHORT),
    "deploy": ("deploy", "plan.json", "--target", "vllm-afd-plugin", "-o", "deployment"),
    "sweep": ("sweep", "study.toml", "-o", "again"),
    "sweep forecast": ("sweep", "study.toml", "--dry-run"),
    "sweep summary": ("sweep", "--summary", "results"),
    "validate": ("validate", "published"),
    "compare": ("compare", "one.json", "other.json"),
    "config": ("config",),
    "models": ("models",),
    "one model": ("models", "deepseek-v3"),
    "hardware": ("hardware",),
    "one device": ("hardware", "h200"),
    "doctor": ("doctor",),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_text_fits_a_screen_and_ends_with_its_command(name, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    given = COMMANDS[name]
    outcome = invoke(*given)
    assert outcome.code in (0, 4), outcome.err
    lines = outcome.out.splitlines()
    # Notes on written files stand on the same screen.
    assert len(lines) + outcome.err.count("wrote ") <= LINES, outcome.out
    assert max(map(len, lines)) <= max(80, max(len(str(TRACE)), len(str(SHORT))) + 20)
    last = max(k for k, line in enumerate(lines) if line.startswith("again:"))
    again = " ".join(line.rstrip("\\") for line in lines[last:]).removeprefix("again:")
    assert shlex.split(again) == ["afdplan", *map(str, given)]


LONG = Path("a" * 100) / "the trace of a quarter, whose name says much, 2026-11-29.csv.gz"
SIBLINGS = {
    "workload": ("workload", LONG),
    "ratio": ("ratio", "--trace", LONG, *DERIVED, "--batch-size", 16),
    "ratio by hour": ("ratio", "--trace", LONG, *MADE_UP, "--batch-size", 64, "--by", "1h"),
    "simulate": ("simulate", "--trace", LONG, *DERIVED, *BUNDLE),
    "plan": (
        *("plan", "--trace", LONG, *DERIVED, "--tpot", "25ms", "--devices", 2),
        *("--max-batch-size", 16, "-o", "long.json"),
    ),
    "prefill": (
        *("plan", *LAWS, *DERIVED, "--tpot", "25ms", "--devices", 4, "--max-batch-size", 8),
        *("--ttft", "2s", "--prefill-arrivals", "poisson", "--rate", "1/s", "-o", "prefill.json"),
    ),
    "failures": (
        *("plan", *LAWS, *DERIVED, "--tpot", "25ms", "--devices", 4, "--max-batch-size", 8),
        *("--device-mtbf", "10000h", "--repair", "1h", "--spare-devices", 1),
    ),
    "barrier-free": (
        *("plan", *LAWS, *DERIVED, "--tpot", "25ms", "--devices", 4, "--max-batch-size", 8),
        *("--execution", "barrier-free"),
    ),
}


@pytest.mark.parametrize("name", SIBLINGS)
def test_long_names_and_rare_options_fit_a_screen(name, folder, monkeypatch):
    """A path of 160 letters made 36 lines: next and again repeat it."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    LONG.parent.mkdir(exist_ok=True)
    LONG.write_bytes(TRACE.read_bytes())
    outcome = invoke(*SIBLINGS[name])
    assert outcome.code in (0, 4), outcome.err
    assert len(outcome.out.splitlines()) + outcome.err.count("wrote ") <= LINES, outcome.out
    assert "again:" in outcome.out


def test_every_command_is_tried():
    from afdplan.cli.group import COMMANDS as KNOWN

    # `profile` needs torch.
    assert {str(given[0]) for given in COMMANDS.values()} >= {*KNOWN} - {"profile"}


@pytest.mark.parametrize("name", ["plan for a rate", "ratio"])
def test_numbers_of_a_screen_are_those_of_all_the_text(name, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    brief, full = invoke(*COMMANDS[name]).out, invoke(*COMMANDS[name], "--full").out
    numbers = re.compile(r"(?<![\w.])\d[\d,]*\.\d+(?: ms| %)?")
    known = {*numbers.findall(full), "0.0 %"}
    document = invoke(*COMMANDS[name], "--json").document
    left = {f"{100 * one['left']:.1f} %" for one in document.get("limits", ())}
    left |= {f"{100 * one['left']:.2f} %" for one in document.get("limits", ())}
    left |= {f"{1 + one['left']:.3g}" for one in document.get("limits", ())}  # times a rate
    given_up = set()
    if name.startswith("plan"):
        best = document["recommended"]["objective"]
        others = [document["split"], *(document["colocated"] or {}).get("by_width", ())]
        others += document["alternatives"]
        for other in others:
            given_up |= {f"{100 * (1 - other['objective'] / best):.{d}f} %" for d in (1, 2)}
    text = brief.partition("again:")[0]
    assert {*numbers.findall(text)} - known - left - given_up == set()


def test_limits_say_whether_they_hold_and_what_is_left(folder, monkeypatch):
    monkeypatch.chdir(folder)
    document = invoke(*COMMANDS["plan for a rate"], "--json").document
    found = {one["limit"]: one for one in document["limits"]}
    assert set(found) == {"time per output token", "KV memory", "rate", "devices"}
    assert all(one["is_kept"] for one in found.values())
    best = document["recommended"]
    assert found["devices"]["value"] == best["devices"]
    assert found["rate"]["left"] == pytest.approx(best["requests_per_second"] / 2 - 1)
    tpot = found["time per output token"]
    assert tpot["left"] == pytest.approx(1 - best["time_per_output_token"] / 0.025)


def telling(rows=60, warnings=4, facts=0):
    return Telling(
        answer="The answer.",
        tables=(
            TextTable(
                title="Many",
                columns=("row", "value", "same"),
                rows=[(f"row {k}", f"{k * k}", "x") for k in range(rows)],
                strong=40,
            ),
        ),
        warnings=tuple(f"warning {k}; why so: mend {k}." for k in range(warnings)),
        assumptions=("One.", "Two."),
    )


def test_rows_around_the_answer_stay_and_what_is_left_out_is_counted():
    lines = shown_lines(to_brief(telling(), "afdplan x", 80))
    assert len(lines) == LINES
    rows = [line for line in lines if line.startswith("row ")]
    kept = [row.split()[1] for row in rows[1:]]
    assert "40" in kept
    assert kept == [str(k) for k in range(int(kept[0]), int(kept[-1]) + 1)]
    (left,) = [line for line in lines if line.startswith("--full adds")]
    told = {noun: int(number) for number, noun in re.findall(r"(\d+) (more row|assumption)", left)}
    assert told == {"more row": 60 - len(kept), "assumption": 2}
    shown = [line for line in lines if line.startswith("warning:")]
    more = re.search(r"(\d+) more warning", left)
    assert len(shown) + (int(more[1]) if more else 0) == 4
    assert "In every row same: x." in "\n".join(lines)


def test_the_same_warning_is_told_once():
    told = Telling(answer="A.", warnings=("few; because: ask more.", "few; for: ask more."))
    lines = shown_lines(to_brief(told, "afdplan x", 80))
    assert [line for line in lines if line.startswith("warning")] == ["warning: few: ask more."]


@pytest.mark.parametrize(
    "command",
    [
        "afdplan plan --trace 'my file.csv' --columns prompt=a,decode=b --tpot 50ms --devices 64",
        "afdplan ratio --prompt geometric:1000 --decode 'lognormal:300,1.2' --batch-size 128",
        shlex.join(["afdplan", "ratio", "--trace", "it's a $x", "-o", 'a "b".svg', "--full"]),
    ],
)
@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_command_in_lines_is_the_same_command(command, width):
    lines = pasted(command, width)
    assert max(map(len, lines)) <= width
    typed = "\n".join(lines).replace("afdplan", "printf '%s\\n'", 1)
    read = subprocess.run(["bash", "-c", typed], check=True, capture_output=True, text=True)
    assert read.stdout.splitlines() == shlex.split(command)[1:]


def test_shortened_keeps_claim_and_mend():
    text = "the load drifts: from 1 to 9 tokens; std 3; one ratio will not fit: plan for the peak."
    assert shortened(text) == "the load drifts: from 1 to 9 tokens: plan for the peak."
    assert shortened("only 3 requests: too few; collect more.") == (
        "only 3 requests: too few; collect more."
    )


def test_no_line_ends_between_a_number_and_its_per_cent():
    for width in range(30, 90):
        answer = "Split: 30.6 % more than the best un-split one (between 7.3 % and 367.1 %)."
        told = Telling(subject="s", answer=answer, warnings=("± 6.2 % only: use 5 % more.",))
        lines = shown_lines(to_brief(told, "afdplan plan", width), width)
        assert not [line for line in lines if line.strip().startswith("%")]


def test_no_fact_breaks_between_a_number_and_its_per_cent():
    fact = Fact("Over the clock", "staying at 15 costs 0.07 % more, the best fixed A 0.03 %", "x")
    for width in range(30, 90):
        told = Telling(answer="A.", facts=(fact,))
        for lines in (shown_lines(to_brief(told, "afdplan", width), width),):
            assert not [line for line in lines if line.strip().startswith("%")]
            assert " ".join(" ".join(lines).split()).count("0.03 %, x") == 1


def test_rows_of_a_day_that_are_left_out_are_counted(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = invoke(
        "ratio",
        "--trace",
        TRACE,
        *MADE_UP,
        "--batch-size",
        64,
        "--by",
        "5m",
        "--method",
        "mean-field",
    )
    assert done.code == 0, done.err
    windows = re.search(r"over (\d+) windows|all of (\d+) windows", " ".join(done.out.split()))
    shown = len(re.findall(r"^\d\d:\d\d ", done.out, re.M))
    left = int(re.search(r"(\d+) more rows", done.out)[1])
    assert shown + left == int(windows[1] or windows[2])


def test_a_command_with_a_name_longer_than_a_screen_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / f"{'d' * 60}.csv"
    path.write_bytes(SHORT.read_bytes())
    shown = invoke("workload", path).out
    again = shown.rpartition("again:")[2].replace("\\\n", " ")
    assert shlex.split(again) == ["afdplan", "workload", str(path)]
    following = shown.rpartition("next: ")[2].partition("again:")[0].replace("\\\n", " ")
    assert str(path) in shlex.split(following)
