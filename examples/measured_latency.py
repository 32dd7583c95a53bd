"""Write a latency model by hand, save it, read it back, and ask what would change the answer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import afdplan


def my_model(attention_slope: float) -> afdplan.LatencyModel:
    """Return times of one layer in seconds, as a stopwatch would give them."""
    return afdplan.LatencyModel.linear(
        attention=(attention_slope, 40e-6),  # seconds per KV token of a microbatch, and at rest
        ffn=(60e-9, 90e-6),  # seconds per token of an FFN worker, and at rest
        transfer=(12e-9, 15e-6),  # seconds per token that an attention worker sends
        layers=61,
        time_unit="s",
        name="stopwatch",
        source="measured by hand",
        step_overhead=2e-3,
    )


def main() -> None:
    """Print the ratio for three speeds of the KV cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stopwatch.toml")
        afdplan.save_latency(my_model(0.25e-9), path)
        print(path.read_text())
        assert afdplan.load_latency(str(path)) == my_model(0.25e-9)

    requests = afdplan.IndependentLengths(
        prompt="lognormal:mean=1500,cv=1.2", decode="geometric:400"
    )
    for slope in (0.15e-9, 0.25e-9, 0.40e-9):
        answer = afdplan.recommend_ratio(requests, my_model(slope), batch_size=128)
        step = answer.best.step_time
        print(f"{slope * 1e9:.2f} ns per KV token: {answer}; {1e3 * step:.1f} ms per token")


if __name__ == "__main__":
    main()
