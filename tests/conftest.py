"""In which order are files tested, so that no process waits for another at the end?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

LONGEST = (
    "docs/test_documents.py",
    "browser/test_report_pages.py",
    "twin/test_simulation_twin.py",
    "cli/test_service.py",
    "unit/studies/test_survival.py",
    "unit/calibration/test_sweep.py",
    "property/test_hostile_names.py",
    "property/test_step_bounds.py",
    "cli/test_check.py",
    "cli/test_once_found.py",
    "cli/test_placement.py",
)
"""Files that take tens of seconds, begun first: a file stays whole in one process."""


def pytest_collection_modifyitems(items):
    """Put the longest files first, the others in the order in which they are found."""
    first = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    assert all(path.exists() for path in first), "a file that is begun first is no longer there"
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.fixture(scope="session", autouse=True)
def typed():
    """Let answers, which tell the command line, not tell the line that runs the tests."""
    before, sys.argv = sys.argv, ["afdplan"]
    yield
    sys.argv = before
