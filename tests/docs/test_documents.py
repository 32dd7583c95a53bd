"""Every example in README and docs runs, and prints what the page says it prints.

- ```` ```python ```` blocks run in order, one namespace per page; ``>>>`` blocks are doctests.
- ```` ```console ```` blocks: lines that start with ``$ afdplan`` run in a shell of their own
  page folder; the lines that follow a command must be its output (``...`` stands for any lines).
"""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import afdplan

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w+)(?: requires=(\w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """Return the blocks of a language whose required optional package is installed."""
    return [
        body
        for kind, package, body in FENCE.findall(page.read_text())
        if kind == language and (not package or importlib.util.find_spec(package))
    ]


def matches(expected, got):
    """Compare line by line; a line of three dots stands for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()) + r"[ ]*\n"
        for line in expected
    )
    return re.fullmatch(r"\n*" + pattern + r"\n*", got + "\n") is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    space = {}
    for body in blocks(page, "python"):
        if ">>>" in body:
            test = doctest.DocTestParser().get_doctest(body, space, page.name, str(page), 0)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            report = []
            assert runner.run(test, out=report.append, clear_globs=False).failed == 0, "".join(
                report
            )
            space.update(test.globs)
        else:
            exec(compile(body, str(page), "exec"), space)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_console_blocks_print_what_they_show(page, tmp_path):
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "afdplan").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m afdplan "$@"\n')
    (scripts / "afdplan").chmod(0o755)
    (tmp_path / "src").symlink_to(ROOT / "src")
    env = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "80"}
    env |= {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    for body in blocks(page, "console"):
        for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
            lines = part.replace("\\\n", " ").splitlines()
            if not lines or not lines[0].startswith("$ afdplan"):
                continue
            done = subprocess.run(
                ["sh", "-c", lines[0][2:]], cwd=tmp_path, env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{lines[0]}\n{done.stderr}"
            if len(lines) > 1:
                assert matches(lines[1:], done.stdout), f"{lines[0]}\nprinted:\n{done.stdout}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^::: afdplan\.([\w.]+)", (ROOT / "docs/reference.md").read_text(), re.M)
    homes = {f"{home}.{name}" for name, home in afdplan._HOMES.items() if home != "errors"}
    assert homes <= set(listed)
    assert "errors" in listed


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation


def test_pictures_are_small_and_drawn_by_the_script():
    script = (ROOT / "docs" / "figures.py").read_text()
    for page in (ROOT / "docs" / "theory").glob("*.md"):
        for name in re.findall(r"\(../figures/([\w-]+)\.svg\)", page.read_text()):
            assert f'"{name}":' in script
            assert (ROOT / "docs" / "figures" / f"{name}.svg").stat().st_size < 100_000
