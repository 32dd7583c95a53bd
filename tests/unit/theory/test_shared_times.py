"""Are the times right in which transfers occupy workers, launches cost, and ratios are uneven?"""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import LatencyModelError, UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio

LAW = IndependentLengths(prompt="fixed:99", decode="fixed:1")
COSTS = LatencyModel.linear(attention=(0.001, 2.0), ffn=(0.01, 0.5), transfer=(0.05, 0.3), layers=4)
RATIOS = ((1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (7, 2), (8, 1), (64, 1), (65, 2), (13, 8))


def played_round(a, c, m, coupling, workers, ffn_workers, ffn_of):
    """Return the round of equal workers, each task begun as soon as whom it needs is free.

    Peers are received, and sent to, one by one in a loop, from when the last has sent.
    """
    peers = math.ceil(workers / ffn_workers)
    times = peers if coupling.one_by_one else 1
    f = ffn_of(workers * 32 / ffn_workers) + coupling.launch
    worker = ffn = out = back = 0.0
    returned, ends = [0.0] * m, []
    for _ in range(120):
        for u in range(m):
            part = coupling.receive_attention * c
            worker = max(worker, returned[u] - part) + part  # the end of the transfer
            worker += a
            begin = max(worker, out)
            out = begin + c
            worker = max(worker, begin + coupling.send_attention * c)
            part = coupling.send_ffn * c
            ffn = max(ffn, out - part)
            for _ in range(times):
                ffn += part
            ffn += f
            for peer in range(times):
                begin = ffn if peer == times - 1 else begin
                ffn += coupling.receive_ffn * c
            back = max(begin, back) + c
            returned[u] = back
        ends.append(back)
    return (ends[-1] - ends[39]) / 80


def step(latency, workers, ffn_workers, m, **options):
    problem = RatioProblem(
        law=LAW,
        latency=latency,
        batch_size=32,
        microbatches=m,
        ffn_workers=ffn_workers,
        method="mean-field",
        **options,
    )
    return CycleModel(problem, problem.slot_loads()).evaluate(np.array([float(workers)]))


@pytest.mark.parametrize("seed", range(60))
def test_a_round_is_that_of_a_play_by_hand(seed):
    r = random.Random(seed)
    workers, ffn_workers = r.choice(RATIOS)
    coupling = Coupling(
        send_attention=r.choice([0.0, 0.4, 1.0]),
        send_ffn=r.choice([0.0, 0.3, 1.0]),
        receive_attention=r.choice([0.0, 0.6, 1.0]),
        receive_ffn=r.choice([0.0, 0.2, 1.0]),
        one_by_one=r.random() < 0.5,
        launch=r.choice([0.0, 0.7]),
    )
    slope, m = r.choice([0.001, 0.01, 0.05]), r.choice([1, 2])
    latency = replace(COSTS, ffn=replace(COSTS.ffn, slope=slope), coupling=coupling)
    a, c = latency.attention[0].time(32 * 99.0, 32), latency.send.curve(32.0)
    played = played_round(a, c, m, coupling, workers, ffn_workers, latency.ffn)
    found = step(latency, workers, ffn_workers, m)
    assert found.mean[0] / 4 == pytest.approx(played, rel=1e-9)
    # Idle is who computes nothing: transfers that occupy a worker are no computing.
    f = latency.ffn(workers * 32 / ffn_workers) + coupling.launch
    assert found.attention_idle_fraction[0] == pytest.approx(1 - m * a / played, abs=1e-9)
    assert found.ffn_idle_fraction[0] == pytest.approx(1 - m * f / played, abs=1e-9)


@pytest.mark.parametrize(("workers", "ffn_workers"), RATIOS)
@pytest.mark.parametrize("experts", [None, ExpertLoad(imbalance=1.25, share=0.6)])
def test_the_ffn_worker_with_most_peers_decides(workers, ffn_workers, experts):
    coupling = Coupling(fan_in="whole", dense_share=0.4)
    line = replace(COSTS.ffn, slope=1.0)
    latency = replace(COSTS, ffn=line, coupling=coupling, experts=experts)
    n, own = workers * 32 / ffn_workers, math.ceil(workers / ffn_workers) * 32
    f = 0.5 + 0.6 * n * (1.25 if experts else 1.0) + 0.4 * own
    assert step(latency, workers, ffn_workers, 4).mean[0] == pytest.approx(4 * 4 * f, rel=1e-12)


@pytest.mark.parametrize(("workers", "ffn_workers"), RATIOS)
def test_a_link_shared_by_peers_carries_whole_batches(workers, ffn_workers):
    shared = replace(COSTS.send, load="aggregate", curve=replace(COSTS.ffn, slope=1.0))
    latency = replace(COSTS, send=shared, coupling=Coupling(fan_in="whole"))
    most = 0.5 + math.ceil(workers / ffn_workers) * 32
    assert step(latency, workers, ffn_workers, 4).mean[0] == pytest.approx(4 * 4 * most, rel=1e-12)
    # Spread evenly, an FFN worker of four for one attention worker has a quarter of its tokens.
    even = step(replace(latency, coupling=Coupling()), workers, ffn_workers, 4).mean[0]
    assert (even < 16 * most) == (workers % ffn_workers != 0)


def test_no_coupling_changes_nothing_at_all():
    random_lengths = IndependentLengths(prompt="geometric:300", decode="geometric:100")
    plain = recommend_ratio(random_lengths, COSTS, batch_size=32)
    same = Coupling(one_by_one=True)  # of nobody
    other = recommend_ratio(random_lengths, replace(COSTS, coupling=same), batch_size=32)
    assert [p.step_time for p in plain.curve] == [p.step_time for p in other.curve]


def best_by_trying(latency, ffn_workers, limit):
    def objective(workers):
        found = step(latency, workers, ffn_workers, 2).mean[0]
        return workers / (workers + ffn_workers) / found

    return max(range(1, limit + 1), key=objective)


@pytest.mark.parametrize("ffn_workers", [1, 3, 16])
@pytest.mark.parametrize(
    "coupling",
    [
        Coupling(fan_in="whole", dense_share=0.5),
        Coupling(send_ffn=0.3, receive_ffn=0.2, one_by_one=True, launch=0.5),
    ],
)
def test_the_best_ratio_is_found_where_times_jump(coupling, ffn_workers):
    latency = replace(COSTS, coupling=coupling)
    best = best_by_trying(latency, ffn_workers, 24 * ffn_workers)
    found = recommend_ratio(
        LAW,
        latency,
        batch_size=32,
        ffn_workers=ffn_workers,
        method="mean-field",
        max_attention_workers=24 * ffn_workers,
    )
    assert found.optimal_attention_workers == best
    assert found.mean_field_ratio == pytest.approx(best / ffn_workers, abs=1 / ffn_workers)


def test_fewer_attention_than_ffn_workers_is_answered():
    slow = replace(COSTS, ffn=replace(COSTS.ffn, slope=0.5, intercept=0.0))
    latency = replace(slow, coupling=Coupling(fan_in="whole"))
    found = recommend_ratio(LAW, latency, batch_size=32, ffn_workers=4)
    assert found.optimal_attention_workers < 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"send_ffn": 1.01}, "send_ffn must be <= 1, got 1.01"),
        ({"receive_attention": -0.1}, "receive_attention must be"),
        ({"launch": math.nan}, "launch must be"),
        ({"dense_share": 0.2}, "dense_share needs fan_in whole"),
        ({"fan_in": "odd"}, "fan_in must be one of"),
        ({"one_by_one": 1}, "one_by_one must be true or false"),
    ],
)
def test_bad_input_is_one_clear_line(values, words):
    with pytest.raises(LatencyModelError, match=words) as caught:
        Coupling(**values)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_together_is_refused():
    shared = replace(COSTS.send, load="aggregate")
    with pytest.raises(LatencyModelError, match="send_attention must be 0"):
        replace(COSTS, send=shared, coupling=Coupling(send_attention=0.5))
    with pytest.raises(LatencyModelError, match="at most 1 together"):
        replace(
            COSTS,
            experts=ExpertLoad(imbalance=1.2),
            coupling=Coupling(fan_in="whole", dense_share=0.1),
        )
    occupying = replace(COSTS, coupling=Coupling(send_ffn=1.0))
    with pytest.raises(UnsupportedError, match="occupy nobody"):
        step(occupying, 4, 1, 2, overlap="ideal")
    with pytest.raises(UnsupportedError, match="without a barrier"):
        RatioProblem(law=LAW, latency=occupying, batch_size=32, execution="barrier-free")
