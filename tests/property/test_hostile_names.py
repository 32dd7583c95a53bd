"""Names that come from outside are told as they are, by every command and in every medium."""

from __future__ import annotations

import json
import os
import re
import string
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afdplan.report.page import Page, Section, render_page
from afdplan.report.quantities import plain
from afdplan.report.tables import TextTable, to_markdown
from afdplan.report.telling import Fact, Telling
from afdplan.studies import local_engine
from afdplan.studies.engine import SerialEngine
from tests.cli.invoke import invoke
from tests.media import markdown_headings, markdown_tables, page_tables, page_words, terminal_words

HOSTILE = [
    "[/x]",
    "[bold]fp8[/bold]",
    "<script>alert(1)</script>",
    "`run`*a*_b_",
    "a|b\\|c",
    "line\nend\rhere",
    "\x1b[31mred",
    "half\udcff",
    "\u202egpj.exe\u2066",
    "&amp; {{7*7}} {%raw%}",
    "[link](http://x)![i](y)",
]
PIECES = [*HOSTILE, *string.ascii_letters, "[", "]", "|", "`", "<", ">", "&", "\\", "*", "_", "~"]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)


def words(text: str) -> str:
    return " ".join(text.split())


def unwrapped(text: str) -> str:
    """Lines of a terminal without the places where they were folded."""
    return re.sub(r"\s+", "", text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, NAMES)
def test_a_telling_shows_the_same_words_in_every_medium(name, cell):
    table = TextTable(
        title=name,
        columns=("name", cell + "x"),
        rows=[(f"n{name}", f"c{cell}"), ("", "1")],
        note=f"note {cell}",
        strong=0,
        bars=(1.0, 0.5),
    )
    told = Telling(
        subject=name,
        answer=f"answer {name}",
        facts=(Fact(name, cell, name),),
        words=(Fact(cell, name),),
        tables=(table,),
        warnings=(name,),
        assumptions=(cell,),
    )
    page = Page(title=name, told=told, sections=(Section(title="s", tables=(table,)),))
    html = render_page(page)
    rows = [list(table.columns), *map(list, table.rows)]
    expected = [[words(plain(text)) for text in row] for row in rows]
    assert [[words(text) for text in row] for row in page_tables(html)[0]] == expected
    markdown = to_markdown(table)
    assert [[words(text) for text in row] for row in markdown_tables(markdown)[0]] == expected
    assert markdown_headings(markdown) == [words(plain(name))] or not name.strip()
    shown = unwrapped(terminal_words(told, 200))
    seen = words(page_words(html))
    for text in (name, cell):
        assert unwrapped(plain(text)) in shown
        assert words(plain(text)) in seen


@given(st.text())
def test_plain_text_is_printable_whole_and_stays_so(text):
    told = plain(text)
    assert told.isprintable()
    assert plain(told) == told
    assert told.encode().decode() == told
    if text.isprintable():
        assert told == text


CALIBRATE = ("calibrate", "--form", "linear", "--time-unit", "s")
LAW = ("--prompt", "geometric:20", "--decode", "geometric:40")
ROWS = [(1000 + k * 37 % 900, 1 + k * k % 300, k) for k in range(300)]
LATENCY = """schema_version = 1
name = {name}
time_unit = "s"
[attention]
kind = "linear"
slope = 1e-9
intercept = 2e-5
[ffn]
kind = "linear"
slope = 2e-7
intercept = 1e-4
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder in which trace, latency model, study and measurements have a hostile name."""
    made = {}
    for k, name in enumerate(HOSTILE):
        folder = tmp_path_factory.mktemp(f"hostile{k}")
        safe = name.replace("/", "\u2215")
        trace = folder / f"{safe}.csv"
        trace.write_text("prompt_tokens,decode_tokens,arrival\n" + "\n".join(
            f"{p},{d},{t}" for p, d, t in ROWS))  # fmt: skip
        latency = folder / "latency.toml"
        latency.write_text(LATENCY.format(name=json.dumps(plain(name))))
        stages = folder / f"{safe} stages.csv"
        rows = [f"attention,{n},{5e-5 + 2e-10 * n}" for n in range(10_000, 200_000, 19_000)]
        rows += [f"ffn,{n},{9e-5 + 6e-8 * n}" for n in range(10, 200, 19)]
        stages.write_text("\n".join(["stage,load,latency", *rows]))
        made[name] = (folder, trace, latency, stages, safe)
    return made


