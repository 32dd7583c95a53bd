"""What does the theory say of an FFN pool without a barrier that others have measured?

The pool's curve is the published one (its floor is the time in which its weights are read), a
caller's own time is what one caller alone leaves; everything else is predicted.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import numpy as np

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import Scatter
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.problem import RatioProblem
from afdplan.validation.paper import PaperFact

__all__ = ["pool_facts", "pool_source"]

_JITTER = 0.01
"""Of a caller's own time: callers that are equal to the last bit would stay together for ever."""
_IDLE_GPU = (
    "the pool's threads wait for their turn and its GPU idles (the authors): no model in which "
    "more callers bring more work gives that"
)


def _facts() -> dict[str, Any]:
    text = (files("afdplan.data") / "measurements" / "published.toml").read_text("utf-8")
    facts: dict[str, Any] = tomllib.loads(text)["sglang-ffn-pool"]
    return facts


def pool_source() -> tuple[str, str, str]:
    """Return title, setup and source of what is published."""
    facts = _facts()
    return facts["title"], facts["setup"], f"{facts['source']}; {facts['url']}"


def pool_facts() -> list[PaperFact]:
    """Return the published figures of a pool without a barrier beside ours.

    Examples
    --------
    >>> [fact.verdict for fact in pool_facts()][-2:]
    ['reproduced', 'in part']
    """
    facts = _facts()
    return [*_callers(facts), *_co_departure(facts), _held(facts)]


def _slope(facts: dict[str, Any]) -> float:
    (few, many), (short, long) = facts["call_tokens"], facts["call_ms"]
    return float((long - short) / (many - few))


def _calls_per_ms(
    facts: dict[str, Any], callers: int, tokens: int, own: float, **rule: Any
) -> float:
    """Return the calls per millisecond of callers that do something else for `own` [ms]."""
    problem = RatioProblem(
        law=IndependentLengths(prompt="1", decode="1000"),
        latency=LatencyModel.linear(
            attention=(0.0, own),
            ffn=(_slope(facts), facts["floor_ms"]),
            scatter=Scatter(attention=_JITTER),
        ),
        batch_size=tokens,
        microbatches=1,
        execution="barrier-free",
        **rule,
    )
    model = BarrierFreeModel(problem, problem.slot_loads())
    return callers / float(model.evaluate(np.array([float(callers)])).mean[0])


def _own(facts: dict[str, Any], tokens: int, calls_per_ms: float) -> float:
    """Return what one caller alone leaves beside the pool's time of its call [ms]."""
    return float(1 / calls_per_ms - (facts["floor_ms"] + _slope(facts) * tokens))


def _callers(facts: dict[str, Any]) -> list[PaperFact]:
    tokens, measured = facts["callers_tokens"], facts["callers_calls_per_second"]
    own = _own(facts, tokens, measured[0] / 1e3)
    found = []
    for callers, seen in list(zip(facts["callers"], measured, strict=True))[1:]:
        ours = 1e3 * _calls_per_ms(facts, callers, tokens, own)
        elsewhere = facts["second_caller_elsewhere"]
        is_between = callers == 2 and seen < ours < elsewhere * measured[0]
        found.append(
            PaperFact(
                what=f"calls/s of {callers} callers, {tokens} tokens each",
                published=f"{seen:,.0f} ({seen / measured[0]:.2f} times one caller)",
                ours=f"{ours:,.0f} ({ours / measured[0]:.2f} times)",
                verdict="in part" if is_between else "not reproducible",
                why=f"a second caller pays; {elsewhere:.2f} times elsewhere, ours lies between"
                if is_between
                else _IDLE_GPU,
            )
        )
    return found


def _co_departure(facts: dict[str, Any]) -> list[PaperFact]:
    tokens = facts["wide_tokens"]
    alone, together = (facts[f"wide_{how}_tokens_per_second"] for how in ("alone", "together"))
    own = _own(facts, tokens, alone / tokens / 1e3)
    free, forced = (
        1e3 * tokens * _calls_per_ms(facts, 2, tokens, own, least_calls=least) for least in (1, 2)
    )
    return [
        PaperFact(
            what=f"tokens/s of two callers, {tokens} tokens each, forced into one departure",
            published=f"{together:,.0f} ({together / alone:.2f} times one caller alone)",
            ours=f"{forced:,.0f} ({forced / alone:.2f} times)",
            verdict="not reproducible",
            why=_IDLE_GPU,
        ),
        PaperFact(
            what=f"the better rule for two callers, {tokens} tokens each",
            published="never wait for a second call",
            ours=f"wait for {1 if free >= forced else 2} ({free / forced - 1:+.0%} over waiting)",
            verdict="reproduced" if free >= forced else "not reproducible",
            why="a wide call reads the weights for its own rows; waiting idles the pool",
        ),
    ]


def _held(facts: dict[str, Any]) -> PaperFact:
    calls = facts["layers"] * facts["decoded_tokens"]
    alone, held = facts["alone_seconds"], facts["held_seconds"]
    own = _own(facts, 1, calls / (1e3 * alone))
    free = _calls_per_ms(facts, 1, 1, own)
    wait = facts["longest_wait_ms"]
    ours = free / _calls_per_ms(facts, 1, 1, own, least_calls=2, longest_wait=wait)
    return PaperFact(
        what=f"one host, a pool that waits for two calls, {wait:g} ms at most",
        published=f"{held / alone:.2f} times as long",
        ours=f"{ours:.2f} times",
        verdict="in part" if ours > 1 else "not reproducible",
        why=f"a call waited {1e3 * (held - alone) / calls:.1f} ms, not the {wait:g} ms of the "
        "rule: its timer is late",
    )
