"""What a profile measures and how its times are summed up; stand-ins take the place of torch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from afdplan.calibration import profile as profiling
from afdplan.calibration import profile_kernels, profile_timer
from afdplan.calibration.architecture import FeedForward, Mixer
from afdplan.calibration.profile import Measurement, ProfilePlan, profile, small_model
from afdplan.calibration.profile_kernels import Kernels, build_kernels
from afdplan.calibration.profile_timer import Timer
from afdplan.errors import UnsupportedError
from afdplan.files.measurements.profile_table import environment_path, write_profile
from tests.unit.calibration.invented import GROUPED, LATENT

PLAN = ProfilePlan(requests=(2, 1, 2), contexts=(8, 16), tokens=(8,), repeats=4, seed=7)
DENSE = FeedForward(dense_size=100)


def without(**changes):
    """Return the small model with other mixers or networks."""
    return replace(small_model(), blocks=(replace(small_model().blocks[0], **changes),))


def test_points_of_a_plan():
    attention = [("attention", n * c, n, "") for n in (1, 2) for c in (8, 16)]
    rest = [("ffn", 8, 8, "balanced"), ("ffn", 8, 8, "skewed"), ("transfer", 8, 8, "")]
    assert list(profiling._points(small_model(), PLAN)) == attention + rest
    dense = without(feed_forward=(DENSE,))
    assert list(profiling._points(dense, PLAN)) == [*attention, rest[0], rest[2]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixers": (Mixer(heads=GROUPED, selected_tokens=1),)}, "dense attention"),
        ({"mixers": (Mixer(heads=GROUPED, compression=2),)}, "dense attention"),
        ({"mixers": (Mixer(heads=replace(GROUPED, value_size=8)),)}, "has other layers"),
        ({"feed_forward": (replace(DENSE, matrices=2),)}, "gated experts"),
        ({"feed_forward": (replace(DENSE, expert_hidden_size=8),)}, "gated experts"),
    ],
)
def test_what_cannot_be_measured_is_said(changes, message):
    with pytest.raises(UnsupportedError, match=message):
        profiling._check_measurable(without(**changes))


def test_what_can_be_measured():
    for heads in (GROUPED, LATENT):
        profiling._check_measurable(without(mixers=(Mixer(heads=heads),)))


@pytest.mark.parametrize(
    ("wanted", "has", "found"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device(wanted, has, found):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: has))
    assert profiling._device(torch, wanted) == found


def kernels(architecture, held):
    """Numbers of two bytes."""
    torch = SimpleNamespace(empty=lambda *_, **__: SimpleNamespace(element_size=lambda: 2))
    return Kernels(
        torch=torch, architecture=architecture, device="cpu", dtype="x", seed=0, experts_held=held
    )


def test_memory_of_a_point():
    held = kernels(small_model(), 4)
    assert held.bytes_needed("attention", 10) == 10 * 2 * 2 * 64 * 2
    assert held.bytes_needed("ffn", 10) == 4 * 3 * 512 * 352 * 2
    assert held.bytes_needed("transfer", 10) == 10 * 512 * 2
    dense = kernels(without(feed_forward=(DENSE,)), 0)
    assert dense.bytes_needed("ffn", 10) == 3 * 512 * 100 * 2


def test_which_operation_a_point_is(monkeypatch):
    for name in ("attention", "experts", "dense", "copy"):
        monkeypatch.setattr(Kernels, name, lambda self, *given, name=name: (name, *given))
    held = kernels(small_model(), 4)
    assert held.prepare("attention", 48, 3, "") == ("attention", 3, 16)
    assert held.prepare("ffn", 48, 48, "skewed") == ("experts", 48, "skewed")
    assert kernels(small_model(), 0).prepare("ffn", 48, 48, "skewed") == ("dense", 48)
    assert held.prepare("transfer", 48, 48, "") == ("copy", 48)


class Buffer:
    """What is written before every run."""

    def __init__(self, size, log):
        self.size, self.log = size, log

    def add_(self, value):
        self.log.append(("flush", self.size, value))


class Event:
    """A mark on a clock that goes on by 3 ms between any two."""

    clock = 0.0

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self):
        Event.clock += 3.0
        self.at = Event.clock

    def elapsed_time(self, other):
        return other.at - self.at


def fake_torch(log, **more):
    class Mode:
        def __enter__(self):
            log.append("on")

        def __exit__(self, *_):
            log.append("off")

    return SimpleNamespace(
        inference_mode=Mode, uint8="uint8", __version__="9", get_num_threads=lambda: 5,
        zeros=lambda size, *, dtype, device: Buffer(size, log),
        cuda=SimpleNamespace(
            Event=Event, synchronize=lambda: log.append("wait"), device_count=lambda: 2,
            get_device_properties=lambda _: SimpleNamespace(name="N", total_memory=8),
        ),
        version=SimpleNamespace(cuda="13"), **more,
    )  # fmt: skip


def test_every_timed_run_follows_a_flush(monkeypatch):
    log, clock = [], iter([1.0, 1.5, 2.0, 2.25])
    monkeypatch.setattr(profile_timer.time, "perf_counter", lambda: next(clock))
    timer = Timer(fake_torch(log), "cpu", 2, 3)
    assert timer.measure(lambda: log.append("run")) == [0.5, 0.25]
    flush = ("flush", 64 * 2**20, 1)
    assert log == ["on", "run", "run", "run", flush, "run", flush, "run", "off"]
    facts = timer.environment()
    assert (facts["device"], facts["threads"], facts["clock"]) == ("cpu", 5, "perf_counter")
    assert facts["flushed_bytes"] == 64 * 2**20
    assert facts["device_name"]


def test_events_on_cuda_are_in_milliseconds():
    log = []
    timer = Timer(fake_torch(log), "cuda", 2, 1)
    assert timer.measure(lambda: log.append("run")) == pytest.approx([3e-3, 3e-3])
    flush = ("flush", 256 * 2**20, 1)
    assert log == ["on", "run", flush, "run", "wait", flush, "run", "wait", "off"]
    facts = timer.environment()
    told = {"device_name": "N", "device_memory": 8, "cuda": "13", "devices": 2}
    assert told.items() <= facts.items()
    assert facts["clock"] == "CUDA events"


@pytest.fixture
def stand_in(monkeypatch):
    """A torch, kernels and a timer that do nothing; returns what they were asked for."""
    asked = SimpleNamespace(threads=[], made=[], times=iter(()), cuda=False, big=())
    torch = SimpleNamespace(
        set_num_threads=asked.threads.append, cuda=SimpleNamespace(is_available=lambda: asked.cuda)
    )

    class Stub:
        experts_held, choices = 3, {"copy": "none"}

        def bytes_needed(self, stage, load):
            return 1001.0 if (stage, load) in asked.big else 1000.0

        def prepare(self, *point):
            return point

    class Clock:
        def __init__(self, torch, device, repeats, warmups):
            asked.made.append((device, repeats, warmups))

        def measure(self, run):
            return next(asked.times)

        def environment(self):
            return {"clock": "stand-in"}

    def build(*given):
        asked.made.append(given[1:])
        return Stub()

    monkeypatch.setattr(profiling, "load_torch", lambda: torch)
    monkeypatch.setattr(profile_kernels, "build_kernels", build)
    monkeypatch.setattr(profile_timer, "Timer", Clock)
    return asked


def test_points_are_summed_up_by_median_and_quartiles(stand_in, monkeypatch):
    monkeypatch.setattr(profiling.os, "cpu_count", lambda: 12)
    stand_in.big = (("attention", 32),)
    quiet, edge, noisy = [4.0, 4.0, 4.0, 4.0], [3.5, 3.5, 4.5, 4.5], [3.0, 3.5, 4.5, 5.0]
    stand_in.times = iter([quiet, edge, noisy, quiet, noisy, quiet])
    seen = []
    found = profile(small_model(), replace(PLAN, largest_bytes=1000), lambda *at: seen.append(at))
    assert stand_in.threads == [6]
    assert stand_in.made == [("cpu", "float32", 7, 1), ("cpu", 4, 2)]
    assert seen == [(n, 7) for n in range(8)]
    # A quarter of the median between the quartiles is not noisy yet.
    spreads = [(one.stage, one.load, one.latency, one.spread) for one in found.table]
    assert spreads == [
        ("attention", 8, 4.0, 0.0), ("attention", 16, 4.0, 1.0),
        ("attention", 16, 4.0, pytest.approx(1.25)), ("ffn", 8, 4.0, 0.0),
        ("transfer", 8, 4.0, 0.0),
    ]  # fmt: skip
    assert [(one.stage, one.routing) for one in found.other_routing] == [("ffn", "skewed")]
    assert found.warnings[0].startswith("attention at 32 tokens left out: needs more than 0.0 GiB")
    assert found.warnings[1].startswith("2 of 6 points spread by more than 25 %")
    told = {
        "model": "small", "hidden_size": 512, "experts": 16, "experts_per_token": 2,
        "expert_size": 352, "experts_held": 3, "ffn_devices": 1, "dtype": "float32",
        "routing": "balanced", "repeats": 4, "warmups": 2, "seed": 7, "copy": "none",
    }  # fmt: skip
    assert told.items() <= found.environment.items()


def test_products_on_cuda_are_in_bfloat16(stand_in):
    stand_in.cuda = True
    stand_in.times = iter([[1.0]] * 7)
    assert not profile(small_model(), replace(PLAN, threads=3)).warnings
    assert stand_in.threads == [3]
    assert stand_in.made[0] == ("cuda", "bfloat16", 7, 1)
    with pytest.raises(UnsupportedError, match="in bfloat16, got float32"):
        profile(small_model(), replace(PLAN, dtype="float32"))


@pytest.mark.parametrize(("devices", "held"), [(1, 16), (5, 4), (16, 1), (40, 1)])
def test_experts_of_one_device(devices, held):
    pytest.importorskip("torch")
    assert build_kernels(small_model(), "cpu", "float32", 0, devices).experts_held == held
    dense = without(feed_forward=(DENSE,))
    assert build_kernels(dense, "cpu", "float32", 0, devices).experts_held == 0


def test_a_dense_network_and_a_copy():
    torch = pytest.importorskip("torch")
    built = build_kernels(without(feed_forward=(DENSE,)), "cpu", "float32", 3, 1)
    found = built.dense(5)()
    state = built._random(5, 512)
    gate, up = (state @ built._random(512, 200)).split(100, dim=1)
    expected = gate / (1 + torch.exp(-gate)) * up @ built._random(100, 512)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(built.copy(5)(), state)
    assert float(state.std()) == pytest.approx(0.02, rel=0.05)
    assert built.choices["copy"].startswith("inside one device")


@pytest.mark.parametrize(
    ("device", "count", "to"),
    [("cuda", 2, "cuda:1"), ("cuda", 1, "cuda"), ("cpu", 2, "cpu")],
)
def test_a_copy_goes_to_a_second_device_if_there_is_one(monkeypatch, device, count, to):
    made = []
    source = SimpleNamespace()
    target = SimpleNamespace(copy_=lambda given: made.append(given))
    monkeypatch.setattr(Kernels, "_random", lambda self, *shape: made.append(shape) or source)
    torch = SimpleNamespace(
        cuda=SimpleNamespace(device_count=lambda: count),
        empty_like=lambda given, *, device: made.append((given, device)) or target,
    )
    built = Kernels(
        torch=torch, architecture=small_model(), device=device, dtype="x", seed=0, experts_held=1
    )
    built.copy(5)()
    assert made == [(5, 512), (source, to), source]
    is_inside = built.choices["copy"].startswith("inside one device")
    assert is_inside == (to == device)


def test_a_profile_is_written_as_calibrate_reads_it(tmp_path):
    points = [
        Measurement(stage="ffn", load=8, requests=4, latency=1.23456789e-3, spread=2.5e-5),
        Measurement(stage="transfer", load=1, requests=1, latency=1e-6, spread=0.0),
    ]
    path = tmp_path / "times.csv"
    write_profile(path, points, {"device_name": "Größe", "n": 1})
    assert path.read_text().splitlines() == [
        "stage,load,requests,latency,spread",
        "ffn,8,4,1.234568e-03,2.500e-05",
        "transfer,1,1,1.000000e-06,0.000e+00",
    ]
    told = environment_path(path).read_text(encoding="utf-8")
    assert told == '{\n  "device_name": "Größe",\n  "n": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_profile(path, points, {"n": float("nan")})
