"""Which service is chosen, by hand: plans and sharings are said, what is asked is written down."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InfeasibleError, UnsupportedError
from afdplan.planning import service_baselines as others
from afdplan.planning import service_search as chosen
from afdplan.planning.colocated import Colocated
from afdplan.planning.design import Design, PlannedDesign, StepSummary
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.service import Service
from afdplan.planning.service_sharing import Sharing

STEP = StepSummary(mean=0.1, p50=0.1, p95=0.12, p99=0.15)
RANKS = Colocated(
    replicas=3, ranks=2, devices_per_rank=2, batch_size=8, two_batch_overlap=True,
    step_time=STEP, tokens_per_step=1.0, tokens_per_second=90.0, requests_per_second=9.0,
    cost=12.0, score=1.0, memory_overflow_probability=0.0, held_overflow_probability=0.0,
)  # fmt: skip
DESIGN = Design(bundles=2, attention_workers=3, ffn_workers=1, batch_size=8, microbatches=2)


def split(**changes):
    found = PlannedDesign.__new__(PlannedDesign)
    for name, value in {
        "design": DESIGN,
        "cost": 8.0,
        "requests_per_second": 9.0,
        **changes,
    }.items():
        object.__setattr__(found, name, value)
    return found


class Pool:
    """Workers of two devices and one request a second each."""

    model = SimpleNamespace(devices=2)
    limit = SimpleNamespace(time_to_first_token=1.5)
    rate_of_worker = 1.0
    slots = 99

    def most_rate(self, workers, side=None):
        return float(min(workers, self.slots))

    def fewest_workers(self, rate, side):
        return None if rate > self.slots else int(np.ceil(rate))

    def first_tokens(self, workers, rate, side):
        return ("first", workers, rate)


POOL = Pool()


def sharing(decode, rate=4.0, workers=4, factor=1.0):
    return Sharing(pool=POOL, workers=workers, decode=decode, rate=rate, decode_factor=factor)


@pytest.mark.parametrize(
    ("left", "asked", "told"),
    [
        ({1.0: 0.995}, [1.0], 1.0), ({1.0: 0.991}, [1.0], 1.0),
        ({1.0: 0.9, 0.9: 0.905}, [1.0, 0.9], 0.9), ({1.0: 0.9, 0.9: 0.909}, [1.0, 0.9], 0.9),
        ({1.0: 0.5, 0.5: 0.7, 0.7: 0.6}, [1.0, 0.5, 0.7], 0.7),
        ({1.0: 0.5, 0.5: 0.999}, [1.0, 0.5], 1.0),
        ({1.0: 0.5, 0.5: 0.6, 0.6: 0.7, 0.7: 0.8, 0.8: 0.9, 0.9: 0.9}, [1.0, 0.5, 0.6, 0.7, 0.8],
         1.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decode", [split(), RANKS])
def test_shared_blocks_make_no_more_room_than_there_is(left, asked, told, decode):
    """A plan with so much room shares so much: it holds where it shares as much as it was given."""
    given, slots = [], []

    def planned(fraction):
        given.append(fraction)
        return SimpleNamespace(fraction=fraction, plan=SimpleNamespace(recommended=decode))

    def unique_fraction(*of):
        slots.append(of)
        return left[given[-1]]

    traffic = SimpleNamespace(unique_fraction=unique_fraction)
    assert chosen._with_shared_blocks(planned, traffic).fraction == told
    assert given == asked
    # Two bundles of three workers with 2 x 8 slots; three groups of two ranks with as many.
    assert set(slots) == {(96, 6)}


def test_what_prefill_leaves():
    limits = Limits(devices=30, requests_per_second=4.0)
    left = chosen._left(limits, sharing(RANKS), 1.5)
    assert (left.devices, left.requests_per_second) == (22, 6.0)
    open_ended = chosen._left(Limits(requests_per_second=4.0), sharing(RANKS), 1.0)
    assert open_ended.devices is None
    assert chosen._left(Limits(devices=30), sharing(RANKS), 1.5).requests_per_second is None


def test_what_is_recommended_may_take_other_workers():
    plan = SimpleNamespace(recommended=RANKS)
    most = chosen._served(plan, sharing(RANKS), Limits(devices=30))
    assert (most.workers, most.rate, most.first_token) == (4, 4.0, ("first", 4, 4.0))
    asked = Limits(devices=30, requests_per_second=5.0, margin=0.1)
    served = chosen._served(plan, sharing(RANKS), asked)
    assert (served.workers, served.rate, served.first_token) == (6, 6.0, ("first", 6, 5.0))
    assert served.devices == 30
    assert chosen._served(plan, sharing(RANKS), replace(asked, requests_per_second=99.0)) is None
    assert chosen._served(plan, sharing(RANKS, workers=0), Limits(devices=30)) is None


def test_sharings_that_are_one():
    one = sharing(split())
    assert chosen._is_as_wide(one, sharing(RANKS))
    assert not chosen._is_as_wide(one, sharing(RANKS, workers=5))
    assert not chosen._is_as_wide(one, sharing(RANKS, factor=1.1))


class Chosen:
    """A service that is planned for what was found; which sharings were planned is noted."""

    def __init__(self, monkeypatch, split_one, ranks_one, served, can_be=True):
        self.planned, self.shown = [], []
        monkeypatch.setattr(chosen, "_pools", lambda *_: [POOL])
        monkeypatch.setattr(chosen, "DesignSearch", lambda *_: None)
        monkeypatch.setattr(chosen, "_sharings", lambda *_: (split_one, ranks_one))
        monkeypatch.setattr(chosen, "_can_be_planned", lambda *_: can_be)
        monkeypatch.setattr(chosen, "_left", lambda limits, one, factor: (one, factor))
        monkeypatch.setattr(chosen, "make_plan", self.make_plan)
        monkeypatch.setattr(chosen, "_served", lambda plan, one, limits: served(plan, one))
        monkeypatch.setattr(chosen, "_too_few", lambda *_: InfeasibleError("too few"))
        monkeypatch.setattr(chosen, "one_more", lambda *_: ("steps",))
        monkeypatch.setattr(chosen, "service_cases", lambda *_: ("cases",))
        monkeypatch.setattr(chosen, "service_baselines", lambda s, options, _: tuple(options))

    def make_plan(self, law, source, left, *, judges_supply, progress, **_):
        self.planned.append(left)
        assert judges_supply is False
        progress(0.5)
        return left

    def __call__(self, limits):
        limit = SimpleNamespace()
        return chosen._plan_service(
            None, None, limits, limit, (), None, None, DeviceCost(), self.shown.append, {}
        )


def service(decode, rate=4.0, workers=4):
    plan = SimpleNamespace(recommended=decode)
    limits = Limits(devices=30)
    return Service(
        plan=plan, pool=POOL, workers=workers, rate=rate, first_token=None, devices=30,
        limits=limits,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("split_rate", "ranks_rate", "planned"),
    [(4.2, 4.0, "split"), (4.19, 4.0, "ranks"), (3.0, 4.0, "ranks"), (4.0, None, "split"),
     (None, 4.0, "ranks")],
)  # fmt: skip
def test_a_split_is_planned_that_carries_a_twentieth_more(
    monkeypatch, split_rate, ranks_rate, planned
):
    one = split_rate and sharing(split(), rate=split_rate)
    other = ranks_rate and sharing(RANKS, rate=ranks_rate, workers=5)
    ask = Chosen(monkeypatch, one, other, lambda plan, of: service(of.decode, of.rate))
    found = ask(Limits(devices=30))
    assert [of for of, _ in ask.planned] == [one if planned == "split" else other]
    assert (found.steps, found.cases) == (("steps",), ("cases",))
    assert list(found.baselines) == [of for of in (one, other) if of is not None]
    assert ask.shown == pytest.approx([0.3, 0.6, 0.95])


@pytest.mark.parametrize(("ranks_rate", "told"), [(4.1, 4.1), (3.9, 4.0)])
def test_a_split_that_is_not_recommended_gives_ranks_their_own_sharing(
    monkeypatch, ranks_rate, told
):
    """The plan of the split's devices recommends ranks, with 4 requests/s."""
    one, other = sharing(split(), rate=5.0), sharing(RANKS, rate=4.0, workers=5)
    rates = {4: 4.0, 5: ranks_rate}
    ask = Chosen(monkeypatch, one, other, lambda plan, of: service(RANKS, rates[of.workers]))
    assert ask(Limits(devices=30)).rate == told
    assert [of for of, _ in ask.planned] == [one, other]
    # With a rate the cheaper one: five workers of two devices cost more than four.
    asked = Limits(devices=30, requests_per_second=4.0)
    dear = sharing(replace(RANKS, cost=20.0), workers=5)
    ask = Chosen(monkeypatch, sharing(split(cost=8.0)), dear,
                 lambda plan, of: service(RANKS, 4.0, of.workers))  # fmt: skip
    assert ask(asked).workers == 4
    # As wide sharings have one plan.
    same = sharing(RANKS, rate=4.0)
    ask = Chosen(monkeypatch, one, same, lambda plan, of: service(RANKS, 4.0))
    ask(Limits(devices=30))
    assert [of for of, _ in ask.planned] == [one]
    # A split that is recommended stays.
    ask = Chosen(monkeypatch, one, other, lambda plan, of: service(split(), 4.0))
    ask(Limits(devices=30))
    assert [of for of, _ in ask.planned] == [one]


