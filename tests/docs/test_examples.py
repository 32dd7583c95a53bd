"""Every script and notebook in examples/ runs."""

from __future__ import annotations

import ast
import json
import runpy
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
def test_script_runs(script, tmp_path, monkeypatch, capfd):
    """Run in this process, where warnings are errors too: one of its own takes seconds to begin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setattr(sys, "argv", [str(script), *ARGUMENTS.get(script.stem, [])])
    code = None
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code
    told = capfd.readouterr()
    assert not code, told.err
    assert told.out or script.stem in ARGUMENTS


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
