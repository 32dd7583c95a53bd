from __future__ import annotations

import numpy as np
import pytest

from afdplan.errors import InsufficientDataError
from afdplan.planning.reprovisioning import WindowCurve, compare_fixed


def random_windows(generator, windows=7, workers=9):
    return [
        WindowCurve(
            number=i,
            start=float(i),
            output_tokens=float(generator.integers(1, 100)),
            objective={a: float(generator.uniform(0.5, 1)) for a in range(1, workers + 1)},
        )
        for i in range(windows)
    ]


def test_the_best_fixed_choice_is_that_of_brute_force():
    generator = np.random.default_rng(2)
    for _ in range(50):
        windows = random_windows(generator)
        answer = compare_fixed(windows)
        # Device time, window by window, without arrays.
        adaptive = sum(w.output_tokens / max(w.objective.values()) for w in windows)
        costs = {a: sum(w.output_tokens / w.objective[a] for w in windows) for a in range(1, 10)}
        best = min(costs, key=costs.get)
        assert answer.best_fixed.attention_workers == best
        assert answer.best_fixed.total_regret == pytest.approx(costs[best] / adaptive - 1)
        for choice in answer.fixed:
            told = costs[choice.attention_workers] / adaptive - 1
            assert choice.total_regret == pytest.approx(told)
            assert choice.total_regret >= answer.best_fixed.total_regret
            worst = max(1 - w.objective[choice.attention_workers] / max(w.objective.values())
                        for w in windows)  # fmt: skip
            assert choice.worst_regret == pytest.approx(worst)


def test_one_traffic_needs_one_ratio():
    windows = random_windows(np.random.default_rng(3), windows=1) * 4
    answer = compare_fixed(windows)
    assert answer.changes == 0
    assert answer.best_fixed.total_regret == pytest.approx(0, abs=1e-12)


def test_only_common_choices_count_and_the_limit_is_told():
    short = WindowCurve(number=0, start=None, output_tokens=1, objective={1: 1.0, 2: 2.0})
    long = WindowCurve(number=1, start=None, output_tokens=1, objective={1: 1.0, 2: 2.0, 3: 9.0})
    answer = compare_fixed([short, long])
    assert [choice.attention_workers for choice in answer.fixed] == [1, 2]
    assert answer.adaptive == (2, 3)
    assert answer.at_limit


def test_nothing_in_common():
    windows = [
        WindowCurve(number=i, start=None, output_tokens=1, objective={i + 1: 1.0}) for i in (0, 1)
    ]
    with pytest.raises(InsufficientDataError, match="in common"):
        compare_fixed(windows)
    with pytest.raises(InsufficientDataError, match="no window"):
        compare_fixed([])
