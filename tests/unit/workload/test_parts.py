"""Are parts of a trace told apart where they differ, and windows cut by the clock of the file?"""

import numpy as np
import pytest

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.files.traces.reader import read_trace
from afdplan.model.trace import Trace
from afdplan.workload.parts import cut_by_clock, select_window, tell_apart


def trace(prompt, gaps, clock=None, seed=0):
    rng = np.random.default_rng(seed)
    times = np.cumsum(gaps)
    return Trace(
        prompt_tokens=prompt,
        decode_tokens=rng.geometric(1 / 100, len(prompt)),
        arrival_times=times - times[0],
        clock=clock,
    )


@pytest.mark.parametrize("seed", range(8))
def test_one_stream_is_one_part(seed):
    rng = np.random.default_rng(seed)
    stream = trace(rng.geometric(1 / 800, 3000), rng.exponential(1.0, 3000), seed=seed)
    assert tell_apart(stream) == ()


def test_a_change_of_load_is_found_where_it_is():
    rng = np.random.default_rng(1)
    prompt = np.concatenate([rng.geometric(1 / 300, 2000), rng.geometric(1 / 2000, 1000)])
    parts = tell_apart(trace(prompt, rng.exponential(1.0, 3000)))
    assert len(parts) == 2
    assert abs(parts[0].trace.requests - 2000) <= 260  # a twelfth of the time
    assert parts[1].trace.prompt_tokens.mean() > 4 * parts[0].trace.prompt_tokens.mean()
    assert sum(part.trace.requests for part in parts) == 3000


def test_a_change_of_rate_alone_is_found():
    rng = np.random.default_rng(2)
    gaps = np.concatenate([rng.exponential(1.0, 1500), rng.exponential(0.25, 1500)])
    parts = tell_apart(trace(rng.geometric(1 / 500, 3000), gaps))
    rates = [part.arrival_rate for part in parts]
    assert rates[-1] > 3 * rates[0]


def test_the_clock_of_the_file_is_kept(tmp_path):
    rows = "".join(f"2026-03-01T{9 + k // 60:02d}:{k % 60:02d}:30Z,100,20\n" for k in range(120))
    for name, head, shown in (
        ("iso.csv", "time,prompt_tokens,output_tokens\n" + rows, 9 * 3600 + 30),
        (
            "epoch.csv",
            "timestamp,prompt_tokens,output_tokens\n"
            + "".join(f"{1_772_355_630 + 60 * k},100,20\n" for k in range(120)),
            1_772_355_630 % 86_400,
        ),
        (
            "since.csv",
            "timestamp,prompt_tokens,output_tokens\n"
            + "".join(f"{60 * k + 0.5},100,20\n" for k in range(120)),
            None,
        ),
    ):
        (tmp_path / name).write_text(head)
        assert read_trace(tmp_path / name).clock == shown


def test_a_window_of_every_day_is_put_end_to_end():
    hours = np.arange(48.0) * 3600  # an arrival on every hour of two days, from 09:00
    two_days = Trace(
        prompt_tokens=np.arange(48),
        decode_tokens=np.ones(48, dtype=int),
        arrival_times=hours,
        clock=9 * 3600.0,
    )
    noon = select_window(two_days, "12:00-14:00")
    assert noon.trace.prompt_tokens.tolist() == [3, 4, 27, 28]
    # Two hours a day: the second day begins where the first ended.
    assert noon.trace.arrival_times.tolist() == [0, 3600, 7200, 10800]
    night = select_window(two_days, "23:00-01:00")
    assert night.trace.prompt_tokens.tolist() == [14, 15, 38, 39]
    assert select_window(two_days, "all").trace.requests == 48


def test_the_peak_is_the_hour_with_most_output():
    rng = np.random.default_rng(3)
    gaps = np.concatenate([rng.exponential(60, 200), rng.exponential(6, 600), [60.0] * 200])
    busy = trace(rng.geometric(1 / 100, 1000), gaps)
    peak = select_window(busy, "peak")
    assert peak.trace.duration <= 3600
    tokens, times = busy.decode_tokens, busy.arrival_times
    best = max(
        tokens[(times >= start) & (times < start + 3600)].sum()
        for start in times
        if start + 3600 <= times[-1]
    )
    assert peak.trace.decode_tokens.sum() == best


@pytest.mark.parametrize(
    ("window", "message"),
    [("noon", "HH:MM"), ("25:00-26:00", "00:00 to 24:00"), ("10:99-11:00", "00:00 to 24:00")],
)
def test_windows_that_are_none(window, message):
    some = Trace(prompt_tokens=[1, 2], decode_tokens=[1, 2])
    with pytest.raises(InvalidInputError, match=message):
        select_window(some, window)


def test_a_window_needs_a_clock_and_requests():
    silent = Trace(prompt_tokens=[1, 2], decode_tokens=[1, 2])
    with pytest.raises(InvalidInputError, match="time of day"):
        select_window(silent, "10:00-11:00")
    told = Trace(prompt_tokens=[1, 2], decode_tokens=[1, 2], arrival_times=[0, 9], clock=0.0)
    with pytest.raises(InsufficientDataError, match="holds 0 of 2"):
        select_window(told, "10:00-11:00")


def test_windows_of_the_clock_hold_every_request_once():
    rng = np.random.default_rng(4)
    day = trace(rng.geometric(1 / 100, 5000), rng.exponential(20.0, 5000), clock=5000.0)
    windows, left_out = cut_by_clock(day, 3600.0, fewest=2)
    assert left_out <= 1
    assert sum(window.trace.requests for window in windows) >= 5000 - 1
    for window in windows:
        absolute = (window.trace.clock + window.trace.arrival_times) % 86_400
        hour = int(window.name[-5:-3])
        assert ((absolute >= 3600 * hour) & (absolute < 3600 * (hour + 1))).all()
    with pytest.raises(InvalidInputError, match="arrival times"):
        cut_by_clock(Trace(prompt_tokens=[1], decode_tokens=[1]), 3600.0)
    with pytest.raises(InsufficientDataError, match="no window"):
        cut_by_clock(day, 60.0, fewest=1000)
