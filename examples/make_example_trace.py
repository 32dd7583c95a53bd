"""Write the example trace: 20,000 requests of chat sessions, from a law that is stated here.

The law (no request is anybody's; only the sizes are chosen to look like a chat service):

1. 8,000 sessions start independently over two hours (T), with a rate that follows
   ``1 + 0.4 sin(2 pi t/T)``. A session has a geometric number of turns, mean 3; turns are an
   exponential 45 s apart. The first 20,000 requests in the order of arrival are kept.
2. Each session has a size ``s ~ Normal(0, 1)``. The request of turn k = 0, 1, ... at time t has

       ln P = 6.50 + 0.60 s + 0.55 x + 0.18 k + 0.35 (t/T - 1/2)          prompt [tokens]
       ln D = 5.32 + 0.25 s + 0.80 (0.30 x + sqrt(1 - 0.30^2) y)          output [tokens]

   with independent ``x, y ~ Normal(0, 1)``: prompts and outputs are correlated through the
   session and through x, prompts grow with the conversation, and drift up by 42 % in all.
3. Heavy tails: 2 % of the requests carry a document, which multiplies P by a Pareto variable
   of index 1.8 (at least 4); 3 % reason at length, which multiplies D by one (at least 3).
4. P is rounded and kept within 1 .. 65,536, D within 1 .. 16,384.

The seed is fixed and the file has no time stamp, so the same bytes come out each time.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

from afdplan.files.atomic import write_atomic
from afdplan.files.traces.example import example_trace_path

REQUESTS = 20_000
SESSIONS = 8_000
DURATION = 7200.0
SEED = 20_260_121


def example_rows(seed: int = SEED) -> str:
    """Return the trace as CSV text."""
    generator = np.random.default_rng(seed)
    sessions = SESSIONS
    turns = generator.geometric(1 / 3, sessions)
    session = np.repeat(np.arange(sessions), turns)
    first = np.repeat(np.cumsum(turns) - turns, turns)
    turn = np.arange(session.size) - first

    # Starts by inversion of the integrated rate on a fine grid.
    grid = np.linspace(0.0, DURATION, 7201)
    phase = 2 * np.pi * grid / DURATION
    integrated = grid + 0.4 * DURATION / (2 * np.pi) * (1 - np.cos(phase))
    starts = np.interp(generator.random(sessions) * integrated[-1], integrated, grid)
    gaps = generator.exponential(45.0, session.size) * (turn > 0)
    since_first = np.cumsum(gaps)
    arrival = starts[session] + since_first - since_first[first]

    size = generator.standard_normal(sessions)[session]
    x, y = generator.standard_normal((2, session.size))
    prompt = np.exp(6.50 + 0.60 * size + 0.55 * x + 0.18 * turn + 0.35 * (arrival / DURATION - 0.5))
    decode = np.exp(5.32 + 0.25 * size + 0.80 * (0.30 * x + np.sqrt(1 - 0.30**2) * y))
    prompt *= np.where(generator.random(session.size) < 0.02, pareto(generator, session.size, 4), 1)
    decode *= np.where(generator.random(session.size) < 0.03, pareto(generator, session.size, 3), 1)
    prompt = np.clip(np.rint(prompt), 1, 65_536).astype(np.int64)
    decode = np.clip(np.rint(decode), 1, 16_384).astype(np.int64)

    order = np.argsort(arrival, kind="stable")[:REQUESTS]
    milliseconds = np.rint((arrival[order] - arrival[order[0]]) * 1000).astype(np.int64)
    seen, where = np.unique(session[order], return_index=True)
    number = np.empty(sessions, dtype=np.int64)
    number[seen[np.argsort(where)]] = np.arange(seen.size)
    lines = ["arrived_at,num_prefill_tokens,num_decode_tokens,session_id"]
    lines += [
        f"{time // 1000}.{time % 1000:03d},{p},{d},{s}"
        for time, p, d, s in zip(
            milliseconds, prompt[order], decode[order], number[session[order]], strict=True
        )
    ]
    return "\n".join(lines) + "\n"


def pareto(generator: np.random.Generator, count: int, smallest: float) -> np.ndarray:
    """Return Pareto variables of index 1.8, at least `smallest`."""
    return smallest * (1 - generator.random(count)) ** (-1 / 1.8)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=example_trace_path())
    arguments = parser.parse_args()
    packed = gzip.compress(example_rows().encode(), compresslevel=9, mtime=0)
    write_atomic(arguments.out, packed)


if __name__ == "__main__":
    main()
