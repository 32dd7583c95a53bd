"""Does `afdplan plan` share devices between prefill, attention and FFN, and refuse in one line?"""

from __future__ import annotations

import json
import math

import pytest

from afdplan.calibration.catalogue import find_hardware
from afdplan.files.prefill_file import load_prefill, save_prefill
from afdplan.files.traces.example import example_trace_path
from afdplan.model.curve import LinearCurve, RooflineCurve
from afdplan.model.prefill import PairCost, PrefillModel
from tests.cli.invoke import invoke
from tests.traces import SHORT

MODEL = ("--model", "qwen3-30b-a3b", "--hardware", "h100", "--attention-devices", "1")
SPACE = ("--batch-sizes", "32", "--microbatches", "2", "--tpot", "50ms", "--ffn-workers", "2,4")
ASKED = ("plan", "--trace", SHORT, *MODEL, *SPACE)
LAWS = ("plan", "--prompt", "geometric:500", "--decode", "geometric:100", *MODEL, *SPACE)


@pytest.fixture(scope="module")
def answer():
    told = invoke(
        *(*ASKED, "--devices", 16, "--ttft", "1s", "--device-mtbf", "1000h", "--restart", "5min"),
        *("--repair", "4h", "--spare-devices", 1, "--json"),
    )
    assert told.code == 0, told
    return told.document


def test_the_budget_is_shared(answer):
    service, failures = answer["service"], answer["failures"]
    assert service["devices"] + service["idle_devices"] == 15  # one stands by
    assert service["prefill_devices"] + service["decode_devices"] == service["devices"]
    assert service["time_to_first_token"]["p99"] <= 1.0
    assert 0 < service["requests_per_second"] <= answer["recommended"]["requests_per_second"]
    assert answer["inputs"]["devices"] == 15 - service["prefill_devices"]
    assert answer["inputs"]["service_devices"] == 16
    assert 0.9 < failures["share"] < 1
    able = failures["share"] * answer["recommended"]["requests_per_second"]
    carried = min(able, service["requests_per_second"])
    assert failures["requests_per_second"] == pytest.approx(carried)
    # Prefill workers take the same spare: 15 devices in repair for 4 of 1,000 h each.
    assert failures["no_spare_probability"] == pytest.approx(-math.expm1(-15 * 4 / 1000))
    assert failures["tokens_per_second"] == pytest.approx(
        failures["share"] * answer["recommended"]["tokens_per_second"]
    )


def test_ranks_are_shared_for_themselves_where_a_split_gains_too_little():
    """11 devices suit the split, which gains too little; 8 of them as ranks carry only 47.7/s."""
    asked = ("plan", "--trace", example_trace_path(), *MODEL, *SPACE, "--devices", 16)
    service = invoke(*asked, "--ttft", "400ms", "--json").document["service"]
    ranks = next(one for one in service["baselines"] if one["kind"] == "prefill, decode")
    assert service["requests_per_second"] >= ranks["requests_per_second"] * (1 - 1e-3)


def test_ranks_are_as_slow_as_the_measured_worker(tmp_path):
    """Twenty times slower prompts, measured: ranks that compute them as derived would seem best."""
    slow = PrefillModel(
        name="m", compute=LinearCurve(slope=4e-4), chunk_tokens=4096, source="measured"
    )
    path = tmp_path / "worker.toml"
    save_prefill(slow, path)
    asked = (*ASKED, "--devices", 16, "--ttft", "20s", "--json")
    derived, measured = (
        next(one for one in told.document["service"]["baselines"] if one["kind"] == "un-split")
        for told in (invoke(*asked), invoke(*asked, "--prefill-latency", path))
    )
    assert measured["requests_per_second"] < 0.7 * derived["requests_per_second"]


def test_text_says_the_numbers_of_json():
    told = invoke(*ASKED, "--devices", 16, "--ttft", "1s", "--full").out
    for word in ("prefill", "time to first", "One step more of each side", "First token"):
        assert word in told, word
    shared = invoke(*ASKED, "--devices", 16, "--ttft", "1s", "--json").document["service"]
    assert f"{shared['prefill_devices']} prefill" in told
    assert f"{shared['requests_per_second']:.1f} requests/s" in told


def test_decode_only_is_the_plan_of_before():
    asked = (*LAWS, "--devices", 8)
    plain = invoke(*asked, "--full")
    assert "decode only: prefill and its devices are not counted" in " ".join(plain.out.split())
    said = invoke(*asked, "--full", "--decode-only").out
    assert said.replace(" --decode-only", "").split() == plain.out.split()
    document = invoke(*asked, "--json").document
    assert document["service"] is None
    assert document["failures"] is None


def test_a_plan_of_a_service_can_be_checked(tmp_path, answer):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(answer))
    assert invoke("check", path, "--trace", SHORT).code in (0, 4)


