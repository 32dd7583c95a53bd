"""Every block of README and docs runs, or is read by what would read it.

The blocks of a page run in order, in one folder of their own, which holds `requests.csv` (2,000
requests of the bundled trace), `model.toml` (a measured latency model) and the link `src`.

- ```` ```lang title="file" ```` is first written to that file; after ``<!-- requires: package -->``
  a block is passed over where that package is absent.
- `python`: one namespace per page; blocks with ``>>>`` are doctests.
- `console`: ``$ afdplan`` runs; the lines that follow must be its output (``...``: any lines).
- `sh`: lines that need what the page cannot have; commands and options must exist.
- `toml`: a latency model, a study or a device, read by its reader. `sql` runs on the files there.
- `text`: formulas and layouts; no line may begin like a command. Indented blocks likewise.
"""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import polars as pl
import pytest

import afdplan
from afdplan.calibration.catalogue import find_hardware
from afdplan.cli.group import COMMANDS, cli
from afdplan.cli.project import PARAMETERS
from afdplan.files.latency_file import load_latency, save_latency
from afdplan.files.prefill_file import load_prefill
from afdplan.files.project_file import read_project
from afdplan.files.study_file import read_study_file
from afdplan.files.traces.example import example_trace_path
from afdplan.model.latency import LatencyModel
from tests.cli.invoke import invoke

