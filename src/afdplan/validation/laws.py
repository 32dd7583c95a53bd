"""On which laws of lengths is the theory tried?"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.checks import check_choice
from afdplan.model.trace import Trace

__all__ = ["LAWS", "shaped_law"]

_REQUESTS = 20_000
_SEED = 20260121

LAWS = {
    "light": "uniform prompts and outputs",
    "geometric": "the paper's laws",
    "heavy-tailed": "lognormal, prompts with cv 2.5, outputs with cv 1.5",
    "correlated": "lognormal, long prompts get long outputs",
    "anticorrelated": "lognormal, long prompts get short outputs",
    "bimodal": "four short chats to one long document",
    "fixed prompt": "one prompt length, geometric outputs",
}
"""Names of the shapes, each with a few words for people."""


@lru_cache(maxsize=64)
def shaped_law(name: str, mean_prompt: int, mean_decode: int) -> LengthLaw:
    """Return a law of the named shape with about the given means.

    Parameters
    ----------
    name
        One of `LAWS`.
    mean_prompt, mean_decode
        E[P] >= 8 and E[D] >= 1 [tokens]; met to a few per cent by the shapes that are samples.

    Notes
    -----
    Heavy-tailed, correlated and bimodal shapes are 20,000 requests drawn with a fixed seed: an
    empirical law is as good as any other, and exact by itself.

    Examples
    --------
    >>> law = shaped_law("geometric", 1000, 300)
    >>> round(law.mean_prompt_tokens), round(law.mean_decode_tokens)
    (1000, 300)
    """
    check_choice("law", name, tuple(LAWS))
    prompt, decode = mean_prompt, mean_decode
    if name == "light":
        return IndependentLengths(
            prompt=f"uniform:{prompt // 2}..{prompt + prompt // 2}",
            decode=f"uniform:{max(decode // 2, 1)}..{decode + decode // 2}",
        )
    if name == "geometric":
        return IndependentLengths(prompt=f"geometric:{prompt}", decode=f"geometric:{decode}")
    if name == "fixed prompt":
        return IndependentLengths(prompt=f"{prompt}", decode=f"geometric:{decode}")
    generator = np.random.default_rng(_SEED)
    if name == "heavy-tailed":
        first, second = generator.standard_normal((2, _REQUESTS))
        return _law(
            prompt * np.exp(1.4 * first - 1.4**2 / 2), decode * np.exp(1.1 * second - 1.1**2 / 2)
        )
    if name == "bimodal":
        is_long = np.arange(_REQUESTS) % 5 == 0
        prompts = np.where(is_long, 4.2 * prompt, 0.2 * prompt)
        decodes = np.where(is_long, 3.0 * decode, 0.5 * decode)
        spread = generator.uniform(0.8, 1.2, (2, _REQUESTS))
        return _law(prompts * spread[0], decodes * spread[1])
    sign = 1.0 if name == "correlated" else -1.0
    common, own = generator.standard_normal((2, _REQUESTS))
    prompts = prompt * np.exp(common - 0.5)
    decodes = decode * np.exp(0.8 * (sign * 0.8 * common + 0.6 * own) - 0.32)
    return _law(prompts, decodes)


def _law(prompts: np.ndarray, decodes: np.ndarray) -> LengthLaw:
    return EmpiricalLengths(
        Trace(
            prompt_tokens=np.maximum(np.rint(prompts), 0.0),
            decode_tokens=np.maximum(np.rint(decodes), 1.0),
        )
    )
