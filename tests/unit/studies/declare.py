"""Study files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LATENCY = "deepseek-v3-ascend-910c"
FAST = f"""
compute = "ratio"
[fixed]
latency = "{LATENCY}"
prompt = "geometric:20"
method = "mean-field"
[grid]
decode = ["geometric:30", "40"]
batch_size = [16, 32, 64]
microbatches = [1, 2]
"""


def write(folder: Path, text: str, name: str = "study.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def write_trace(folder: Path, name: str = "trace.csv", hours: int = 6) -> Path:
    """A trace whose prompts are long by day and short by night."""
    generator = np.random.default_rng(5)
    lines = ["arrived_at,num_prefill_tokens,num_decode_tokens"]
    for minute in range(60 * hours):
        long = (minute // 60) % 2
        prompt = int(generator.integers(2000, 3000) if long else generator.integers(50, 150))
        lines.append(f"{minute * 60},{prompt},{int(generator.integers(50, 150))}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path
