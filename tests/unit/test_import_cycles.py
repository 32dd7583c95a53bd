"""No module needs itself: imports at the top, within functions and under TYPE_CHECKING counted.

A circle hidden in a function or in an annotation is one all the same: neither module can be read,
tested or moved without the other. The package's own `__init__` is no exception: it points at
everything, lazily, so that no room may name it.
"""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(text, modules):
    """Return which of `modules` a module's text imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{name.name}" for name in node.names}
            submodules = inner & modules
            # `from package import module` needs the module, and the package only for other names.
            found |= submodules
            if len(submodules) < len(inner):
                found.add(node.module)
    return found & modules


def graph_of(root):
    paths = {module_name(path, root): path for path in root.rglob("*.py")}
    return {name: imports_of(path.read_text(), set(paths)) for name, path in paths.items()}


def circles(graph):
    """Return the strongly connected parts of more than one module, or that need themselves."""
    reach = {name: set(others) for name, others in graph.items()}
    changed = True
    while changed:
        changed = False
        for others in reach.values():
            more = set().union(*(reach[other] for other in others)) if others else set()
            if not more <= others:
                others |= more
                changed = True
    return {
        frozenset(other for other in reach if other in reach[name] and name in reach[other])
        for name in reach
        if name in reach[name]
    }


def test_no_circles():
    assert circles(graph_of(SOURCE)) == set()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"a": "import p.b", "b": "import p.c", "c": "x = 1"}, []),
        ({"a": "import p.b", "b": "from p import a", "c": ""}, [{"p.a", "p.b"}]),
        (
            {"a": "from p.b import x", "b": "def f():\n    from p.a import y", "c": ""},
            [{"p.a", "p.b"}],
        ),
        (
            {
                "a": "from p.b import x",
                "b": "from p.c import x",
                "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import x",
            },
            [{"p.a", "p.b", "p.c"}],
        ),
        ({"a": "from p import v", "b": "from p import c", "c": "x = 1"}, [{"p", "p.a"}]),
    ],
)
def test_planted_circles_are_found(tmp_path, texts, expected):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/__init__.py").write_text("import p.a\nv = 1")
    for name, text in texts.items():
        (tmp_path / f"p/{name}.py").write_text(text)
    assert circles(graph_of(tmp_path)) == {frozenset(circle) for circle in expected}
