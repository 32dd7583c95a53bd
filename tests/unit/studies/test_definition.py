from __future__ import annotations

import pytest

from afdplan.errors import InvalidInputError
from afdplan.studies.definition import load_study
from tests.unit.studies.declare import FAST, LATENCY, write, write_trace

HEAD = f'compute = "ratio"\n[fixed]\nlatency = "{LATENCY}"\n'
LAWS = 'prompt = "100"\ndecode = "geometric:50"\n'


def test_the_grid_is_every_combination_once(tmp_path):
    study = load_study(write(tmp_path, FAST))
    cases = [study.case(index) for index in range(study.cases)]
    seen = {(c.values["decode"], c.values["batch_size"], c.values["microbatches"]) for c in cases}
    assert study.cases == len(seen) == 12
    assert len({case.case_hash for case in cases}) == 12
    assert cases[0].values["method"] == "mean-field"
    assert cases[0].values["ffn_workers"] == 1


def test_zip_goes_together_and_multiplies_with_the_grid(tmp_path):
    text = HEAD + LAWS + "[zip]\nbatch_size = [16, 32]\nmicrobatches = [4, 2]\n"
    study = load_study(write(tmp_path, text + "[grid]\nffn_workers = [1, 2, 3]\n"))
    pairs = {
        (v["batch_size"], v["microbatches"], v["ffn_workers"])
        for v in (study.case(i).values for i in range(study.cases))
    }
    assert pairs == {(b, m, f) for b, m in ((16, 4), (32, 2)) for f in (1, 2, 3)}


def test_draws_are_reproducible_and_in_their_range(tmp_path):
    text = HEAD + LAWS + (
        "[sample]\ncases = 400\nseed = 3\nbatch_size = { low = 1, high = 100, scale = 'log' }\n"
        "microbatches = [1, 2]\nffn_weight = { low = 0.5, high = 2.0 }\n"
    )  # fmt: skip
    study = load_study(write(tmp_path, text))
    again = load_study(write(tmp_path, text.replace("cases = 400", "cases = 500"), "b.toml"))
    cases = [study.case(i) for i in range(400)]
    sizes = [case.values["batch_size"] for case in cases]
    assert min(sizes) >= 1
    assert max(sizes) <= 100
    assert 0.4 < sum(size < 10 for size in sizes) / 400 < 0.6  # half of the logarithm
    assert len({case.values["ffn_weight"] for case in cases}) == 400
    assert [again.case(i).case_hash for i in range(400)] == [case.case_hash for case in cases]