def test_decoding_is_planned_larger_until_its_slots_are_enough(monkeypatch):
    one = sharing(split(), factor=1.1)
    enough = 1.35
    ask = Chosen(monkeypatch, one, None,
                 lambda plan, of: service(of.decode) if plan[1] >= enough else None)  # fmt: skip
    asked = Limits(devices=30, requests_per_second=4.0)
    assert ask(asked).rate == 4.0
    assert [factor for _, factor in ask.planned] == [1.1, 1.2, 1.35]
    ask = Chosen(monkeypatch, one, None, lambda *_: None)
    with pytest.raises(InfeasibleError, match=r"below 1\.5 s: in bursts"):
        ask(asked)
    assert [factor for _, factor in ask.planned] == [1.1, 1.2, 1.35, 1.5, 2.0, 3.0]
    ask = Chosen(monkeypatch, one, None, lambda *_: None)
    with pytest.raises(InfeasibleError, match="first token"):
        ask(Limits(devices=30))
    assert len(ask.planned) == 1


@pytest.mark.parametrize("can_be", [True, False])
def test_ranks_that_no_plan_tells_do_not_count(monkeypatch, can_be):
    ask = Chosen(monkeypatch, None, sharing(RANKS), lambda *_: service(RANKS), can_be)
    if can_be:
        assert ask(Limits(devices=30)).rate == 4.0
    else:
        with pytest.raises(InfeasibleError, match="too few"):
            ask(Limits(devices=30))


