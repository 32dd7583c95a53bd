"""What is the joint law of prompt and decode lengths, and what load does it put on a slot?

A slot that always holds a request is in state (request, step) with a chance proportional to the
time spent there (renewal-reward): longer outputs are seen more often. Hence for the load
``y = P + i`` of a slot

    pmf(y) = E[1{P <= y < P + D}] / E[D]

A slot that cannot read more than `window` tokens holds ``min(y, window)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import InvalidInputError
from afdplan.lengths.blocks import coarse
from afdplan.lengths.discrete import DiscreteLaw, parse_law
from afdplan.lengths.load_motion import Atoms, LoadMotion, load_motion
from afdplan.lengths.token_load import SlotLoad, TokenLoad, once_per_window
from afdplan.model.kinds import check_kind
from afdplan.model.trace import Trace

__all__ = ["EmpiricalLengths", "IndependentLengths", "LengthLaw", "StationaryRequests", "check_law"]

FINEST_POINTS = 1 << 18
"""Independent laws with more possible loads than this are binned."""
MOTION_ATOMS = 128
"""Points on which independent laws are put for the moments of their jumps (exact to 1 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationaryRequests:
    """Requests as an observer finds them in slots: length-biased, at a uniform age.

    Attributes
    ----------
    prompt_tokens, decode_tokens
        P and D of each request [tokens], shape (n,).
    age
        Decode steps already done, 0 <= age < D [steps], shape (n,).
    """

    prompt_tokens: IntArray
    decode_tokens: IntArray
    age: IntArray


def _means(law: LengthLaw) -> str:
    prompt, decode = law.mean_prompt_tokens, law.mean_decode_tokens
    return f"prompts of {prompt:,.0f} and outputs of {decode:,.0f} tokens in the mean"


class EmpiricalLengths:
    """The joint law of a trace: each request equally likely, prompt and output kept together.

    Parameters
    ----------
    trace
        Requests; their order does not matter here.

    Examples
    --------
    >>> law = EmpiricalLengths(Trace(prompt_tokens=[2, 4], decode_tokens=[1, 3]))
    >>> law.token_load()  # the slot holds 2, 4, 5, 6 tokens a quarter of the time each
    TokenLoad(mean=4.25, variance=2.1875)
    """

    def __init__(self, trace: Trace) -> None:
        check_kind("trace", trace, Trace, "read_trace reads one from a file")
        self.prompt_tokens: IntArray = trace.prompt_tokens
        self.decode_tokens: IntArray = trace.decode_tokens
        self.name = trace.source

    def __str__(self) -> str:
        """Return in a sentence which lengths these are."""
        return f"Requests of {self.name}, {_means(self)}."

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length, E[P], in tokens."""
        return int(self.prompt_tokens.sum()) / self.prompt_tokens.size

    @property
    def mean_decode_tokens(self) -> float:
        """Mean output length, E[D], in tokens."""
        return int(self.decode_tokens.sum()) / self.decode_tokens.size

    @property
    def is_constant(self) -> bool:
        """Whether all requests are alike."""
        return bool(np.ptp(self.prompt_tokens) == 0 and np.ptp(self.decode_tokens) == 0)

    def commonest_life(self) -> tuple[int, float]:
        """Return the output length that most of a slot's time belongs to, and that share."""
        times = np.bincount(self.decode_tokens, weights=self.decode_tokens)
        most = int(times.argmax())
        return most, float(times[most] / times.sum())

    @property
    def mean_squared_decode_tokens(self) -> float:
        """Mean squared output length, E[D^2], in tokens^2."""
        return math.fsum(self.decode_tokens.astype(np.float64) ** 2) / self.decode_tokens.size

    @once_per_window
    def token_load(self, window: int | None = None) -> TokenLoad:
        """Return theta and nu^2 of a slot, as ratios of sums over requests.

        Parameters
        ----------
        window
            Most tokens that a layer reads of one request [tokens]; None reads all.

        Notes
        -----
        Sums are exactly rounded, so that the order of requests changes no digit. Loads are
        centred on the mean prompt before squaring: no cancellation for long prompts.
        """
        if window is not None and window < int((self.prompt_tokens + self.decode_tokens).max()) - 1:
            return _moments(self.slot_load(window))
        decode = self.decode_tokens.astype(np.float64)
        centre = round(self.mean_prompt_tokens)
        prompt = (self.prompt_tokens - centre).astype(np.float64)
        total = math.fsum(decode)
        first = math.fsum(decode * prompt + decode * (decode - 1) / 2) / total
        second = (
            math.fsum(
                decode * prompt**2
                + prompt * decode * (decode - 1)
                + decode * (decode - 1) * (2 * decode - 1) / 6
            )
            / total
        )
        return TokenLoad(mean=centre + first, variance=max(second - first**2, 0.0))

    @once_per_window
    def slot_load(self, window: int | None = None) -> SlotLoad:
        """Return the whole stationary law of a slot's load, every integer kept.

        Parameters
        ----------
        window
            Most tokens that a layer reads of one request [tokens]; None reads all.
        """
        lowest = int(self.prompt_tokens.min())
        starts = self.prompt_tokens - lowest
        ends = starts + self.decode_tokens
        size = int(ends.max())
        change = np.bincount(starts, minlength=size + 1) - np.bincount(ends, minlength=size + 1)
        weights = np.cumsum(change[:size]).astype(np.float64)
        pmf = weights / float(int(self.decode_tokens.sum()))
        if window is None:
            moments = self.token_load()
            slot = SlotLoad(lowest=float(lowest), spacing=1.0, probabilities=pmf, moments=moments)
        else:
            slot = _windowed(lowest, pmf, window)
        return replace(slot, motion=self._motion(window))

    def _motion(self, window: int | None) -> LoadMotion:
        weights = np.full(self.decode_tokens.size, 1 / self.decode_tokens.size)
        begins = self.prompt_tokens.astype(np.float64)
        # In order of size: sums of the same numbers then have the same last digit.
        starts = Atoms(points=np.sort(begins), weights=weights)
        ends = Atoms(points=np.sort(begins + self.decode_tokens), weights=weights)
        return load_motion(starts.cut(window), ends.cut(window), 1 / self.mean_decode_tokens)

    def prompts(self) -> Atoms:
        """Return the law of prompt lengths, a point per request [tokens]."""
        size = self.prompt_tokens.size
        points = np.sort(self.prompt_tokens).astype(np.float64)
        return Atoms(points=points, weights=np.full(size, 1 / size))

    def survival(self) -> tuple[FloatArray, FloatArray]:
        """Return ``P(D > i)`` and ``E[P 1{D > i}]`` for i = 0 .. max D - 1."""
        size = int(self.decode_tokens.max())
        count = self.decode_tokens.size
        ended = np.bincount(self.decode_tokens, minlength=size + 1)[1:]
        prompts = np.bincount(self.decode_tokens, weights=self.prompt_tokens, minlength=size + 1)[
            1:
        ]
        alive = np.cumsum(ended[::-1])[::-1] / count
        return alive, np.cumsum(prompts[::-1])[::-1] / count

    def sample(self, generator: np.random.Generator, size: int) -> tuple[IntArray, IntArray]:
        """Return `size` independent requests as (prompt_tokens, decode_tokens)."""
        index = generator.integers(self.decode_tokens.size, size=size)
        return self.prompt_tokens[index], self.decode_tokens[index]

    def sample_stationary(self, generator: np.random.Generator, size: int) -> StationaryRequests:
        """Return `size` requests as found in slots: one of all decode steps, uniformly."""
        ends = np.cumsum(self.decode_tokens)
        step = generator.integers(int(ends[-1]), size=size)
        index = np.searchsorted(ends, step, side="right")
        decode = self.decode_tokens[index]
        return StationaryRequests(
            prompt_tokens=self.prompt_tokens[index],
            decode_tokens=decode,
            age=step - (ends[index] - decode),
        )


class IndependentLengths:
    """Prompt and decode lengths drawn independently of each other.

    Parameters
    ----------
    prompt, decode
        A `DiscreteLaw` or its text in the mini-language (`parse_law`).

    Examples
    --------
    >>> law = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    >>> round(law.token_load().mean, 6)  # mean P + mean D - 1
    599.0
    """

    def __init__(self, *, prompt: DiscreteLaw | str, decode: DiscreteLaw | str) -> None:
        if not isinstance(prompt, DiscreteLaw):
            prompt = parse_law(prompt, minimum=0, role="prompt")
        if not isinstance(decode, DiscreteLaw):
            decode = parse_law(decode, minimum=1, role="decode")
        self.prompt = prompt
        self.decode = decode
        self.name = f"prompt {self.prompt.name}, decode {self.decode.name}"

    def __str__(self) -> str:
        """Return in a sentence which lengths these are."""
        return f"Independent lengths: {self.name}, {_means(self)}."

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length, E[P], in tokens."""
        return self.prompt.mean

    @property
    def mean_decode_tokens(self) -> float:
        """Mean output length, E[D], in tokens."""
        return self.decode.mean

    def commonest_life(self) -> tuple[int, float]:
        """Return the output length that most of a slot's time belongs to, and that share."""
        times = self.decode.support * self.decode.probabilities
        most = int(times.argmax())
        return self.decode.lowest + most, float(times[most] / times.sum())

    @property
    def mean_squared_decode_tokens(self) -> float:
        """Mean squared output length, E[D^2], in tokens^2."""
        return self.decode.moment(2)

    @property
    def is_constant(self) -> bool:
        """Whether all requests are alike."""
        return self.prompt.is_constant and self.decode.is_constant

    @once_per_window
    def token_load(self, window: int | None = None) -> TokenLoad:
        """Return theta and nu^2 of a slot; see `EmpiricalLengths.token_load`."""
        if window is not None and window < self.prompt.highest + self.decode.highest - 1:
            return _moments(self.slot_load(window))
        age = self._age()
        steps = np.arange(age.size, dtype=np.float64)
        mean_age = float(age @ steps)
        return TokenLoad(
            mean=self.prompt.mean + mean_age,
            variance=self.prompt.variance + float(age @ (steps - mean_age) ** 2),
        )

    @once_per_window
    def slot_load(self, window: int | None = None) -> SlotLoad:
        """Return the whole stationary law of a slot's load: prompt law * age law.

        Notes
        -----
        Every integer is kept up to 262,144 loads. Beyond, both laws are binned first, to about
        that many points: the mean stays exact, the variance grows by at most ``spacing^2 / 2``.
        """
        age = self._age()
        motion = self._motion(window)
        if window is not None:
            return replace(self._windowed(age, window), motion=motion)
        factor = -(-(self.prompt.probabilities.size + age.size) // FINEST_POINTS)
        prompts, ages = (coarse(pmf, factor) for pmf in (self.prompt.probabilities, age))
        pmf = _convolve(prompts, ages)
        return SlotLoad(
            lowest=float(self.prompt.lowest),
            spacing=float(factor),
            probabilities=pmf / pmf.sum(),
            moments=self.token_load(),
            motion=motion,
        )

    def _motion(self, window: int | None) -> LoadMotion:
        starts, lives = (law.atoms(MOTION_ATOMS, window) for law in (self.prompt, self.decode))
        ends = Atoms(
            points=np.add.outer(starts.points, lives.points).ravel(),
            weights=np.outer(starts.weights, lives.weights).ravel(),
        )
        mean = self.mean_decode_tokens
        motion = load_motion(starts.cut(window), ends.cut(window), 1 / mean)
        if window is None:  # atoms of a long tail lose some of its square
            square = 2 * self.prompt.variance + self.decode.variance + mean**2
            return replace(motion, mean_square_jump=square)
        return motion

    def _windowed(self, age: FloatArray, window: int) -> SlotLoad:
        """Return the law of min(load, window); what lies beyond the window is never computed."""
        kept = window - self.prompt.lowest
        pmf = np.zeros(0)
        if kept > 0:
            pmf = _convolve(self.prompt.probabilities[:kept], age[:kept])[:kept]
        if pmf.size == max(kept, 0):
            pmf = np.append(pmf, max(1.0 - float(pmf.sum()), 0.0))
        return _with_moments(min(self.prompt.lowest, window), pmf / pmf.sum())

    def prompts(self) -> Atoms:
        """Return the law of prompt lengths, on up to 2,048 points [tokens]."""
        return self.prompt.atoms(16 * MOTION_ATOMS)

    def survival(self) -> tuple[FloatArray, FloatArray]:
        """Return ``P(D > i)`` and ``E[P 1{D > i}]`` for i = 0 .. max D - 1."""
        alive = self.decode.survival()
        return alive, alive * self.prompt.mean

    def sample(self, generator: np.random.Generator, size: int) -> tuple[IntArray, IntArray]:
        """Return `size` independent requests as (prompt_tokens, decode_tokens)."""
        return self.prompt.sample(generator, size), self.decode.sample(generator, size)

    def sample_stationary(self, generator: np.random.Generator, size: int) -> StationaryRequests:
        """Return `size` requests as found in slots: length-biased, at a uniform age."""
        biased = self.decode.support * self.decode.probabilities
        law = DiscreteLaw(
            lowest=self.decode.lowest, probabilities=biased / biased.sum(), name="length-biased"
        )
        decode = law.sample(generator, size)
        age = np.floor(generator.random(size) * decode).astype(np.int64)
        return StationaryRequests(
            prompt_tokens=self.prompt.sample(generator, size),
            decode_tokens=decode,
            age=np.minimum(age, decode - 1),
        )

    def _age(self) -> FloatArray:
        """Return the law of a slot's age, ``P(D > i) / E[D]``."""
        survival = self.decode.survival()
        age: FloatArray = survival / survival.sum()
        return age


LengthLaw = EmpiricalLengths | IndependentLengths


def check_law(law: object) -> None:
    """Raise `InvalidInputError` if `law` is no law of lengths."""
    if not callable(getattr(law, "slot_load", None)):
        raise InvalidInputError(
            f"law must be a length law, got {type(law).__name__}: EmpiricalLengths(trace) is one, "
            "IndependentLengths(prompt=..., decode=...) another"
        )


def _convolve(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return the law of a sum; exact for small laws, by FFT (error 1e-16) for large ones."""
    if min(left.size, right.size) <= 64:
        direct: FloatArray = np.convolve(left, right)
        return direct
    size = left.size + right.size - 1
    fast = 1 << (size - 1).bit_length()
    total = np.fft.irfft(np.fft.rfft(left, fast) * np.fft.rfft(right, fast), fast)[:size]
    nonnegative: FloatArray = np.maximum(total, 0.0)
    return nonnegative


def _windowed(lowest: int, pmf: FloatArray, window: int) -> SlotLoad:
    """Return the law of min(load, window)."""
    kept = max(min(window - lowest, pmf.size), 0)
    pmf = np.append(pmf[:kept], pmf[kept:].sum()) if kept < pmf.size else pmf
    return _with_moments(min(lowest, window), pmf)


def _with_moments(lowest: int, pmf: FloatArray) -> SlotLoad:
    law = SlotLoad(
        lowest=float(lowest),
        spacing=1.0,
        probabilities=pmf,
        moments=TokenLoad(mean=0.0, variance=0.0),
    )
    return replace(law, moments=_moments(law))


def _moments(law: SlotLoad) -> TokenLoad:
    mean = float(law.probabilities @ law.support)
    return TokenLoad(mean=mean, variance=float(law.probabilities @ (law.support - mean) ** 2))