ROOT = Path(__file__).parents[2]
SURROUNDINGS = {"COLUMNS": "80", "NO_COLOR": "1"}
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
FENCE = re.compile(
    r"(?:^<!-- requires: (\w+) -->\n)?^```(\w*)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"(\$ )?(afdplan|make|pip|python3?|curl|[\w./-]+/python) ")


def blocks(text):
    """Return (language, title, body) of the fenced blocks whose optional package is here."""
    found = []
    for package, language, info, body in FENCE.findall(text):
        # Anything but a title makes the site take the fence, and what follows, for text.
        title = re.fullmatch(r"(?: title=\"([\w.-]+)\")?", info)
        assert title, info
        if not package or importlib.util.find_spec(package):
            found.append((language, title[1], body))
    return found


def matches(expected, got):
    """Compare line by line; three dots stand for any lines, or for the rest of theirs."""
    pattern = ""
    for line in expected:
        start = re.escape(line.rstrip().removesuffix("..."))
        rest = (
            r"(?:.*\n)*?" if not start else r".*\n" if line.rstrip().endswith("...") else r"[ ]*\n"
        )
        pattern += start + rest
    return re.fullmatch(r"\n*" + pattern + r"\n*", got + "\n") is not None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of a page, with the files that examples may use."""
    monkeypatch.chdir(tmp_path)
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "src").symlink_to(ROOT / "src")
    pl.read_csv(example_trace_path()).head(2000).write_csv(tmp_path / "requests.csv")
    measured = LatencyModel.linear(
        attention=(2e-10, 4e-5), ffn=(2e-8, 9e-5), transfer=(3e-8, 1.5e-5), layers=61,
        time_unit="s", name="measured",
    )  # fmt: skip
    save_latency(measured, tmp_path / "model.toml")
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "afdplan").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m afdplan "$@"\n')
    (scripts / "afdplan").chmod(0o755)
    return tmp_path


def run_python(body, space, page):
    if ">>>" not in body:
        exec(compile(body, page, "exec"), space)
        return
    test = doctest.DocTestParser().get_doctest(body, space, page, page, 0)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed = runner.run(test, out=report.append, clear_globs=False).failed
    assert failed == 0, "".join(report)
    space.update(test.globs)


def run_console(body, folder):
    """Run in this process what needs no shell: a process of its own costs a second to begin."""
    for part in re.split(r"^(?=\$ )", body.replace("\\\n", " "), flags=re.MULTILINE):
        lines = part.splitlines()
        if not lines:
            continue
        assert lines[0].startswith("$ afdplan "), f"only afdplan runs in a console: {lines[0]}"
        code, out, err = run_command(lines[0][2:], folder)
        assert code == 0, f"{lines[0]}\n{err}"
        if len(lines) > 1:
            assert matches(lines[1:], out), f"{lines[0]}\nprinted:\n{out}"


def run_command(line, folder):
    asked, _, target = line.partition(" > ")
    if not re.search(r"[|<>&;$*?`~]", asked + target):
        done = invoke(*shlex.split(asked, comments=True)[1:])
        if not target:
            return done.code, done.out, done.err
        (folder / target.strip()).write_text(done.out, encoding="utf-8")
        return done.code, "", done.err
    env = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    env |= {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


def check_line(line):
    """Raise an AssertionError unless a line of a shell names what exists."""
    for part in re.split(r"\s(?:&&|\|\|?)\s", line.partition(" #")[0]):
        words = shlex.split(part.split(" > ")[0].split(" >> ")[0])
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        if words and words[0] == "afdplan":
            check_afdplan(words[1:])
        elif words and words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), part
        elif words and "-m" in words:
            module = words[words.index("-m") + 1]
            assert importlib.util.find_spec(module), part
            if module == "benchmarks":
                chosen = [word for word in words[3:] if word.isidentifier()]
                assert all((ROOT / f"benchmarks/{name}.py").exists() for name in chosen), part
        elif words and words[0] == "pip":
            extras = re.findall(r"\[(\w+)\]", part)
            project = (ROOT / "pyproject.toml").read_text()
            assert all(re.search(rf"^{extra} = \[", project, re.M) for extra in extras), part
            if "-c" in words:
                assert (ROOT / words[words.index("-c") + 1]).exists(), part
        else:
            assert not words or words[0] in (".", "curl", "mail", "echo"), f"unknown: {part}"


def check_afdplan(words):
    """Raise unless the command exists and takes these options and values."""
    if not words:  # `_AFDPLAN_COMPLETE=... afdplan`
        return
    assert words[0] in COMMANDS, f"no command {words[0]!r}"
    with click.Context(cli, info_name="afdplan", **cli.context_settings) as parent:
        command = cli.get_command(parent, words[0])
        given = [word for word in words[1:] if word != "..."]
        # With dots, what is required may be among what is left out.
        partial = len(given) < len(words) - 1
        try:
            with command.make_context(words[0], given, parent=parent):
                pass
        except click.UsageError as error:
            if not (partial and isinstance(error, click.MissingParameter)):
                raise AssertionError(f"{' '.join(words)}: {error.format_message()}") from None


def check_toml(body, page, folder):
    """Read a file with the reader that it is for."""
    path = folder / "block.toml"
    path.write_text(body, encoding="utf-8")
    if "memory_bandwidth" in body:
        find_hardware(str(path))
    elif re.search(r"^\[compute\]", body, re.MULTILINE):
        load_prefill(path)
    elif re.search(r"^\[(grid|windows|fixed)\]|^compute", body, re.MULTILINE):
        assert read_study_file(path)  # what it names is tested in test_studies_doc
    elif "[profile." in body:
        assert read_project(path, [one.key for one in PARAMETERS])
    else:
        load_latency(path)


def run_sql(body):
    """Run every statement on the files there, in both ways that the page names."""
    for statement in body.split(";"):
        text = re.sub(r"^--.*$", "", statement, flags=re.MULTILINE).strip()
        if text:
            rows = duckdb.connect().execute(text).fetchall()
            assert sorted(rows) == sorted(pl.SQLContext().execute(text, eager=True).rows())
            assert rows or "<>" in text, f"no rows: {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_run(page, folder):
    space = {}
    for language, title, body in blocks(page.read_text(encoding="utf-8")):
        if title:
            (folder / title).write_text(body, encoding="utf-8")
        if language == "python":
            run_python(body, space, page.name)
        elif language == "console":
            run_console(body, folder)
        elif language == "sh":
            for line in body.replace("\\\n", " ").splitlines():
                check_line(line)
        elif language == "toml":
            check_toml(body, page, folder)
        elif language == "sql":
            run_sql(body)
        elif language == "text":
            assert not any(COMMAND.match(line) for line in body.splitlines()), body
        else:
            assert title, f"nothing reads this block of {language or 'no language'}:\n{body}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_command_hides_in_an_indented_block(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    hidden = [line for line in text.splitlines() if COMMAND.match(line[4:]) and line[:4] == "    "]
    assert hidden == []


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_exist(name):
    with click.Context(cli, info_name="afdplan", **cli.context_settings) as parent:
        epilog = cli.get_command(parent, name).epilog or ""
    for line in epilog.replace("\\\n", " ").splitlines():
        if "afdplan " in line:
            check_line(re.sub(r"\s\([\w./]+\)$", "", line.strip()))


@pytest.mark.parametrize(
    "line",
    [
        "afdplan plot x.csv",
        "afdplan ratio --lanetcy model.toml",
        "afdplan ratio --overlap ideel",
        "afdplan simulate ... --attention-workers eight",
        "afdplan deploy plan.json",
        "afdplan workload a.csv && afdplan nothing",
        "make everything",
        "python -m benchmarks.nothing",
        "python -m benchmarks nothing",
        "pip install 'afdplan[nothing]'",
        "rm -r results",
    ],
)
def test_what_does_not_exist_is_found(line):
    with pytest.raises((AssertionError, ModuleNotFoundError)):
        check_line(line)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^::: afdplan\.([\w.]+)", (ROOT / "docs/reference.md").read_text(), re.M)
    written = {name: inspect.unwrap(getattr(afdplan, name)) for name in afdplan.__all__}
    homes = {f"{one.__module__.removeprefix('afdplan.')}.{name}" for name, one in written.items()}
    assert homes - {"errors.AfdplanError"} <= set(listed)
    assert "errors" in listed


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation


THEORY = sorted(page for page in (ROOT / "docs" / "theory").glob("*.md") if page.name != "index.md")


@pytest.mark.parametrize("page", THEORY, ids=lambda page: page.stem)
def test_a_formula_has_question_file_picture_example_validity_and_a_row(page):
    text = page.read_text(encoding="utf-8")
    before = text.split("\n## ")[0]
    assert "?" in before
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", before)
    assert files
    assert all((ROOT / "src" / "afdplan" / name).exists() for name in files), files
    pictures = re.findall(r"!\[[^\]]{20,}\]\(../figures/([\w-]+)\.svg\)", text)
    assert pictures
    assert re.search(r"^```(python|console)$", text, re.MULTILINE) or page.stem == "pipeline"
    assert "## Validity\n" in text or page.stem == "validity"
    rows = re.findall(r"^\|.*$", (page.parent / "index.md").read_text(), re.MULTILINE)
    row = next(row for row in rows if f"]({page.name}) |" in row)
    assert len(row.split(" | ")) == 4
    assert all((ROOT / "src" / "afdplan" / name).exists() for name in
               re.findall(r"`((?:\w+/)+\w+\.py)`", row))  # fmt: skip


def test_pictures_are_small_used_and_drawn_by_the_script():
    script = (ROOT / "docs" / "figures.py").read_text()
    drawn = set(re.findall(r'^    "([\w-]+)": ', script, re.MULTILINE))
    shown = set()
    for page in THEORY:
        shown |= set(re.findall(r"\(../figures/([\w-]+)\.svg\)", page.read_text()))
    assert shown == drawn
    for name in shown:
        assert (ROOT / "docs" / "figures" / f"{name}.svg").stat().st_size < 100_000