def test_designs_are_searched_once_for_each_number_of_devices(monkeypatch):
    """What fits fewer devices is known to fit more; one device decodes nothing."""
    asked, wide = [], []

    class Ranks:
        def widths(self, limits):
            wide.append(limits.devices)
            return ()

    def best(limits, known=None):
        asked.append((limits.devices, known))
        return None if limits.devices < 9 else f"of {limits.devices}"

    def most_split(pools, devices, decode):
        return [decode(n) for n in (12, 8, 10, 12, 20, 1, 2)]

    monkeypatch.setattr(chosen, "ColocatedSearch", SimpleNamespace(of=lambda _: Ranks()))
    monkeypatch.setattr(chosen, "most_split", most_split)
    monkeypatch.setattr(chosen, "most_ranks", lambda pools, devices, widths: ("ranks", devices))
    search = SimpleNamespace(best=best)
    wider = SimpleNamespace(model=SimpleNamespace(devices=4))
    found = chosen._sharings([wider, POOL], Limits(devices=30), search, DeviceCost())
    assert found == (["of 12", None, "of 10", "of 12", "of 20", None, None], ("ranks", 30))
    assert asked == [(12, None), (8, None), (10, None), (20, "of 12"), (2, None)]
    assert wide == [28]
    assert chosen._sharings([POOL], Limits(devices=2), search, DeviceCost()) == (None, None)
    assert chosen._sharings([POOL], Limits(devices=3), search, DeviceCost())[1] == ("ranks", 3)
    with pytest.raises(UnsupportedError, match="not per currency"):
        chosen._sharings([POOL], Limits(devices=30), search, DeviceCost(per="currency"))


class Unsplit:
    """Ranks whose steps grow with the batch: 0.1 s at 8 and 0.1 s more at 16."""

    def again(self, plan, limits):
        b = plan.batch_size
        time = 0.0125 * b
        step = StepSummary(mean=time, p50=time, p95=2 * time, p99=3 * time)
        return replace(plan, step_time=step, requests_per_second=2.0)


def prefill(chunk_time=0.05, rate=8.0):
    model = SimpleNamespace(compute=lambda tokens: chunk_time * tokens / 512, chunk_tokens=512)
    return SimpleNamespace(rate_of_worker=rate, model=model)


