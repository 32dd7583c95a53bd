"""Every script and notebook in examples/ runs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
ARGUMENTS = {"make_example_trace": ["--out", "trace.csv.gz"]}


def test_there_are_examples():
    assert len(SCRIPTS) >= 4
    assert NOTEBOOKS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_runs(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *ARGUMENTS.get(script.stem, [])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or script.stem in ARGUMENTS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    """Cells run in order in one namespace; a last line that is an expression shows its value."""
    monkeypatch.chdir(tmp_path)
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    space, pictures = {}, 0
    for number, cell in enumerate(content["cells"]):
        assert cell.get("outputs", []) == [], "clear the outputs before committing"
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]), f"{notebook.name}, cell {number}")
        last = tree.body[-1] if isinstance(tree.body[-1], ast.Expr) else None
        if last is not None:
            tree.body.pop()
        exec(compile(tree, f"{notebook.name}, cell {number}", "exec"), space)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), space)
            if hasattr(shown, "savefig"):  # as a notebook would draw it
                shown.savefig(tmp_path / f"{number}.png")
                pictures += 1
    assert pictures >= 2
