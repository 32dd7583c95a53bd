"""The bundled trace is what its law says, and comes out the same each time."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest

from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace

MAKER = Path(__file__).parents[4] / "examples" / "make_example_trace.py"


def test_bundled_trace_is_what_the_script_makes():
    made = runpy.run_path(str(MAKER))["example_rows"]()
    assert gzip.decompress(example_trace_path().read_bytes()).decode() == made
    assert example_trace_path().stat().st_size < 300_000


def test_bundled_trace_looks_like_its_law():
    trace = read_trace(example_trace_path())
    assert trace.requests == 20_000
    assert trace.prompt_tokens.mean() == pytest.approx(1600, rel=0.1)
    assert trace.decode_tokens.mean() == pytest.approx(350, rel=0.1)
    logs = np.log(trace.prompt_tokens), np.log(trace.decode_tokens)
    assert np.corrcoef(*logs)[0, 1] > 0.25
    early, late = np.array_split(logs[0], 2)
    assert late.mean() - early.mean() > 0.1
    assert np.unique(trace.session_ids).size < 8_000