def test_names_change_no_hash_but_contents_do(tmp_path):
    write_trace(tmp_path, "a.csv")
    write_trace(tmp_path, "b.csv")
    write_trace(tmp_path, "longer.csv", hours=7)
    hashes = []
    for name in ("a.csv", "b.csv", "longer.csv"):
        text = HEAD + f'trace = "{name}"\nbatch_size = 64\n'
        hashes.append(load_study(write(tmp_path, text)).case(0).case_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_named_definitions(tmp_path):
    write_trace(tmp_path)
    text = (
        'compute = "ratio"\n[grid]\nworkload = ["chat", "long"]\nlatency = ["ours", "h200"]\n'
        '[fixed]\nbatch_size = 64\n'
        '[workloads.chat]\ntrace = "trace.csv"\n'
        '[workloads.long]\nprompt = "5000"\ndecode = "geometric:50"\n'
        '[latencies.ours]\nmodel = "deepseek-v3"\nhardware = "h20"\n'
        '[latencies.h200]\nmodel = "deepseek-v3"\nhardware = "h200"\n'
    )  # fmt: skip
    study = load_study(write(tmp_path, text))
    assert study.cases == 4
    assert study.time_unit == "s"
    assert study.source(study.case(0).values).trace is not None


def test_model_times_hardware(tmp_path):
    text = (
        'compute = "ratio"\n[fixed]\nbatch_size = 64\n' + LAWS + '[grid]\nmodel = ["deepseek-v3", '
        '"qwen3-235b-a22b"]\nhardware = ["h20", "h200"]\n'
    )
    study = load_study(write(tmp_path, text))
    assert study.cases == 4
    assert len(set(study.latency_fingerprints.values())) == 4


WRONG = {
    "bach_size": (HEAD + LAWS + "bach_size = 3\n", "did you mean batch_size"),
    "unknown section": (HEAD + LAWS + "batch_size = 3\n[gridd]\n", "did you mean grid"),
    "empty grid": (HEAD + LAWS + "[grid]\nbatch_size = []\n", "must not be empty"),
    "a value, not a list": (HEAD + LAWS + "[grid]\nbatch_size = 3\n", "must be a list"),
    "a list in fixed": (HEAD + LAWS + "batch_size = [3]\n", "belong in [grid]"),
    "zero": (HEAD + LAWS + "[grid]\nbatch_size = [1, 0]\n", "integer >= 1 and <= 1,000,000, got 0"),
    "too large": (
        HEAD + LAWS + f"batch_size = 1\nhorizon = {10**19}\n",
        "at most 9007199254740992",
    ),
    "repeated": (HEAD + LAWS + "[grid]\nbatch_size = [1, 1]\n", "must not repeat"),
    "two sections": (HEAD + LAWS + "batch_size = 1\n[grid]\nbatch_size = [1]\n", "one section"),
    "unequal zip": (
        HEAD + LAWS + "[zip]\nbatch_size = [1]\nmicrobatches = [1, 2]\n",
        "one length, got batch_size 1, microbatches 2",
    ),
    "no batch": (HEAD + LAWS, "one of batch_size"),
    "no requests": (HEAD + "batch_size = 1\n", "say what the requests are"),
    "trace and laws": (HEAD + LAWS + 'trace = "x"\nbatch_size = 1\n', "by one of workload"),
    "no trace": (HEAD + 'trace = "x.csv"\nbatch_size = 1\n', "x.csv"),
    "bad law": (HEAD + 'prompt = "1"\ndecode = "geo:3"\nbatch_size = 1\n', "decode"),
    "bad kind": (HEAD.replace("ratio", "ration"), "compute must be one of ratio"),
    "no kind": ("[fixed]\nbatch_size = 1\n", "compute must say"),
    "bad latency": (HEAD.replace(LATENCY, "deepsek") + LAWS + "batch_size = 1\n", "no latency"),
    "latency that is no name": (
        HEAD.replace(LATENCY, "[" * 300) + LAWS + "batch_size = 1\n",
        "no latency",
    ),
    "choice that is no name": (
        'compute = "ratio"\n[fixed]\nbatch_size = 1\nlatency = "b"\n'
        + LAWS
        + f'[latencies.b]\nmodel = "{"m" * 300}"\nhardware = "h200"\n',
        "model must be a shipped name",
    ),
    "two units": (
        'compute = "ratio"\n[fixed]\nbatch_size = 1\n' + LAWS + f'[grid]\nlatency = ["{LATENCY}", '
        '"b"]\n[latencies.b]\nmodel = "deepseek-v3"\nhardware = "h200"\n',
        "one time unit",
    ),
    "undefined workload": (HEAD + 'workload = "x"\nbatch_size = 1\n', "no [workloads.x]"),
    "a billion": (
        HEAD + LAWS + "[sample]\ncases = 1000000000\nbatch_size = [1]\n",
        "at most 10,000,000 cases, got 1,000,000,000",
    ),
    "fractions of requests": (
        HEAD + LAWS + "[sample]\ncases = 3\nbatch_size = { low = 1.5, high = 3.0 }\n",
        "batch_size",
    ),
    "windows of laws": (HEAD + LAWS + "batch_size = 1\n[windows]\nrequests = 9\n", "give trace"),
    "windows by what": (HEAD + LAWS + "batch_size = 1\n[windows]\n[grid]\nx=[1]\n", "no variable"),
    "not TOML": ("compute = \n", "invalid TOML"),
    "schema": ("schema_version = 7\n" + HEAD, "schema_version must be 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_studies_are_refused_in_one_line(tmp_path, name):
    text, told = WRONG[name]
    with pytest.raises(InvalidInputError) as caught:
        load_study(write(tmp_path, text))
    message = str(caught.value)
    assert told in message
    assert "\n" not in message


def test_a_billion_cases_are_refused_before_any_trace_is_read(tmp_path):
    ranges = ", ".join(map(str, range(1, 1001)))
    text = HEAD + 'trace = "not there"\n[grid]\n' + "".join(
        f"{name} = [{ranges}]\n" for name in ("batch_size", "ffn_workers", "max_attention_workers")
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="got 1,000,000,000"):
        load_study(write(tmp_path, text))
