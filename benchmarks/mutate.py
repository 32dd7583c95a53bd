"""Would a test notice? Run: python -m benchmarks.mutate [MODULE.py TESTS...] [--every K].

Plants one fault at a time in a module (an operator, a comparison, a constant, a side of max or
min, a dropped statement) and runs the tests that are named until one fails. Every fault has a
process of its own, forked where the libraries are imported already; no file is changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src"
DEFAULT = "afdplan/planning/waiting.py"
LONGEST = 120
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.USub: ast.UAdd, ast.Not: ast.UAdd,
}  # fmt: skip
EDGES: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OTHERS = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "any": "all"}
OTHERS |= {"all": "any", "floor": "ceil", "ceil": "floor", "left": "right", "right": "left"}


def faults(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """Yield the line, the words and the tree of every fault."""
    nodes = list(ast.walk(tree))
    told = {id(part) for node in nodes for part in _untold(node)}
    for k, node in enumerate(nodes):
        if id(node) in told:
            continue
        for name, change in _changes(node):
            other = copy.deepcopy(tree)
            place = list(ast.walk(other))[k]
            before = ast.unparse(place)
            change(place)
            after = ast.unparse(ast.fix_missing_locations(place))
            yield getattr(node, "lineno", 0), f"{name}: {before} -> {after}", other


def _untold(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, annotations, imports and messages: no number hangs on them."""
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield from ast.walk(node.annotation)
    if isinstance(node, ast.FunctionDef) and node.returns is not None:
        yield from ast.walk(node.returns)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield from ast.walk(node)
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
        yield from ast.walk(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        yield from ast.walk(node)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        for decorator in node.decorator_list:
            yield from ast.walk(decorator)


def _changes(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp) and type(node.op) in OPERATORS:
        yield "operator", lambda n: setattr(n, "op", OPERATORS[type(n.op)]())
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield "operator", lambda n: setattr(n, "op", OPERATORS[type(n.op)]())
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        if type(node.ops[0]) in EDGES:
            yield "edge", lambda n: n.ops.__setitem__(0, EDGES[type(n.ops[0])]())
        yield "comparison", lambda n: n.ops.__setitem__(0, OPERATORS[type(n.ops[0])]())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "constant", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "constant", lambda n: setattr(n, "value", not n.value)
    if isinstance(node, ast.Name) and node.id in OTHERS:
        yield "name", lambda n: setattr(n, "id", OTHERS[n.id])
    if isinstance(node, ast.Attribute) and node.attr in OTHERS:
        yield "name", lambda n: setattr(n, "attr", OTHERS[n.attr])
    if isinstance(node, ast.IfExp):
        yield "branch", _swap


def _swap(node: ast.IfExp) -> None:
    node.body, node.orelse = node.orelse, node.body


class _Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module from a tree in place of its file."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def noticed(name: str, path: Path, tree: ast.Module, tests: list[str]) -> bool:
    """Say whether a test fails, breaks or does not end with the fault."""
    child = os.fork()
    if child == 0:
        signal.alarm(LONGEST)
        import pytest

        sys.meta_path.insert(0, _Planted(name, path, tree))
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            code = 99
            with contextlib.suppress(BaseException):
                code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
            os._exit(code)
    return os.waitpid(child, 0)[1] != 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module", type=Path, nargs="?", default=SOURCE / DEFAULT)
    parser.add_argument("tests", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="try each K-th fault only")
    parser.add_argument("--quick", action="store_true", help="each tenth")
    asked = parser.parse_args()
    path = asked.module.resolve()
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    if not asked.tests:
        # Sorted into the room's own and all that name the module.
        asked.tests = sorted(
            str(test)
            for test in (SOURCE.parent / "tests").rglob("test_*.py")
            if name in test.read_text()
        )
    import numpy  # noqa: F401 - imported once for all children
    import polars  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize
    import scipy.stats  # noqa: F401

    tree = ast.parse(path.read_text())
    if noticed(name, path, tree, asked.tests):
        sys.exit("the tests fail without a fault")
    chosen = list(faults(tree))[:: 10 if asked.quick else asked.every]
    survivors = 0
    for line, words, planted in chosen:
        if not noticed(name, path, planted, asked.tests):
            survivors += 1
            print(f"survives: {path.name}:{line}: {words}", flush=True)
    share = 1 - survivors / max(len(chosen), 1)
    print(f"{name}: {len(chosen)} faults, {survivors} not noticed, {share:.0%}")


if __name__ == "__main__":
    main()