def told_everywhere(done, name, html=None):
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "\x1b[31m" not in done.out
    assert "\u202e" not in done.out
    assert done.out.encode()  # no half of a character
    assert unwrapped(plain(name)) in unwrapped(done.out), done.out
    if html is not None:
        text = html.read_bytes()
        assert words(plain(name)) in page_words(text)
        assert b"<script>alert" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_every_command_tells_the_name_of_its_file(name, files):
    folder, trace, latency, stages, safe = files[name]
    page = folder / "out.html"
    base = ("--trace", trace, "--latency", latency)
    told_everywhere(invoke("workload", trace, "--report", page), safe, page)
    told_everywhere(invoke("ratio", *base, "--batch-size", 8), safe)
    told_everywhere(
        invoke("simulate", *base, "--batch-size", 4, "--attention-workers", 1, "--requests", 500),
        safe,
    )
    told_everywhere(
        invoke(*CALIBRATE, stages, "--name", name, "--report", page),
        name,
        page,
    )
    told_everywhere(invoke(*CALIBRATE, stages), safe.split(".")[0])


@pytest.mark.parametrize("name", HOSTILE)
def test_json_keeps_the_name_that_was_given(name, files):
    _, trace, latency, stages, _ = files[name]
    for arguments, key in (
        (("workload", trace), "trace"),
        (("ratio", "--trace", trace, "--latency", latency, "--batch-size", 8), "trace"),
        ((*CALIBRATE, stages, "--name", name), "name"),
    ):
        done = invoke(*arguments, "--json")
        assert done.code == 0, done.err
        assert done.out.encode()
        assert done.document["inputs"][key] == (name if key == "name" else str(trace))


@pytest.mark.parametrize("name", HOSTILE)
def test_studies_plans_and_refusals_tell_names(name, files, monkeypatch):
    # In this process: workers, two seconds each to begin, have tests of their own.
    monkeypatch.setattr(local_engine, "LocalEngine", lambda study, _: SerialEngine(study))
    folder, _, latency, _, safe = files[name]
    study = folder / "study.toml"
    study.write_text(
        f'name = {json.dumps(plain(name))}\ncompute = "ratio"\n'
        f'[fixed]\nlatency = {json.dumps(str(latency))}\nprompt = "geometric:20"\n'
        'decode = "geometric:40"\n[grid]\nbatch_size = [8, 16]\n'
    )
    told_everywhere(invoke("sweep", study, "--dry-run"), plain(name))
    out = folder / "results"
    if not out.exists():
        invoke("sweep", study, "-o", out)
    told_everywhere(invoke("sweep", "--summary", out), plain(name))
    plan = ("plan", *LAW, "--latency", latency, "--kv-tokens", "1e5", "--devices", 4)
    told_everywhere(invoke(*plan, "--max-batch-size", 8), plain(name))
    missing = invoke("workload", folder / f"no {safe}.csv")
    assert missing.code == 1
    assert "Traceback" not in missing.err
    assert "\x1b[31m" not in missing.err


def test_a_terminal_without_unicode_shows_names_and_numbers(files):
    _, trace, latency, _, _ = files["half\udcff"]
    done = subprocess.run(
        [sys.executable, "-m", "afdplan", "ratio", "--trace", trace, "--latency", latency,
         "--batch-size", "8"],
        capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b" us" in done.stdout
    assert b"half\\udcff" in done.stdout.replace(b"\n", b"")
    assert b"#" in done.stdout
