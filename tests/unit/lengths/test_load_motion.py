import numpy as np
import pytest

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.lengths.load_motion import STILL, Atoms, load_motion
from afdplan.model.trace import Trace

LAWS = [
    IndependentLengths(prompt="geometric:100", decode="geometric:50"),
    IndependentLengths(prompt="lognormal:mean=300,cv=1.2", decode="uniform:5..300"),
    IndependentLengths(prompt="100", decode="7"),
    EmpiricalLengths(Trace(prompt_tokens=[5, 300, 40, 7], decode_tokens=[90, 3, 1, 20])),
]


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name or "trace")
def test_jumps_are_those_of_drawn_requests(law, window):
    generator = np.random.default_rng(1)
    size = 400_000
    prompt, decode = law.sample(generator, size)
    new, _ = law.sample(generator, size)
    cut = np.inf if window is None else window
    jumps = np.minimum(new, cut) - np.minimum(prompt + decode, cut)
    motion = law.slot_load(window).motion
    error = max(jumps.std() / np.sqrt(size), 1e-12)
    assert abs(motion.mean_jump - jumps.mean()) < 5 * error + 1e-9 * abs(motion.mean_jump)
    assert motion.mean_absolute_jump == pytest.approx(np.abs(jumps).mean(), rel=0.02, abs=1e-9)
    assert motion.mean_square_jump == pytest.approx((jumps.astype(float) ** 2).mean(), rel=0.05)
    assert motion.renewal_rate == pytest.approx(1 / law.mean_decode_tokens)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name or "trace")
def test_growth_and_jumps_cancel_in_the_long_run(law):
    motion = law.slot_load().motion
    assert motion.renewal_rate * motion.mean_jump == pytest.approx(-1.0)  # one token per step


def test_motion_scales_with_the_load_and_survives_binning():
    slot = LAWS[0].slot_load()
    twice = slot.stretched(2.0).motion
    assert twice.mean_jump == 2 * slot.motion.mean_jump
    assert twice.mean_absolute_jump == 2 * slot.motion.mean_absolute_jump
    assert twice.mean_square_jump == 4 * slot.motion.mean_square_jump
    assert twice.renewal_rate == slot.motion.renewal_rate
    assert slot.binned(4).motion == slot.motion
    assert STILL.mean_square_jump == 0


def test_independent_values_that_are_never_far_apart():
    atom = Atoms(points=np.array([3.0]), weights=np.ones(1))
    assert load_motion(atom, atom, 0.1).mean_absolute_jump == 0.0
