"""A schedule of microbatches played stage by stage in a few lines, for tests of the theory."""

import numpy as np


def mean_rounds(times_of, attention_workers, m, f, c_out, c_back, rounds):
    """Return the mean round of m microbatches as played, and as if loads never moved.

    A worker, a direction of a link and the FFN serve one microbatch after the other; the FFN
    waits for all workers. `times_of(k)` gives the attention times of round k, shape (workers, m).
    """
    worker = np.zeros(attention_workers)
    out = np.zeros(attention_workers)
    back = np.zeros(attention_workers)
    returned = np.zeros((m, attention_workers))
    ffn, ends, frozen = 0.0, [], []
    for k in range(rounds):
        times = times_of(k)
        for u in range(m):
            worker = np.maximum(worker, returned[u]) + times[:, u]
            out = np.maximum(out, worker) + c_out
            ffn = max(ffn, out.max()) + f
            back = np.maximum(back, ffn) + c_back
            returned[u] = back
        ends.append(ffn)
        longest = max(times.sum(axis=1).max(), times.max() + f + c_out + c_back)
        frozen.append(max(longest, m * max(f, c_out, c_back)))
    first = rounds // 10
    return (ends[-1] - ends[first]) / (rounds - 1 - first), float(np.mean(frozen[first + 1 :]))


def two_batch_rounds(times, f, c_out, c_back, rounds):
    """Return the mean round of ranks that compute both attentions, then both FFNs, as played.

    `times` are the attention times of both halves on every rank, shape (ranks, 2). Every FFN
    waits for the tokens of all ranks, every attention for all experts.
    """
    rank, out, back = (np.zeros(len(times)) for _ in range(3))
    returned, ends = np.zeros(2), []
    for _ in range(rounds):
        arrived = np.zeros(2)
        for u in (0, 1):
            rank = np.maximum(rank, returned[u]) + times[:, u]
            out = np.maximum(out, rank) + c_out
            arrived[u] = out.max()
        for u in (0, 1):
            rank = np.maximum(rank, arrived[u]) + f
            back = np.maximum(back, rank) + c_back
            returned[u] = back.max()
        ends.append(back.max())
    first = rounds // 2
    return (ends[-1] - ends[first]) / (rounds - 1 - first)


def played_steps(times, order, f, c_out, c_back, *, is_drained, steps=40):
    """Return the step of layers in an order as played: the mean of many, or one from empty.

    `times` are one step's attention times, shape (kinds, m, workers) or, of independent draws
    side by side, (draws, kinds, m, workers); then the answer has the shape (draws,).
    """
    times = np.asarray(times, dtype=float)
    single = times.ndim == 3
    times = times[None] if single else times
    draws, _, m, workers = times.shape
    steps, warm = (1, 0) if is_drained else (steps, steps // 4)
    worker, out, back, ffn = (
        np.zeros((draws, workers)),
        np.zeros((draws, workers)),
        np.zeros((draws, workers)),
        np.zeros(draws),
    )
    returned, ends = [back] * m, [np.zeros(draws)]
    for _ in range(steps):
        for kind in order:
            for u in range(m):
                worker = np.maximum(worker, returned[u]) + times[:, kind, u]
                out = np.maximum(out, worker) + c_out
                ffn = np.maximum(ffn, out.max(axis=1)) + f
                returned[u] = back = np.maximum(back, ffn[:, None]) + c_back
        ends.append(back.max(axis=1))
    step = (ends[-1] - ends[warm]) / (steps - warm)
    return float(step[0]) if single else step
