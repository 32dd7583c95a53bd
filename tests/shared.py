"""Where are the real traces and published measurements, if they are there at all?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["shared"]

_ROOT = Path(os.environ.get("AFDPLAN_SHARED", Path(__file__).parents[2] / "shared"))


def shared(name: str) -> Path:
    """Return the path of a shared file or folder, or skip the test where it is absent."""
    path = _ROOT / name
    if not path.exists():
        pytest.skip(f"no shared data here: {name}")
    return path
