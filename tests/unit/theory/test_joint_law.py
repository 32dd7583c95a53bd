"""The joint law of sum and largest against every outcome, convolved."""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.theory.joint_law import JointLaw


def below(chances, m, i):
    """Return P(largest <= i, sum <= k) for k = 0, 1, ..., one more than can be."""
    whole = np.ones(1)
    for _ in range(m):
        whole = np.convolve(whole, chances[: max(i + 1, 1)] if i >= 0 else [0.0])
    return np.append(np.cumsum(whole), whole.sum())


def at(values, k):
    return 0.0 if k < 0 else values[min(k, values.size - 1)]


def shaped(size, kind):
    """Return a law that is rough, smooth, or smooth but for ripples of a share."""
    x = np.arange(size)
    if kind == "rough":
        chances = np.random.default_rng(size).dirichlet(np.ones(size))
    else:
        chances = np.sin(x / (size - 1) * np.pi) ** 8 * (1 + kind * np.sin(x * np.pi / 8))
    return chances / chances.sum()


@pytest.mark.parametrize("lead", [0, 5])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_every_diagonal_of_a_short_law(m, lead):
    """From below the least to beyond the largest, many designs at once; some begin late."""
    chances = np.append(np.zeros(lead), shaped(14, "rough"))
    joint = JointLaw(chances, m)
    size = chances.size
    assert (joint.first, joint.last) == (lead, size - 1)
    assert (joint.first_sum, joint.last_sum) == (m * lead, m * (size - 1))
    assert joint.sums == pytest.approx(below(chances, m, size - 1)[:-1], abs=1e-13)
    differences = np.arange(0, m * size + 3)
    for first in (-1, 0, size - 4):
        largest = np.tile(np.arange(first, first + 5), (differences.size, 1))
        found = joint.diagonals(largest, differences)
        for i in range(first, first + 5):
            exact = below(chances, m, min(i, size - 1))
            for more in (0, 1):
                wanted = [at(exact, i + d + more) if i >= 0 else 0.0 for d in differences]
                assert found[more][:, i - first] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("size", "kind", "step"),
    [(800, "rough", 1), (400, 1e-4, 2), (800, 0.0, 8), (800, 1e-2, 2), (800, 1e-4, 4)],
)
@pytest.mark.parametrize("lead", [0, 9])
def test_nodes_are_as_near_as_the_law_is_rough(size, kind, step, lead):
    chances = np.append(np.zeros(lead), shaped(size, kind))
    joint = JointLaw(chances, 3)
    assert joint._step == step
    for i in (size // 3, size // 2 + 1, size - 30):
        exact = below(chances, 3, i + lead)
        differences = np.arange(i + 1, 2 * i, 37)
        # A node is not asked for alone: five truncations at a time.
        largest = np.tile(np.arange(i + lead - 2, i + lead + 3), (differences.size, 1))
        for more, values in enumerate(joint.diagonals(largest, differences)):
            wanted = [at(exact, i + lead + d + more) for d in differences]
            assert values[:, 2] == pytest.approx(wanted, abs=3e-6)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("kind", ["rough", 0.0])
def test_a_law_that_goes_on_is_right_as_far_as_it_is_read(m, kind):
    """The first 60 of 100 points are known, and 30 truncations asked for."""
    chances = shaped(100, kind)
    joint = JointLaw(chances[:60], m, 30)
    differences = np.arange(0, 29)
    largest = np.tile(np.arange(10, 30), (differences.size, 1))
    found = joint.diagonals(largest, differences)
    for i in range(10, 30):
        exact = below(chances, m, i)
        for more in (0, 1):
            wanted = [at(exact, i + d + more) for d in differences]
            assert found[more][:, i - 10] == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("m", [1, 3])
def test_where_largest_and_sum_begin_to_be_likely(m):
    chances = np.append(np.zeros(4), shaped(12, "rough"))
    joint = JointLaw(chances, m)
    largest, total = np.cumsum(chances) ** m, below(chances, m, 15)
    asked = np.array([1e-20, 1e-3, 0.3, 0.9])
    at_largest, at_sum = joint.begins(asked)
    for chance, i, k in zip(asked, at_largest, at_sum, strict=True):
        if chance > 1e-12:
            assert largest[i] >= chance > largest[i - 1]
            assert total[k] >= chance > total[k - 1]
        else:
            assert (i, k) == (4, 4 * m)
