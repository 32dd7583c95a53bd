"""A short trace: 3,000 of the 20,000 requests that ship say as much about most commands."""

from __future__ import annotations

import atexit
import gzip
import shutil
import tempfile
from itertools import islice
from pathlib import Path

from afdplan.files.traces.example import example_trace_path

__all__ = ["SHORT"]


def _short(requests: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="afdplan-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "example_trace.csv"
    with gzip.open(example_trace_path(), "rt", encoding="utf-8") as rows:
        path.write_text("".join(islice(rows, requests + 1)), encoding="utf-8")
    return path


SHORT = _short(3000)
