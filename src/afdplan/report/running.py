"""What does ``check --json`` say that engines counted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.passes import passes_answer

if TYPE_CHECKING:
    from afdplan.planning.running import Running

__all__ = ["observed_answer"]


def observed_answer(running: Running) -> dict[str, Any]:
    """Return the names of ``observed``: whose metrics, how many requests, lengths by engine."""
    if running.passes is not None:
        return passes_answer(running.passes)
    found = running.metrics
    assert found is not None
    return {
        "system": found.system,
        "models": list(found.models),
        "requests": found.requests,
        "counted": "over a time" if found.is_window else "since the start",
        "token_load": chosen(running.token_load, "value low high"),
        "engines": [
            {
                "engine": name,
                "requests": round(decode.count),
                "mean_prompt_tokens": prompt.mean,
                "mean_decode_tokens": decode.mean,
            }
            for name, prompt, decode in found.engines
        ],
    }
