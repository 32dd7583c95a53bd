"""Where does the mean token load come from: its terms, its shape, its largest request?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.lengths.token_load import TokenLoad
from afdplan.model.trace import Trace
from afdplan.workload.interval import request_loads

__all__ = [
    "GeometricShortcut",
    "LargestRequest",
    "TokenLoadSplit",
    "geometric_shortcut",
    "largest_request",
    "split_token_load",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoadSplit:
    """The mean token load as an exact sum of three terms [tokens].

    Attributes
    ----------
    prompt
        ``E[P]``: the prompt of an average request.
    growth
        ``E[D^2] / (2 E[D]) - 1/2``: what the output has added when a slot is looked at.
    dependence
        ``Cov(P, D) / E[D]``: a slot is found more often with the prompts of long outputs.
    """

    prompt: float
    growth: float
    dependence: float

    @property
    def total(self) -> float:
        """The mean token load, the sum of the three [tokens]."""
        return self.prompt + self.growth + self.dependence


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometricShortcut:
    """What independent prompts and geometric outputs of the same means would have given.

    Attributes
    ----------
    variation, geometric_variation
        Coefficient of variation of the outputs, and of a geometric law with their mean.
    mean_token_load
        ``E[P] + E[D] - 1`` [tokens].
    std_token_load
        ``sqrt(Var(P) + E[D] (E[D] - 1))`` [tokens].
    mean_error_fraction, variance_error_fraction
        Shortcut over truth, minus one, of the mean and of the variance of the token load.
    """

    variation: float
    geometric_variation: float
    mean_token_load: float
    std_token_load: float
    mean_error_fraction: float
    variance_error_fraction: float


def split_token_load(law: LengthLaw) -> TokenLoadSplit:
    """Return the three terms of the mean token load.

    ``theta = E[P] + (E[D^2] / (2 E[D]) - 1/2) + Cov(P, D) / E[D]``, from
    ``E[D P] = E[D] E[P] + Cov(P, D)``.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> split = split_token_load(IndependentLengths(prompt="100", decode="geometric:500"))
    >>> round(split.growth, 6), split.dependence
    (499.0, 0.0)
    """
    covariance = 0.0
    if isinstance(law, EmpiricalLengths):
        prompt = law.prompt_tokens - law.mean_prompt_tokens
        decode = law.decode_tokens - law.mean_decode_tokens
        covariance = math.fsum(prompt * decode) / prompt.size
    mean_decode = law.mean_decode_tokens
    return TokenLoadSplit(
        prompt=law.mean_prompt_tokens,
        growth=(law.mean_squared_decode_tokens / mean_decode - 1) / 2,
        dependence=covariance / mean_decode,
    )


def geometric_shortcut(law: LengthLaw, load: TokenLoad) -> GeometricShortcut:
    """Return what the geometric shortcut says of a law whose true token load is `load`.

    References
    ----------
    arXiv:2601.21351, Eq. 4-6: independent prompts, geometric outputs.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> law = IndependentLengths(prompt="100", decode="500")
    >>> shortcut = geometric_shortcut(law, law.token_load())
    >>> round(shortcut.mean_error_fraction, 3)  # 599 instead of 349.5
    0.714
    """
    mean = law.mean_decode_tokens
    prompt_variance = (
        float(np.var(law.prompt_tokens))
        if isinstance(law, EmpiricalLengths)
        else law.prompt.variance
    )
    variance = max(law.mean_squared_decode_tokens - mean**2, 0.0)
    theta = law.mean_prompt_tokens + mean - 1
    shortcut_variance = prompt_variance + mean * (mean - 1)
    return GeometricShortcut(
        variation=math.sqrt(variance) / mean,
        geometric_variation=math.sqrt(1 - 1 / mean),
        mean_token_load=theta,
        std_token_load=math.sqrt(shortcut_variance),
        mean_error_fraction=_error(theta, load.mean),
        variance_error_fraction=_error(shortcut_variance, load.variance),
    )


def _error(found: float, truth: float) -> float:
    # Both vanish together: an output of one token and a constant (or no) prompt.
    return found / truth - 1 if truth else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestRequest:
    """The request with the most token-steps.

    Attributes
    ----------
    request
        Its number, from 1, in the order of the trace.
    prompt_tokens, decode_tokens
        Its lengths [tokens].
    load_fraction
        Its share of all token-steps.
    token_load_without
        Mean token load of the trace without it [tokens].
    """

    request: int
    prompt_tokens: int
    decode_tokens: int
    load_fraction: float
    token_load_without: float


def largest_request(trace: Trace) -> LargestRequest:
    """Return the request that adds most to the load of its slot; the first among equals.

    Examples
    --------
    >>> largest_request(Trace(prompt_tokens=[10, 0], decode_tokens=[3, 2])).load_fraction  # 33/34
    0.9705882352941176
    """
    loads = request_loads(trace)
    at = int(np.argmax(loads))
    total, steps = float(loads.sum()), float(trace.decode_tokens.sum())
    decode = int(trace.decode_tokens[at])
    rest = steps - decode
    return LargestRequest(
        request=at + 1,
        prompt_tokens=int(trace.prompt_tokens[at]),
        decode_tokens=decode,
        load_fraction=float(loads[at]) / total if total else 0.0,
        token_load_without=(total - float(loads[at])) / rest if rest else 0.0,
    )
