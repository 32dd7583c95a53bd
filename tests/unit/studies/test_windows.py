from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.model.trace import Trace
from afdplan.studies.definition import load_study
from afdplan.studies.windows import WindowRule, cut, window_trace
from tests.unit.studies.declare import LATENCY, write, write_trace


def trace_of(times):
    size = len(times)
    return Trace(
        prompt_tokens=np.arange(size), decode_tokens=np.arange(1, size + 1), arrival_times=times
    )


def test_windows_of_a_duration_hold_every_request_once():
    times = np.sort(np.random.default_rng(1).uniform(0, 100, 500))
    times[0], times[-1] = 0.0, 100.0  # on an edge
    trace = trace_of(times)
    windows = cut(trace, WindowRule(duration=12.5, minimum_requests=2))
    edges = [(w.first, w.last) for w in windows]
    assert edges[0][0] == 0
    for (_, last), (first, _) in pairwise(edges):
        assert last == first
    for window in windows:
        inside = times[window.first : window.last]
        assert (inside >= window.start).all()
        assert (inside < window.end).all()
    # The arrival on the last edge is alone in its window, which is left out.
    assert edges[-1][1] == 499
    assert len(windows) == 8


def test_windows_of_requests_and_a_short_last_one():
    trace = trace_of(np.arange(10.0))
    windows = cut(trace, WindowRule(requests=4, minimum_requests=2))
    assert [(w.first, w.last) for w in windows] == [(0, 4), (4, 8), (8, 10)]
    assert window_trace(trace, windows[1]).prompt_tokens.tolist() == [4, 5, 6, 7]
    assert window_trace(trace, windows[1]).arrival_times[0] == 0


def test_a_gap_leaves_its_numbers_out():
    times = [*range(10), *range(1000, 1010)]
    windows = cut(trace_of(np.array(times, float)), WindowRule(duration=10, minimum_requests=5))
    assert [w.number for w in windows] == [0, 100]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (WindowRule(duration=1e-9), "windows, at most"),
        (WindowRule(duration=10, minimum_requests=99), "no window holds 99"),
    ],
)
def test_refused(rule, told):
    with pytest.raises(InvalidInputError, match=told):
        cut(trace_of(np.arange(10.0)), rule)


def test_no_arrivals():
    with pytest.raises(InvalidInputError, match="has no arrival times"):
        cut(Trace(prompt_tokens=[1], decode_tokens=[1]), WindowRule(duration=1.0))


def test_a_study_of_windows_times_a_grid(tmp_path):
    write_trace(tmp_path, "a.csv", hours=3)
    write_trace(tmp_path, "b.csv", hours=2)
    text = (
        f'compute = "ratio"\n[fixed]\nlatency = "{LATENCY}"\n[windows]\nduration = 3600\n'
        '[grid]\nbatch_size = [16, 32]\ntrace = ["a.csv", "b.csv"]\n'
    )
    study = load_study(write(tmp_path, text))
    found = [study.case(i).values for i in range(study.cases)]
    assert [(v["trace"], v["window"], v["batch_size"]) for v in found] == [
        (name, window, size)
        for name, count in (("a.csv", 3), ("b.csv", 2))
        for window in range(count)
        for size in (16, 32)
    ]
    assert len({study.case(i).case_hash for i in range(study.cases)}) > 6
