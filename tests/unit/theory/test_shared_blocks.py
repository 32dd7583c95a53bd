"""Is the memory of shared blocks that of a block table which counts references?"""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, TraceError
from afdplan.files.traces.reader import read_trace
from afdplan.model.prompt_blocks import PromptBlocks
from afdplan.model.trace import Trace
from afdplan.theory.shared_blocks import unique_fraction
from tests.shared import shared


def replayed(lists, size, prompts, decodes, slots, workers, seed=3):
    """Return unique over all KV tokens of `workers` that admit whenever a slot gets free."""
    generator = np.random.default_rng(seed)
    tables = [Counter() for _ in range(workers)]
    free = [int(w) for w in generator.permutation(np.repeat(np.arange(workers), slots // workers))]
    running: list[tuple[int, int, int]] = []
    unique = total = held_unique = held_total = 0.0
    began: dict[int, int] = {}
    now = 0
    # Outputs grow: their tokens are those of the steps since their start, summed at each event.
    starts = 0
    for k in range(len(lists)):
        if not free:
            until = running[0][0]
            if k > slots:
                span = until - now
                outputs = span * (len(running) * (now + until) / 2 - starts)
                unique += held_unique * span + outputs
                total += held_total * span + outputs
            now = until
            while running and running[0][0] == now:
                _, who, worker = heapq.heappop(running)
                for at, block in enumerate(lists[who]):
                    tables[worker][block] -= 1
                    tokens = min(size, prompts[who] - at * size)
                    held_total -= tokens
                    held_unique -= tokens if tables[worker][block] == 0 else 0
                starts -= began[who]
                free.append(worker)
        worker = free.pop(int(generator.integers(len(free))))
        began[k] = now
        starts += now
        for at, block in enumerate(lists[k]):
            tokens = min(size, prompts[k] - at * size)
            held_total += tokens
            held_unique += tokens if tables[worker][block] == 0 else 0
            tables[worker][block] += 1
        heapq.heappush(running, (now + int(decodes[k]), k, worker))
    return unique / total


def conversations(requests=6000, size=64, seed=11):
    """Return prompts that begin with one of three system prompts, then with a user's document."""
    generator = np.random.default_rng(seed)
    fresh, lists = 1000, []
    documents: list[list[int]] = []
    for _ in range(requests):
        system = int(generator.choice(3, p=[0.6, 0.3, 0.1]))
        head = list(range(100 * system, 100 * system + 5 + 10 * system))
        if documents and generator.random() < 0.5:
            document = documents[max(len(documents) - 1 - int(generator.geometric(0.1)), 0)]
        else:
            document = list(range(fresh, fresh + int(generator.integers(1, 20))))
            fresh += len(document)
            documents.append(document)
        tail = int(generator.integers(1, 6))
        # A document behind another system prompt is another prefix.
        lists.append([*head, *(3 * b + system for b in document), *range(-fresh - tail, -fresh)])
        fresh += tail
    prompts = np.array([size * len(one) - int(generator.integers(0, size)) for one in lists])
    return lists, size, prompts, generator.geometric(1 / 150, requests)


@pytest.mark.parametrize(("slots", "workers"), [(64, 1), (128, 4), (128, 64), (256, 32), (512, 2)])
def test_the_formula_is_within_two_percent_of_a_replayed_block_table(slots, workers):
    lists, size, prompts, decodes = conversations()
    found = unique_fraction(PromptBlocks.of(lists, size), prompts, decodes, slots, workers)
    assert found == pytest.approx(replayed(lists, size, prompts, decodes, slots, workers), rel=0.02)
    # Power: without sharing, or with the sharing of one worker, the bound would not hold.
    assert found < 0.95 or slots == 2 * workers
    one = unique_fraction(PromptBlocks.of(lists, size), prompts, decodes, slots, 1)
    assert workers == 1 or one < 0.95 * found or slots / workers > 100


@pytest.mark.parametrize(("slots", "workers"), [(64, 1), (512, 4), (2048, 2)])
def test_on_a_real_trace_with_hash_ids(slots, workers):
    path = shared("traces/mooncake_conversation.jsonl")
    trace = read_trace(path, prefixes=True)
    ends = trace.blocks.ends.tolist()
    ids = trace.blocks.ids.tolist()
    lists = [ids[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    asked = (trace.prompt_tokens, trace.decode_tokens, slots, workers)
    found = unique_fraction(trace.blocks, *asked)
    assert found == pytest.approx(replayed(lists, trace.blocks.size, *asked), rel=0.02)


def test_nothing_shared_saves_nothing():
    prompts, decodes = np.full(300, 100), np.full(300, 7)
    apart = PromptBlocks.of([[k] for k in range(300)], 128)
    assert unique_fraction(apart, prompts, decodes, 16, 2) == pytest.approx(1.0)
    none = PromptBlocks.of([None] * 300, 128)
    assert unique_fraction(none, prompts, decodes, 16, 2) == pytest.approx(1.0)
    # More workers hold more copies; with a slot each nothing is shared.
    same = PromptBlocks.of([[1]] * 300, 128)
    found = [unique_fraction(same, prompts, decodes, 16, w) for w in (1, 2, 8, 16)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.0)
    assert found[0] == pytest.approx((100 + 16 * 3.5) / (16 * 103.5), rel=0.01)


def test_blocks_must_fit_their_requests():
    with pytest.raises(TraceError, match="every request"):
        Trace(prompt_tokens=[5, 6], decode_tokens=[1, 1], blocks=PromptBlocks.of([[1]], 16))
    with pytest.raises(TraceError, match="ends of blocks"):
        PromptBlocks(ids=[1, 2], ends=[1], size=16)


def two_sharing(first, count):
    """Prompts of one block of 10 tokens and three more, alike for two requests in a row."""
    ids = [[7 if k in (first, first + 1) else 100 + k] for k in range(count)]
    return PromptBlocks.of(ids, size=10), np.full(count, 13), np.full(count, 2)


def test_shared_memory_by_hand():
    """Two slots, two steps each: requests enter at 0 .. 5, seen from 2 (slots full) to 5.

    Held in that time: 1, 2, 2, 1 by requests 1 .. 4, 10 tokens each and 3 outside of blocks;
    requests 1 and 2 share 10 tokens from 2 to 3; outputs 1.5 + 2 + 2 + 0.5.
    """
    everything = 13 * 6 + 6
    found = unique_fraction(*two_sharing(1, 6), 2, 1)
    assert found == pytest.approx((everything - 10) / everything, rel=1e-12)


def test_with_more_slots_than_half_of_the_requests_half_of_them_fill_slots():
    """Five slots: requests enter every 0.4, seen from 1.2 to 2; 0 and 1 share for 0.8."""
    everything = 13 * (4 * 0.8 + 0.4) + (1.28 + 0.96 + 0.64 + 0.32 + 0.08)
    found = unique_fraction(*two_sharing(0, 6), 5, 1)
    assert found == pytest.approx((everything - 8) / everything, rel=1e-12)


def test_a_single_request_shares_nothing():
    assert (
        unique_fraction(PromptBlocks.of([[1]], size=10), np.array([10]), np.array([4]), 1, 1) == 1
    )


def test_workers_have_a_slot_each():
    blocks = PromptBlocks.of([[1]] * 20, 4)
    with pytest.raises(InvalidInputError, match="workers must be an integer >= 1 and <= 8"):
        unique_fraction(blocks, np.full(20, 4), np.full(20, 9), 8, 9)


def test_the_last_block_of_a_prompt_holds_what_is_left_of_it():
    """As above, but the last 3 tokens of a prompt are a block too, and shared with it."""
    ids = [[7, 8] if k in (1, 2) else [100 + 2 * k, 101 + 2 * k] for k in range(6)]
    blocks, everything = PromptBlocks.of(ids, size=10), 13 * 6 + 6
    found = unique_fraction(blocks, np.full(6, 13), np.full(6, 2), 2, 1)
    assert found == pytest.approx((everything - 13) / everything, rel=1e-12)