def test_a_measured_worker_is_read_from_its_file(tmp_path):
    model = PrefillModel(
        name="ours",
        compute=RooflineCurve(floor=0.01, slope=2e-5),
        pairs=(PairCost(time=1e-10), PairCost(time=1e-11, window=128)),
        devices=2,
        most_tokens=1e6,
    )
    path = tmp_path / "prefill.toml"
    save_prefill(model, path)
    assert load_prefill(path) == model
    told = invoke(*ASKED, "--devices", 12, "--ttft", "1s", "--prefill-latency", path, "--json")
    assert told.document["service"]["prefill_devices_per_worker"] == 2
    for wrong in ("compute = 3", "schema_version = 2", "chunk = 3", "devices = 'x'"):
        path.write_text(f'schema_version = 1\n{wrong}\n[compute]\nkind = "linear"\nslope = 1.0\n')
        refused = invoke(*ASKED, "--devices", 12, "--ttft", "1s", "--prefill-latency", path)
        assert str(path) in refused.error_line
        assert refused.code == 1
    bare = PrefillModel(name="b", compute=LinearCurve(slope=1e-5))
    save_prefill(bare, path)
    assert load_prefill(path) == bare


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--ttft", "5ms"), 3, "below what prompts take"),
        (("--ttft", "0s"), 2, "--ttft must be a time"),
        (("--ttft", "1s", "--decode-only"), 2, "--ttft is of prefill"),
        (("--prefill-policy", "first-come"), 2, "give --ttft too"),
        (("--ttft", "1s", "--prefix-cache", "recorded"), 1, "records no cached prefixes"),
        (("--prefix-cache", "session"), 2, "give --ttft too"),
        (("--ttft", "1s", "--prefill-hardware", "h1000"), 1, "hardware must be"),
        (("--ttft", "1s", "--prefill-devices", "0"), 1, "prefill-devices must be"),
        (
            ("--ttft", "1s", "--prefill-latency", "w.toml", "--prefill-chunk", "512"),
            2,
            "one of them",
        ),
        (("--device-mtbf", "0h"), 2, "--device-mtbf must be a time"),
        (("--restart", "5min"), 2, "give --device-mtbf too"),
        (("--device-mtbf", "9000h", "--spare-devices", "2"), 2, "give --repair"),
        (("--device-mtbf", "9000h", "--repair", "1h", "--spare-devices", "8"), 3, "spare_devices"),
        (("--max-bundle-devices", "0"), 1, "--max-bundle-devices must be"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(options, code, message):
    refused = invoke(*ASKED, "--devices", 8, *options)
    assert message in refused.error_line
    assert refused.code == code


def test_no_arrivals_and_prefill_that_does_not_fit():
    refused = invoke(*LAWS, "--devices", 8, "--ttft", "1s")
    assert "needs arrivals" in refused.error_line
    assert "--prefill-arrivals poisson" in refused.error_line
    drawn = invoke(*LAWS, "--devices", 8, "--ttft", "1s", "--prefill-arrivals", "poisson", "--json")
    assert drawn.document["service"]["arrivals"] == "Poisson arrivals"
    large = invoke(
        *("plan", "--trace", SHORT, "--model", "deepseek-v3", "--hardware", "h200"),
        *("--devices", 32, "--ttft", "1s", "--prefill-devices", 2),
    )
    assert "does not fit" in large.error_line
    assert large.code == 3


def test_bundles_are_no_larger_than_asked():
    told = invoke(*LAWS, "--devices", 16, "--max-bundle-devices", 7, "--json").document
    split = told["split"]
    assert split["attention_workers"] + split["ffn_workers"] <= 7
    assert told["inputs"]["max_bundle_devices"] == 7


def test_the_page_and_a_played_service_say_the_same(tmp_path):
    page = tmp_path / "plan.html"
    told = invoke(
        *(*ASKED, "--devices", 12, "--ttft", "1s", "--device-mtbf", "2000h", "--verify"),
        *("--report", page, "--json"),
    )
    assert told.code == 0, told
    service = told.document["service"]
    played = service["verification"]
    assert played["first_token_p99"]["low"] <= played["first_token_p99"]["value"]
    assert 0 < played["good_fraction"] <= 1
    text = page.read_text()
    for words in (
        "Prefill and failures",
        "One step more of each side, the others kept",
        "The service played from arrival to last token",
        "Bundle sizes under failures",
        f"{service['prefill_devices']} prefill",
    ):
        assert words in text, words


def test_no_decode_side_fits_beside_prefill():
    refused = invoke(*ASKED, "--rate", "60/s", "--devices", 8, "--ttft", "0.5s")
    assert refused.code == 3
    assert "2 of 8 devices compute prompts; on the others no plan" in refused.error_line
    assert "6 may be used" in refused.error_line


def test_a_prefill_device_has_the_price_of_its_hardware():
    asked = (*ASKED, "--rate", "60/s", "--ttft", "1s", "--per", "watt")
    same, other = (
        invoke(*asked, *more, "--json").document["service"]
        for more in ((), ("--prefill-hardware", "h20"))
    )
    assert same["prefill_device_cost"] == find_hardware("h100").watts
    assert other["prefill_device_cost"] == find_hardware("h20").watts
    told = " ".join(invoke(*asked, "--prefill-hardware", "h20", "--full").out.split())
    assert f"a prefill device costs {find_hardware('h20').watts:g} W" in told
    given = (*asked, "--prefill-hardware", "h20", "--attention-cost", "3", "--ffn-cost", "2")
    assert invoke(*given, "--json").document["service"]["prefill_device_cost"] == 3.0


def test_a_short_text_makes_no_table_of_the_rest(monkeypatch):
    def refuse(_: object) -> None:
        raise AssertionError("only --full shows it")

    monkeypatch.setattr("afdplan.planning.surroundings.pareto_front", lambda *_: refuse(None))
    monkeypatch.setattr("afdplan.planning.surroundings.sensitivities", lambda *_: refuse(None))
    asked = (*ASKED, "--devices", 16, "--ttft", "1s", "--device-mtbf", "1000h")
    assert invoke(*asked).code == 0
    with pytest.raises(AssertionError, match="only --full"):
        invoke(*asked, "--full")
