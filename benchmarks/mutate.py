"""Would a test notice? Run: python -m benchmarks.mutate [MODULE.py or FOLDER...] [--sample N].

Plants one fault at a time (an operator, a comparison or its edge, a constant, a side of max or
min, swapped branches) and runs the tests that run that function, the short ones that run little
else first, until one fails. `python -m benchmarks.reach TESTS` notes beforehand which those are.
Every fault has a process of its own, forked where the tests are collected already; no file is
changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from benchmarks import reach

SOURCE = Path(__file__).parents[1] / "src"
DEFAULT = "afdplan/planning/waiting.py"
LONGEST = 120
SURVIVES = "survives"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One place of a module, and what is changed there."""

    path: Path
    node: int
    change: int
    kind: str
    function: str | None
    """The outermost function whose body it stands in; None where the module's own code does."""

    def plant(self) -> tuple[str, ast.Module]:
        """Return the words and the tree of the module with the fault."""
        tree = ast.parse(self.path.read_text())
        place = list(ast.walk(tree))[self.node]
        before = ast.unparse(place)
        name, change = list(_changes(place))[self.change]
        change(place)
        after = ast.unparse(ast.fix_missing_locations(place))
        line = getattr(place, "lineno", 0)
        return f"{self.path.name}:{line}: {name}: {before} -> {after}", tree


def faults(path: Path) -> list[Fault]:
    """Return every fault of a module."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    told = {id(part) for node in nodes for part in _untold(node)}
    inside = {id(node): name for name, node in _bodies(tree, "")}
    return [
        Fault(path=path, node=k, change=change, kind=kind, function=inside.get(id(node)))
        for k, node in enumerate(nodes)
        if id(node) not in told
        for change, (kind, _) in enumerate(_changes(node))
    ]


def _bodies(tree: ast.Module | ast.ClassDef, before: str) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _bodies(node, f"{before}{node.name}.")
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                for part in ast.walk(statement):
                    yield f"{before}{node.name}", part


def _untold(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, annotations, imports, messages, `strict`: no number hangs on them."""
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
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip: both are of one length
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
    """Say whether a test fails, breaks or does not end with the fault, and does without it."""
    return _fails(tests, _Planted(name, path, tree)) and not _fails(tests)


def _fails(tests: list[str], planted: _Planted | None = None) -> bool:
    child = os.fork()
    if child == 0:
        _end_late()
        import pytest

        if planted:
            sys.meta_path.insert(0, planted)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            code = 99
            with contextlib.suppress(BaseException):
                code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
            os._exit(code)
    return os.waitpid(child, 0)[1] != 0


class _Trials:
    """A plugin of pytest: a fork of the collected tests for each fault, whose code it swaps in."""

    def __init__(self, chosen: list[Fault], tests: dict[Fault, list[str]], survived: int) -> None:
        self.chosen, self.tests, self.survived = chosen, tests, survived

    def pytest_runtestloop(self, session: Any) -> bool:
        """Write one line for each fault: is it noticed?"""
        items = {item.nodeid: item for item in session.items}
        fit: set[str] = set()
        unfit: set[str] = set()
        for fault in self.chosen:
            faulty = _faulty_code(fault)
            names = [name for name in self.tests[fault] if name in items]
            while True:
                names = [name for name in names if name.partition("::")[0] not in unfit]
                by = _first_failure(session, [items[name] for name in names], fault, faulty)
                if by not in names or by in fit:
                    break
                # Without the fault it must hold, alone and in a process like this.
                if _first_failure(session, [items[by]]):
                    unfit.add(by.partition("::")[0])
                else:
                    fit.add(by)
            word = f"noticed by {by}" if by else f"{SURVIVES} {len(names)} tests"
            os.write(self.survived, f"{word}\n".encode())
        return True


