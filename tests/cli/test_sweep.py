from __future__ import annotations

import errno
import json
import os
import re
import shutil

import polars as pl
import pytest

from tests.cli.invoke import invoke
from tests.media import page_tables, page_words
from tests.unit.studies.declare import FAST, LATENCY, write, write_trace

HEAD = {"schema_version", "afdplan_version", "time_unit", "inputs", "warnings"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study: its file, its folder, and what the command said."""
    folder = tmp_path_factory.mktemp("sweep")
    study = write(folder, FAST)
    return study, folder / "r", invoke("sweep", study, "-o", folder / "r", "--json")


def rows(folder):
    return pl.scan_parquet(folder / "part-*.parquet").collect().sort("case")


def test_json_keeps_the_contract(finished):
    _, folder, outcome = finished
    assert outcome.code == 0, outcome
    document = outcome.document
    assert set(document) >= HEAD
    assert document["time_unit"] == "abstract"
    assert (document["cases"], document["done"], document["refused"]) == (12, 12, 0)
    assert document["results"] == str(folder)
    assert document["inputs"]["varied"] == ["decode", "batch_size", "microbatches"]
    assert rows(folder).height == 12


def test_a_dry_run_tells_the_cost_and_writes_nothing(tmp_path):
    outcome = invoke("sweep", write(tmp_path, FAST), "--dry-run", "--workers", 3)
    assert outcome.code == 0, outcome
    assert "12 = decode 2 x batch_size 3 x microbatches 2" in outcome.out
    assert "on 3 workers" in outcome.out
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]
    document = invoke("sweep", tmp_path / "study.toml", "--dry-run", "--json").document
    assert document["cases"] == document["forecast"]["cases"] == 12
    assert document["forecast"]["size"] > 0


def test_only_a_cluster_has_more_processes_than_a_machine(tmp_path):
    study = write(tmp_path, FAST)
    many = ("sweep", study, "--dry-run", "--workers", 2000)
    outcome = invoke(*many, "--engine", "ray")
    assert outcome.code == 0, outcome
    assert "on 2,000 workers" in outcome.out
    outcome = invoke(*many)
    assert outcome.code == 1, outcome
    assert "--workers must be an integer >= 1 and <= 1,024, got 2,000" in outcome.err


def test_the_summary_tells_the_best_and_the_regrets(finished):
    _, folder, _ = finished
    told = invoke("sweep", "--summary", folder, "--json").document
    table = rows(folder)
    assert set(told) >= HEAD
    assert told["groups"] == ["decode"]
    assert told["choices"] == ["batch_size", "microbatches"]
    for best in told["best"]:
        group = table.filter(pl.col("decode") == best["decode"])
        assert best["objective"] == group["objective"].max()
    # Regrets by brute force.
    tops = {decode: table.filter(pl.col("decode") == decode)["objective"].max()
            for decode in ("40", "geometric:30")}  # fmt: skip
    for regret in told["regrets"]:
        lost = []
        for decode, top in tops.items():
            part = table.filter(
                (pl.col("decode") == decode) & (pl.col(regret["variable"]) == regret["value"])
            )
            lost.append(1 - part["objective"].max() / top)
        assert regret["mean"] == pytest.approx(sum(lost) / 2)
        assert regret["worst"] == pytest.approx(max(lost))
    text = invoke("sweep", "--summary", folder).out
    assert "12 of 12 cases done" in text
    assert "12 of 12" not in text.split(".")[0]  # the answer is first, what was counted after it
    assert "Best objective by decode" in text


def test_other_groups(finished):
    _, folder, _ = finished
    told = invoke("sweep", "--summary", folder, "--by", "decode,microbatches", "--json").document
    assert told["group_count"] == 4
    assert told["choices"] == ["batch_size"]
    line = invoke("sweep", "--summary", folder, "--by", "decod").error_line
    assert "did you mean decode?" in line


def test_pictures(finished, tmp_path):
    _, folder, _ = finished
    assert invoke("sweep", "--summary", folder, "--plot", tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "must end in" in invoke("sweep", "--summary", folder, "--plot", "a.gif").error_line


def test_a_run_draws_and_writes_what_its_summary_says(tmp_path):
    """`-o` with `--plot` was refused, and a study had no page."""
    study, shown = write(tmp_path, FAST), ("--plot", tmp_path / "a.svg", "--report")
    run = invoke("sweep", study, "-o", tmp_path / "r", *shown, tmp_path / "a.html")
    assert run.code == 0, run.err
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    assert invoke("sweep", "--summary", tmp_path / "r", "--report", tmp_path / "b.html").code == 0
    pages = [(tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert page_tables(pages[0])[:-1] == page_tables(pages[1])[:-1]  # last are the inputs
    told = invoke("sweep", "--summary", tmp_path / "r", "--json").document
    best, regrets, *_ = page_tables(pages[0])
    assert [row[0] for row in best[1:]] == [one["decode"] for one in told["best"]]
    assert len(regrets) == 1 + len(told["regrets"])
    for name in ("batch_size", "microbatches"):
        known = [one for one in told["regrets"] if one["variable"] == name]
        least = min(known, key=lambda one: one["mean"])
        words = f"Best fixed {name.replace('_', ' ')} {least['value']} gives up"
        assert words in page_words(pages[0])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--dry-run", "--plot", "a.svg"), "--dry-run has none"),
        (("--dry-run", "--report", "a.html"), "--dry-run has none"),
        (("-o", "r", "--by", "decod", "--plot", "a.svg"), "did you mean decode?"),
        (("-o", "r", "--report", "a.pdf"), "must end in .html"),
        (("-o", "r", "--report", "none/a.html"), "no folder"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_the_work(given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in invoke("sweep", write(tmp_path, FAST), *given).error_line
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_a_picture_of_one_case_is_refused_before_the_work(tmp_path):
    text = re.sub(r"\[([^\[\],]+),[^\[\]]*\]", r"[\1]", FAST)
    given = ("-o", tmp_path / "r", "--plot", tmp_path / "a.svg")
    assert "nothing does" in invoke("sweep", write(tmp_path, text), *given).error_line
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_the_page_says_why_cases_have_no_answer(tmp_path):
    device = 'model = "qwen3-30b-a3b"\nhardware = "h100"'
    text = FAST.replace(f'latency = "{LATENCY}"', device).replace("16, 32, 64", "16, 1_000_000")
    study, page = write(tmp_path, text), tmp_path / "a.html"
    assert invoke("sweep", study, "-o", tmp_path / "r", "--report", page).code == 0
    told = invoke("sweep", "--summary", tmp_path / "r", "--json").document
    assert told["refused"]
    rows = page_tables(page.read_bytes())[-2][1:]
    assert [row[2] for row in rows] == [one["reason"] for one in told["reasons"]]


def test_windows_answer_whether_to_reprovision(tmp_path):
    write_trace(tmp_path)
    study = write(
        tmp_path,
        f'compute = "ratio"\n[fixed]\nlatency = "{LATENCY}"\ntrace = "trace.csv"\n'
        "batch_size = 128\n[windows]\nduration = 3600\n",
    )
    assert invoke("sweep", study, "-o", tmp_path / "r").code == 0
    (series,) = invoke("sweep", "--summary", tmp_path / "r", "--json").document["windows"]
    answer = series["answer"]
    assert answer["windows"] == [0, 1, 2, 3, 4, 5]
    assert answer["starts"] == [0, 3600, 7200, 10800, 14400, 18000]
    # Prompts are twenty times as long in every other hour.
    assert min(answer["adaptive"][1::2]) > 3 * max(answer["adaptive"][::2])
    assert answer["changes"] == 5
    assert answer["best_fixed"]["total_regret"] > 0.05
    text = invoke("sweep", "--summary", tmp_path / "r").out
    assert "re-provisioning saves up to" in " ".join(text.split())
    shown = ("--plot", tmp_path / "a.svg", "--report", tmp_path / "a.html")
    assert invoke("sweep", "--summary", tmp_path / "r", *shown).code == 0
    said = page_words((tmp_path / "a.html").read_bytes())
    assert "Re-provisioning saves up to" in said
    (row,) = page_tables((tmp_path / "a.html").read_bytes())[0][1:]
    assert row[2].startswith(f"{answer['best_fixed']['attention_workers']} attention workers")


def test_the_manifest_runs_the_study_again(finished, tmp_path):
    _, folder, _ = finished
    outcome = invoke("sweep", folder / "manifest.json", "-o", tmp_path / "again")
    assert outcome.code == 0, outcome
    assert rows(tmp_path / "again").equals(rows(folder))


def test_resuming_what_is_complete_computes_nothing(finished):
    study, folder, _ = finished
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    outcome = invoke("sweep", study, "-o", folder, "--resume")
    assert outcome.code == 0, outcome
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")} == before


def test_existing_results_are_not_touched(finished):
    study, folder, _ = finished
    assert "add --resume" in invoke("sweep", study, "-o", folder).error_line


def test_another_study_or_version_does_not_mix(finished, tmp_path):
    study, folder, _ = finished
    other = write(tmp_path, FAST.replace("64]", "65]"))
    assert "another study" in invoke("sweep", other, "-o", folder, "--resume").error_line
    copy = tmp_path / "r"
    copy.mkdir()
    manifest = json.loads((folder / "manifest.json").read_text()) | {"afdplan_version": "0.0.1"}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    line = invoke("sweep", study, "-o", copy, "--resume").error_line
    assert "results of afdplan 0.0.1" in line
    assert "install that version" in line


def test_a_full_disk_is_one_line_and_can_be_resumed(finished, tmp_path, monkeypatch):
    study, folder, _ = finished
    real = os.fsync
    written = []

    def nearly_full(descriptor):
        written.append(descriptor)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", nearly_full)
        outcome = invoke("sweep", study, "-o", tmp_path / "r", "--workers", 1)
    assert outcome.code == 1
    line = outcome.err.strip().splitlines()[-1]
    assert "no space left on device" in line
    assert "continue with --resume" in line
    assert invoke("sweep", study, "-o", tmp_path / "r", "--resume").code == 0
    assert rows(tmp_path / "r").equals(rows(folder))


def test_folders_that_cannot_be_written(tmp_path):
    study = write(tmp_path, FAST)
    assert "cannot" in invoke("sweep", study, "-o", "/proc/nothing").error_line
    assert "cannot" in invoke("sweep", study, "-o", study).error_line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give a study file"),
        (("s.toml",), "-o FOLDER"),
        (("s.toml", "--summary", "r"), "alone"),
        (("s.toml", "-o", "r", "--by", "decode"), "belongs to --summary"),
        (("s.toml", "-o", "r", "--address", "auto"), "belongs to --engine ray"),
    ],
)
def test_usage(arguments, told):
    outcome = invoke("sweep", *arguments)
    assert outcome.code == 2
    assert told in outcome.error_line


def test_a_cluster_that_does_not_answer_leaves_nothing_behind(tmp_path):
    pytest.importorskip("ray")
    study = write(tmp_path, FAST)
    outcome = invoke(
        "sweep", study, "-o", tmp_path / "r", "--engine", "ray", "--address", "[::1]:9"
    )
    assert "no Ray cluster answers at [::1]:9" in outcome.error_line
    assert not (tmp_path / "r").exists()


def test_no_study_and_no_results(tmp_path):
    assert "there is no file" in invoke("sweep", tmp_path / "s.toml", "--dry-run").error_line
    assert "holds no results" in invoke("sweep", "--summary", tmp_path).error_line


def test_all_refused_is_said(tmp_path):
    text = FAST.replace('"mean-field"', '"exact"\nphase = "aligned"')
    study = write(tmp_path, text)
    outcome = invoke("sweep", study, "-o", tmp_path / "r")
    assert outcome.code == 0, outcome
    assert "12 refused, their inputs have no answer" in outcome.out
    assert "the first: phase aligned" in " ".join(outcome.out.split())
    told = invoke("sweep", "--summary", tmp_path / "r", "--json").document
    assert told["best"] == []
    assert told["reasons"][0]["cases"] == 12
    shown = ("--plot", tmp_path / "a.png", "--report", tmp_path / "a.html")
    assert "nothing to draw" in invoke("sweep", "--summary", tmp_path / "r", *shown).err
    assert (tmp_path / "a.html").exists()  # what can be written is


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (lambda part: (part, part.with_name("part-00000077.parquet")), "rows repeat a case"),
        (None, r"it has cases 0 to \d+ of a study of 1;"),
    ],
)
def test_parts_of_another_run_are_not_counted(finished, tmp_path, plant, told):
    _, folder, _ = finished
    shutil.copytree(folder, tmp_path / "r")
    if plant is not None:
        shutil.copy(*plant(next((tmp_path / "r").glob("part-*"))))
    else:
        manifest = tmp_path / "r" / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"cases": 1}))
    line = invoke("sweep", "--summary", tmp_path / "r").error_line
    assert re.search(f"holds parts of another run: .*{told}", line)