@pytest.mark.parametrize(
    ("statistic", "chunk_time", "limit", "batch"),
    [
        # Two requests/s with prompts of 1/8 s: 1.6 of them, a fifth of the time.
        ("mean", 0.05, 0.0125 * 8 / 0.8, 8), ("mean", 0.05, 0.0125 * 8 / 0.8 - 1e-6, 7),
        # More than 1 % of the steps hold a pass: one of 0.05 s more.
        ("p99", 0.05, 0.0375 * 8 + 0.05, 8), ("p99", 0.05, 0.0375 * 8 + 0.049, 7),
        # Passes of 2.6 s: a quarter of a step of 0.1 s is less than a hundredth of one.
        ("p99", 2.6, 0.0375 * 8, 8), ("p99", 2.4, 0.0375 * 8, 7), ("mean", 0.05, 1e-4, None),
    ],
)  # fmt: skip
def test_the_largest_batch_beside_prompts(statistic, chunk_time, limit, batch):
    group = replace(RANKS, replicas=1)
    limits = Limits(devices=30, time_per_output_token=limit, statistic=statistic)
    found = others._largest(Unsplit(), group, prefill(chunk_time), limits)
    assert (found and found.batch_size) == batch
    if found:
        assert found.requests_per_second == pytest.approx(1.6)
        assert found.step_time.mean == pytest.approx(0.0125 * batch / 0.8)


@pytest.mark.parametrize("batch", range(1, 9))
def test_every_batch_beside_prompts_can_be_the_largest(batch):
    limits = Limits(devices=30, time_per_output_token=0.0125 * batch / 0.8 + 1e-6)
    group = replace(RANKS, replicas=1)
    assert others._largest(Unsplit(), group, prefill(), limits).batch_size == batch


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(devices=30), [(28, 7.0)]),
        (Limits(devices=3), []),
        # Groups of four devices and 1.6 requests/s; four carry 6.4, or more where they wait.
        (Limits(requests_per_second=6.4), [(16, 6.4)]),
        (Limits(requests_per_second=6.5), [(20, 6.5)]),
        (Limits(requests_per_second=1.0), [(4, 1.0)]),
        (Limits(requests_per_second=5.9, margin=0.1), [(20, 6.49)]),
        (Limits(devices=19, requests_per_second=6.5), []),
        (Limits(devices=20, requests_per_second=6.5), [(20, 6.5)]),
        (Limits(requests_per_second=33.0), [(104, 33.0)]),
    ],
)
def test_groups_that_compute_prompts_too(monkeypatch, limits, told):
    """Groups carry one request a second less than two each, from 32 requests/s on a fifth less."""

    class Source:
        placement = SimpleNamespace(attention_hardware="h")

    made = []

    def derive(placement, hardware, devices, chunk):
        made.append((devices, chunk))
        return Model(source="derived")

    class Prompts:
        def __init__(self, model, traffic, limit, margin):
            self.model, self.margin = model, margin
            made.append((model.sent, model.latency, margin))

        def most_rate(self, copies, side):
            assert side.replicas == copies
            return float(copies)

        def carries(self, copies, wanted, side):
            return side.requests_per_second >= (wanted if wanted < 32 else 1.2 * wanted)

    monkeypatch.setattr(others, "DerivedSource", Source)
    monkeypatch.setattr(others, "derive_prefill", derive)
    monkeypatch.setattr(others, "PrefillPool", Prompts)
    monkeypatch.setattr(others, "ColocatedSearch", SimpleNamespace(of=lambda _: None))
    monkeypatch.setattr(
        others,
        "_largest",
        lambda search, group, pool, limits: replace(group, requests_per_second=1.6),
    )
    monkeypatch.setattr(
        others, "replace", lambda one, **changes: one.with_(changes) if isinstance(one, Model)
        else replace(one, **changes)
    )  # fmt: skip
    plan = SimpleNamespace(planned_limits=limits, colocated=(RANKS,))
    model = SimpleNamespace(chunk_tokens=512, source="derived")
    ours = SimpleNamespace(
        plan=plan, model=model, limits=limits, devices=limits.devices,
        pool=SimpleNamespace(traffic=None, limit=None),
    )  # fmt: skip
    found = list(others._unsplit(ours, SimpleNamespace(source=Source())))
    assert [(devices, pytest.approx(rate)) for _, devices, rate in found] == told
    assert made == [(4, 512), (0.0, 0.1, limits.margin)]
    assert list(others._unsplit(ours, SimpleNamespace(source=None))) == []


