import contextlib
import copy
import tomllib
from importlib import resources

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model, shipped_hardware
from afdplan.calibration.hardware import hardware_from_table
from afdplan.errors import AfdplanError, InvalidInputError
from afdplan.files.hardware_file import read_hardware_file

H200 = tomllib.loads((resources.files("afdplan.data") / "hardware" / "h200.toml").read_text())


def test_the_devices_of_the_brief_ship_with_sources():
    devices = shipped_hardware()
    wanted = {"a100-80g", "h100-sxm", "h200", "h20", "b200", "gb200", "mi300x", "ascend-910c"}
    assert wanted <= set(devices)
    for device in devices.values():
        assert device.sources
        assert any("price" in line for line in device.assumptions)


@pytest.mark.parametrize("key", [key for key in H200 if key != "aliases"])
def test_missing_keys_are_named(key):
    table = {k: v for k, v in H200.items() if k != key}
    if key in ("sources", "assumptions"):
        hardware_from_table(table)
        return
    with pytest.raises(InvalidInputError, match=f"{key} is missing"):
        hardware_from_table(table)


def test_unknown_keys_are_named_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"'memory_bandwith'.*memory_bandwidth"):
        hardware_from_table({**H200, "memory_bandwith": 1e12})
    with pytest.raises(InvalidInputError, match="scale_up has the unknown key"):
        hardware_from_table({**H200, "scale_up": {"bandwidth": 1, "latency": 1, "speed": 2}})


def test_every_key_may_be_hostile_without_a_traceback():
    for key in H200:
        for value in [
            None,
            -1,
            0,
            float("nan"),
            float("inf"),
            "x",
            [],
            [1],
            {},
            True,
            {"bf16": "x"},
        ]:
            table = copy.copy(H200)
            table[key] = value
            with contextlib.suppress(AfdplanError):
                hardware_from_table(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xff", "binary"),
        (b"name = ", "invalid TOML"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"memory_bandwidth = nan", "missing"),
    ],
)
def test_hostile_files(tmp_path, content, message):
    path = tmp_path / "device.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        hardware_from_table(read_hardware_file(path), str(path))


def test_names_in_any_case_aliases_and_nearest():
    assert find_hardware("H200").name == "H200"
    assert find_hardware("h100").name == "H100-SXM"
    assert find_model("Qwen3_235B_A22B").name == "Qwen/Qwen3-235B-A22B"
    with pytest.raises(InvalidInputError, match="nearest: h200"):
        find_hardware("h2000")
    with pytest.raises(InvalidInputError, match="nearest: deepseek-v3"):
        find_model("deepseek-ai/DeepSeek-V33")


@pytest.mark.parametrize("name", ["", "x" * 100_000, "a\0b", "../../etc", "."])
def test_odd_names_are_refused(name):
    with pytest.raises(InvalidInputError):
        find_model(name)
    with pytest.raises(InvalidInputError):
        find_hardware(name)


def test_own_files_work(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text((resources.files("afdplan.data") / "hardware" / "h20.toml").read_text())
    assert find_hardware(path).name == "H20"


def test_rates_fall_back_to_bf16():
    a100 = find_hardware("a100")
    assert a100.matrix_rate("fp8") == a100.matrix_rate("bf16") == 312e12