def _first_failure(
    session: Any, items: list[Any], fault: Fault | None = None, faulty: CodeType | None = None
) -> str:
    """Return which of some tests fails first, in a fork; empty if none does."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _end_late()
        if fault and faulty:
            _swap_code(fault, faulty)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os.write(write, item.nodeid.encode())
                break
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        by = said.read()
    return "no end" if os.waitpid(child, 0)[1] else by


def _end_late() -> None:
    """End this process after `LONGEST` seconds of its own, for others compute as well."""
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    signal.alarm(10 * LONGEST)


def _faulty_code(fault: Fault) -> CodeType:
    """Return the code of the function with the fault in it."""
    codes = [compile(fault.plant()[1], str(fault.path), "exec")]
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    return next(code for code in codes if code.co_qualname == fault.function)


def _swap_code(fault: Fault, faulty: CodeType) -> None:
    """Give the function, wherever it is in memory, other code."""
    importlib.import_module(_name_of(fault.path))  # what is imported late would be without it
    gc.unfreeze()  # what is frozen is not listed
    places = (str(fault.path), fault.function)
    for function in gc.get_objects():
        if isinstance(function, FunctionType):
            code = function.__code__
            if (code.co_filename, code.co_qualname) == places:
                function.__code__ = faulty


def _name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def tried(chosen: list[Fault], tests: dict[Fault, list[str]]) -> list[Fault]:
    """Return the faults that no test notices, of those inside functions."""
    read, write = os.pipe()
    if os.fork() == 0:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            import pytest

            files = sorted({test.split("::")[0] for names in tests.values() for test in names})
            arguments = ["-q", "--no-header", "-p", "no:cacheprovider", *files]
            with contextlib.suppress(BaseException):
                pytest.main(arguments, plugins=[_Trials(chosen, tests, write)])
            os._exit(0)
    os.close(write)
    missed = []
    with os.fdopen(read) as lines:
        for fault, line in zip(chosen, lines, strict=True):
            print(f"{fault.plant()[0]}: {line}", end="", flush=True)
            if line.startswith(SURVIVES):
                missed.append(fault)
    return missed


def drawn(of: list[Fault], size: int, seed: int) -> list[Fault]:
    """Draw a sample in which each module has its share."""
    draw = random.Random(seed)
    mixed = sorted(of, key=lambda fault: (fault.path, draw.random()))
    start = draw.random()
    return [mixed[int((start + k) * len(mixed) / size)] for k in range(size)]


def main() -> None:
    """Try the faults of a module, or a sample of those of a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module", type=Path, nargs="*", default=[SOURCE / DEFAULT])
    parser.add_argument("--sample", type=int, help="try so many faults, drawn from all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", metavar="K/N", help="every N-th of them, beginning at the K-th")
    parser.add_argument("--most", type=float, default=reach.MOST, help="seconds of tests for each")
    parser.add_argument("--skip", nargs="*", default=["pool_kernel.py"], help="compiled code")
    parser.add_argument("--kind", nargs="*", help="of operator, edge, comparison, ...")
    parser.add_argument("--quick", action="store_true", help="ten faults")
    asked = parser.parse_args()
    paths = [path.resolve() for path in asked.module]
    files = [f for path in paths for f in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    chosen = [fault for path in files if path.name not in asked.skip for fault in faults(path)]
    chosen = [fault for fault in chosen if not asked.kind or fault.kind in asked.kind]
    print(f"{len(chosen)} faults in {len(files)} files")
    if asked.sample or asked.quick:
        chosen = drawn(chosen, min(asked.sample or 10, len(chosen)), asked.seed)
    if asked.part:
        part, of = map(int, asked.part.split("/"))
        chosen = chosen[part - 1 :: of]
    tests = reach.cheapest([(fault.path, fault.function) for fault in chosen], asked.most)
    by_fault = dict(zip(chosen, tests, strict=True))
    own = [fault for fault in chosen if fault.function and by_fault[fault]]
    missed = tried(own, by_fault) if own else []
    for fault in chosen:
        if by_fault[fault] and fault.function:
            continue
        # Imported anew, so that what is made at import has the fault too.
        words, tree = fault.plant()
        if by_fault[fault] and noticed(_name_of(fault.path), fault.path, tree, by_fault[fault]):
            print(f"{words}: noticed", flush=True)
        else:
            missed.append(fault)
            print(f"{words}: {SURVIVES} {len(by_fault[fault])} tests", flush=True)
    survivors = len(missed)
    from scipy.stats import binomtest

    count = len(chosen)
    share = binomtest(count - survivors, count).proportion_ci(method="wilson")
    print(f"{count} faults, {survivors} not noticed: {1 - survivors / count:.0%} are, ", end="")
    print(f"95 % interval {share.low:.0%} to {share.high:.0%}")


if __name__ == "__main__":
    main()
