"""Where are the data shared between checkouts? Tests that need them skip without them."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("AFDPLAN_SHARED", Path(__file__).parents[2] / "shared"))


def shared(path: str) -> Path:
    """Return the path of a shared file, or skip the test if it is absent."""
    found = ROOT / path
    if not found.exists():
        pytest.skip(f"shared data absent: {path}")
    return found
