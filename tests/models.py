"""Latency models and laws that many tests start from."""

from __future__ import annotations

import numpy as np

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace

PAPER = LatencyModel.linear(
    attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0), name="paper"
)


def geometric(prompt: float = 100, decode: float = 500) -> IndependentLengths:
    return IndependentLengths(prompt=f"geometric:{prompt}", decode=f"geometric:{decode}")


def correlated(seed: int = 1, requests: int = 400, longest: int = 60) -> EmpiricalLengths:
    """A small trace whose long prompts come with long outputs."""
    generator = np.random.default_rng(seed)
    prompt = generator.integers(0, longest, requests)
    decode = 1 + (prompt * generator.random(requests)).astype(int)
    return EmpiricalLengths(Trace(prompt_tokens=prompt, decode_tokens=decode))
