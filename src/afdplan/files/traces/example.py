"""Where is the request trace that ships with the package?"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["example_trace_path"]


def example_trace_path() -> Path:
    """Return the path of the bundled trace: 20,000 requests drawn from a stated law.

    Notes
    -----
    ``examples/make_example_trace.py`` states the law and writes the file.

    Examples
    --------
    >>> from afdplan.files.traces.reader import read_trace
    >>> read_trace(example_trace_path()).requests
    20000
    """
    return Path(str(files("afdplan.data") / "example_trace.csv.gz"))
