"""What stands in the columns of the logs that a simulation can keep?"""

from __future__ import annotations

__all__ = ["REQUEST_COLUMNS", "STAGES", "STAGE_COLUMNS", "STEP_COLUMNS"]

REQUEST_COLUMNS = (
    "prompt_tokens",
    "decode_tokens",
    "arrival_time",
    "start_time",
    "end_time",
    "attention_worker",
    "microbatch",
    "preemptions",
)
"""One row per finished request; a start of -2 says that it was found in its slot at time zero."""

STEP_COLUMNS = (
    "step",
    "microbatch",
    "end_time",
    "step_time",
    "active_requests",
    "kv_tokens",
    "kv_tokens_of_heaviest_worker",
    "queued_requests",
)
"""One row per microbatch and step; loads are those during the step."""

STAGE_COLUMNS = ("stage", "worker", "microbatch", "step", "layer", "start", "end")
"""One row per stage played."""

STAGES = ("attention", "transfer out", "FFN", "transfer back")
"""Names of the numbers in the column `stage`."""
