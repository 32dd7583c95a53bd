"""Is the ratio over the clock that of its windows, and a fixed one dearer by what it costs?"""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.latency_file import load_latency
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.trace import Trace
from afdplan.planning.ratio_day import ratio_day
from afdplan.report.ratio_day import day_answer, day_fact, day_figure, day_table
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend


@pytest.fixture(scope="module")
def trace():
    rng = np.random.default_rng(1)
    prompt = np.concatenate([rng.geometric(1 / m, 300) for m in (300, 3000, 900)])
    return Trace(
        prompt_tokens=prompt,
        decode_tokens=rng.geometric(1 / 200, 900),
        arrival_times=np.arange(900) * 12.0,
        clock=7 * 3600.0,
    )


@pytest.fixture(scope="module")
def problem(trace):
    return RatioProblem(
        law=EmpiricalLengths(trace),
        latency=load_latency("deepseek-v3-ascend-910c"),
        batch_size=32,
    )


def test_every_window_has_its_own_ratio(trace, problem):
    from dataclasses import replace

    day = ratio_day(problem, trace, 3600.0)
    assert [window.start for window in day.windows] == ["07:00", "08:00", "09:00"]
    for window in day.windows:  # of requests that were drawn
        assert window.token_load.low < window.token_load.value < window.token_load.high
    work = adaptive = staying = 0.0
    for k, window in enumerate(day.windows):
        part = trace.part(300 * k, 300 * (k + 1))
        alone = recommend(replace(problem, law=EmpiricalLengths(part), max_attention_workers=128))
        objective = {point.attention_workers: point.objective for point in alone.curve}
        assert window.optimal_attention_workers == alone.optimal_attention_workers
        assert window.low <= window.optimal_attention_workers <= window.high
        tokens = part.decode_tokens.sum()
        adaptive += tokens / max(objective.values())
        staying += tokens / objective[day.fixed_attention_workers]
        work += tokens
    assert day.cost_of_fixed == pytest.approx(staying / adaptive - 1, abs=1e-9)
    assert 0 <= day.cost_of_best_fixed <= day.cost_of_fixed
    light, heavy, _ = day.windows
    assert heavy.optimal_attention_workers > light.optimal_attention_workers
    assert work == trace.decode_tokens.sum()


def test_it_is_told_in_every_medium(trace, problem):
    day = ratio_day(problem, trace, 3600.0)
    answer = day_answer(day)
    assert [w["optimal_attention_workers"] for w in answer["windows"]] == [
        w.optimal_attention_workers for w in day.windows
    ]
    assert f"staying at {day.fixed_attention_workers}" in day_fact(day).value
    best = day.windows[0].optimal_attention_workers
    steady = replace(day, windows=day.windows[:1] * 2, fixed_attention_workers=best)
    assert day_fact(steady).value == f"A = {best} is the best in all of 2 windows"
    assert len(day_table(day).rows) == 3
    assert day_figure(day).identifier == "day"


def test_windows_need_arrivals(problem):
    with pytest.raises(InvalidInputError, match="arrival times"):
        ratio_day(problem, Trace(prompt_tokens=[5] * 9, decode_tokens=[5] * 9), 3600.0)
