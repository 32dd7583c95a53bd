"""Is the round of two-batch overlap what ranks do that play it, and its law that of the round?"""

from itertools import product

import numpy as np
import pytest

from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.two_batch import two_batch_round
from tests.unit.theory.schedule import two_batch_rounds


def round_of(times, f, out, back):
    """Return the closed form for the times of both halves, shape (..., ranks, 2)."""
    first, second = times[..., 0], times[..., 1]
    longest = np.maximum(first + second, np.maximum(first + out, second + back)).max(axis=-1)
    return f + max(f, out, back) + longest


@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("slow", ["attention", "ffn", "out", "back", "none"])
def test_closed_form_is_the_period_of_the_played_schedule(ranks, slow):
    rng = np.random.default_rng(7)
    for _ in range(20):
        scale = {name: 3.0 if name == slow else 1.0 for name in ("attention", "ffn", "out", "back")}
        times = scale["attention"] * rng.uniform(0, 2, (ranks, 2))
        f, out, back = (scale[name] * rng.uniform(0, 2) for name in ("ffn", "out", "back"))
        # The mean of 120 rounds is that of any period of few rounds, exactly.
        played = two_batch_rounds(times, f, out, back, 241)
        assert played == pytest.approx(round_of(times, f, out, back), rel=1e-9)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("out", "back"), [(0.0, 0.0), (1.3, 1.3), (1.3, 2.6), (2.75, 0.4), (9.2, 3.1), (30.5, 31.25)]
)
def test_law_is_that_of_all_outcomes(ranks, out, back):
    law = TimeLaw(lowest=0.5, spacing=0.7, probabilities=np.array([0.4, 0.1, 0.2, 0.25, 0.05]))
    outcomes = np.array(list(product(range(5), repeat=2 * ranks)))
    weights = law.probabilities[outcomes].prod(axis=1)
    rounds = round_of(law.support[outcomes].reshape(-1, ranks, 2), 1.1, out, back)
    chances = (0.013, 0.31, 0.77, 0.9901)
    found = two_batch_round(law, ranks, ffn=1.1, out=out, back=back, probabilities=chances)
    assert found.mean[0] == pytest.approx(weights @ rounds, rel=1e-12)
    order = np.argsort(rounds, kind="stable")
    total = np.cumsum(weights[order])
    wanted = [rounds[order][np.searchsorted(total, chance)] for chance in chances]
    assert found.quantiles[0] == pytest.approx(wanted, rel=1e-9)


def test_equal_times_have_the_known_round():
    law = TimeLaw(lowest=5.0, spacing=1.0, probabilities=np.ones(1))
    for f, out, back in product((1.0, 4.0, 8.0), (0.0, 3.0, 7.0), (0.5, 6.0)):
        wanted = 5 + f + max(5, out, back) + max(f, out, back)
        found = two_batch_round(law, 64, ffn=f, out=out, back=back)
        assert found.mean[0] == pytest.approx(wanted, rel=1e-12)
