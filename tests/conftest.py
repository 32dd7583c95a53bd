"""In which order are files tested, so that no process waits for another at the end?"""

from __future__ import annotations

import gc
from pathlib import Path

LONGEST = (
    "docs/test_documents.py",
    "browser/test_report_pages.py",
    "twin/test_simulation_twin.py",
    "cli/test_service.py",
    "unit/studies/test_survival.py",
    "unit/calibration/test_sweep.py",
    "property/test_hostile_names.py",
    "property/test_step_bounds.py",
)
"""Files that take tens of seconds, begun first: a file stays whole in one process."""


def pytest_collection_modifyitems(items):
    """Put the longest files first, the others in the order in which they are found."""
    first = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


def pytest_collection_finish():
    """What is there before the first test stays: no search for garbage looks at it again."""
    gc.collect()
    gc.freeze()
