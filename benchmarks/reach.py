"""Which tests run which functions, and how long do they take? Kept for `mutate`."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

KEPT = Path(__file__).parents[1] / ".pytest_cache" / "reach.json"
LONGEST = 8.0
"""Seconds of its processor; a test that takes longer is not used."""
QUICK = 0.1
"""Seconds; so short is a test that looks at what an earlier one of its file prepared."""
MOST = 10.0
"""Seconds of tests for one fault."""


class Reach:
    """A plugin of pytest that notes what each test runs."""

    def __init__(self, source: Path) -> None:
        self.source = str(source)
        self.tests: dict[str, tuple[float, list[str]]] = {}
        self.seen: set[Any] = set()
        self.shared: dict[Any, set[Any]] = {}
        """What a fixture that several tests share has run."""

    def _call(self, frame: Any, event: str, value: Any) -> None:
        self.seen.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """Keep what a fixture ran, for it is run in the first of its tests only."""
        before, self.seen = self.seen, set()
        try:
            return (yield)
        finally:
            self.shared[fixturedef] = self.seen
            self.seen = before | self.seen

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: Any) -> Iterator[None]:
        """Run a test and keep what it ran."""
        failed, self.seen = item.session.testsfailed, set()
        signal.signal(signal.SIGPROF, _too_long)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        start = time.process_time()
        sys.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if item.session.testsfailed == failed:
                took = time.process_time() - start
                of_item = getattr(item, "_fixtureinfo", None)
                for fixtures in of_item.name2fixturedefs.values() if of_item else ():
                    for fixture in fixtures:
                        self.seen |= self.shared.get(fixture, set())
                own = {place(code) for code in self.seen if self.source in code.co_filename}
                self.tests[item.nodeid] = (took, sorted(own))

    def pytest_sessionfinish(self) -> None:
        """Write what is known, with what earlier runs found of other tests."""
        KEPT.parent.mkdir(exist_ok=True)
        known = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        KEPT.write_text(json.dumps(known | self.tests))


def _too_long(*_: Any) -> None:
    raise TimeoutError


def place(code: Any) -> str:
    """Name a function by its file and its name in it."""
    return f"{code.co_filename}:{code.co_qualname}"


def note(source: Path, tests: list[str]) -> int:
    """Run tests and keep what they run."""
    arguments = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *tests]
    return int(pytest.main(arguments, plugins=[Reach(source)]))


def cheapest(functions: list[tuple[Path, str | None]], most: float = MOST) -> list[list[str]]:
    """Return, for each function or module, the tests that run it, within `most` seconds of them.

    The short ones that run little else come first: they say most of it. Then the quick ones of
    their files: what is kept between tests is run by the first of them.
    """
    known = json.loads(KEPT.read_text())
    by_place: dict[str, list[tuple[float, float, str]]] = {}
    by_file: dict[str, list[tuple[float, str]]] = {}
    for test, (took, places) in known.items():
        if took < QUICK:
            by_file.setdefault(test.partition("::")[0], []).append((took, test))
        outermost = {name.partition(".<locals>")[0] for name in places}
        for name in outermost | {name.partition(":")[0] for name in places}:
            by_place.setdefault(name, []).append(((took + QUICK) * len(places), took, test))
    answer = []
    for path, function in functions:
        of_it = sorted(by_place.get(f"{path}:{function}" if function else str(path), []))
        so_far = accumulate(took for _, took, _ in of_it)
        chosen = [test for (_, _, test), sum_ in zip(of_it, so_far, strict=True) if sum_ <= most]
        files = {test.partition("::")[0] for test in chosen}
        beside = sorted({pair for file in files for pair in by_file.get(file, [])})
        so_far = accumulate(took for took, _ in beside)
        beside = [pair for pair, sum_ in zip(beside, so_far, strict=True) if sum_ <= most / 2]
        answer.append(list(dict.fromkeys([*chosen, *(test for _, test in beside)])))
    return answer


if __name__ == "__main__":
    note(Path(__file__).parents[1] / "src" / "afdplan", sys.argv[1:])