class Model:
    """A prefill worker; what is sent, and what comes before, is noted."""

    def __init__(self, source):
        self.source = source

    def with_(self, changes):
        self.sent, self.latency = changes["transfer_per_token"], changes["transfer_latency"]
        return self


@pytest.mark.parametrize("devices", [None, 8, 9])
@pytest.mark.parametrize("decodes", [True, False])
def test_why_no_sharing_will_do(monkeypatch, devices, decodes):
    """Four workers of two devices compute four prompts a second."""
    told = []

    def explain(search, limits):
        told.append(limits.devices)
        return InfeasibleError("no plan", "nearest")

    monkeypatch.setattr(chosen, "explain_infeasible", explain)
    limits = Limits(devices=devices, requests_per_second=4.0)
    search = SimpleNamespace(best=lambda asked: "one" if decodes and asked is limits else None)
    error = chosen._too_few(limits, [POOL], search)
    if devices == 8:
        assert str(error).startswith("8 devices are too few: prefill alone takes 8 devices at")
    elif decodes:
        few = "" if devices is None else "9 devices are too few: "
        assert str(error).startswith(f"{few}prefill takes 8 devices at least, and with")
    elif devices is None:
        assert (str(error), told) == ("no plan", [None])
    else:
        assert str(error) == "8 of 9 devices compute prompts; on the others no plan"
        assert (error.nearest, told) == ("nearest", [1])
    alone = chosen._too_few(Limits(devices=2), [POOL], search)
    assert "prefill alone takes 2 devices" in str(alone)
    half = Pool()
    half.rate_of_worker = 0.5
    assert "prefill alone" not in str(chosen._too_few(Limits(devices=3), [half], search))


@pytest.mark.parametrize(("split_one", "nearest", "can"), [
    ("split", None, True), (None, "near", True), (None, None, False),
])  # fmt: skip
def test_ranks_are_planned_beside_a_split_or_the_nearest(monkeypatch, split_one, nearest, can):
    widths = SimpleNamespace(widths=lambda left: ("w", left.devices))
    monkeypatch.setattr(chosen, "ColocatedSearch", SimpleNamespace(of=lambda _: widths))
    told = []

    def explain(search, left, able):
        told.append(able)
        return SimpleNamespace(nearest=nearest)

    monkeypatch.setattr(chosen, "explain_infeasible", explain)
    search = SimpleNamespace(best=lambda left: split_one)
    assert chosen._can_be_planned(sharing(RANKS), Limits(devices=30), search) is can
    assert told == ([] if split_one else [("w", 22)])


def test_baselines_gain_devices_for_a_rate_and_rate_for_a_budget(monkeypatch):
    """Of deployments without a split the one that carries most counts, or takes fewest devices."""
    alone = [("a", 20, 3.0), ("b", 16, 2.0), ("c", 28, 3.2)]
    monkeypatch.setattr(others, "_unsplit", lambda *_: iter(alone))
    ours = service(RANKS)
    (near, un) = others.service_baselines(ours, [sharing(RANKS, rate=3.2)], None)
    assert (near.kind, near.devices) == ("prefill, decode", 20)
    assert near.gain == pytest.approx(0.25)
    assert (un.kind, un.deployment, un.gain) == ("un-split", "c", pytest.approx(0.25))
    asked = replace(ours, limits=Limits(devices=30, requests_per_second=4.0))
    (un,) = others.service_baselines(asked, [], None)
    assert (un.deployment, un.gain) == ("b", pytest.approx(16 / 20 - 1))


def test_only_shared_blocks_change_the_source(monkeypatch):
    """Without any the source is asked as it is; the service says what is left of each request."""
    asked = []

    def plan_once(law, inside, *_):
        asked.append(inside)
        return service(RANKS)

    monkeypatch.setattr(chosen, "_plan_service", plan_once)
    source = SimpleNamespace(sharing=lambda fraction: ("half", fraction))
    for left, sources, told in ((1.0, [source], 1.0), (0.5, [source, ("half", 0.5)], 0.5)):
        asked.clear()
        traffic = SimpleNamespace(unique_fraction=lambda *_, left=left: left)
        found = chosen.plan_service(None, source, Limits(devices=30), None, (), traffic)
        assert asked == sources
        assert found.unique_fraction == told
