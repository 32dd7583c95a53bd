"""`make docs` fails on what it should fail on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WORKER = "search-iframe-worker.js"


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a site of one page as `make docs` builds ours."""
    line = re.search(r"^BUILD_DOCS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    words = line.replace("$(BIN)/", "").split()
    variables = [word for word in words if re.match(r"[A-Z_0-9]+=", word)]
    arguments = words[len(variables) + 1 :]
    assert words[len(variables)] == "mkdocs"
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    source = tmp_path / "source"
    source.mkdir()
    config |= {"nav": [{"Start": "index.md"}], "docs_dir": "docs", "hooks": []}
    config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]["paths"] = ["source"]
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / WORKER, tmp_path / "docs")
    (tmp_path / "docs" / "site.css").write_text("")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))

    def built(page, module='"""A module."""\n'):
        (tmp_path / "docs" / "index.md").write_text(page)
        (source / "planted.py").write_text(module)
        return subprocess.run(
            [sys.executable, "-m", "mkdocs", *arguments],
            cwd=tmp_path,
            env=os.environ | dict(word.split("=") for word in variables),
            capture_output=True,
            text=True,
        )

    return built


def test_a_sound_page_builds(build):
    done = build("# One\n\n[down](#two)\n\n## Two\n\n::: planted\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "module", "said"),
    [
        ("# One\n\n[gone](gone.md)\n", "", "gone.md"),
        ("# One\n\n[gone](../benchmarks/studies.md)\n", "", "studies.md"),
        ("# One\n\n[gone](#gone)\n", "", "#gone"),
        ("# One\n\n::: planted\n", '"""E[P] [gone]."""\n', "gone"),
        ("# One\n\n::: planted.gone\n", '"""A module."""\n', "planted.gone"),
    ],
)
def test_a_planted_fault_fails_the_build(build, page, module, said):
    done = build(page, module)
    assert done.returncode != 0
    assert said in done.stderr + done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_the_search_works_from_disk(build, tmp_path):
    """Browsers give files no workers: the search of a site opened from disk found nothing."""
    from playwright import sync_api

    assert build("# One\n\nA barrier.\n").returncode == 0
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "site" / "index.html").as_uri())
        page.click("input.md-search__input")
        page.wait_for_selector("iframe", state="attached")
        page.keyboard.type("barrier", delay=20)
        page.wait_for_selector(".md-search-result__item", state="attached")
        assert page.locator(".md-search-result__item").count() == 1
        assert all(url.startswith("file:") for url in asked)
        browser.close()
