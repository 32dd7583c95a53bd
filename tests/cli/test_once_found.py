"""Faults that hostile inputs once found: each is answered or refused in one line, and in time."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import afdplan
from afdplan.lengths.discrete import parse_law
from afdplan.simulation.alias import AliasTable
from tests.cli.invoke import invoke
from tests.property import fuzzing

MODELS = Path(afdplan.__file__).parent / "data/models"
LATENCY = ("--latency", "deepseek-v3-ascend-910c")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return fuzzing.Room(tmp_path_factory.mktemp("room"))


@contextmanager
def within(seconds):
    """Fail if the block takes more seconds of processor time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


@contextmanager
def piped(content):
    """Give a pipe that holds `content`; it is standard input too."""
    source, end = os.pipe()

    def write():
        with os.fdopen(end, "wb") as file:
            file.write(content)

    threading.Thread(target=write, daemon=True).start()
    kept = os.dup(0)
    os.dup2(source, 0)
    stdin = sys.stdin
    try:
        with open(0, closefd=False) as sys.stdin:
            yield f"/dev/fd/{source}"
    finally:
        sys.stdin = stdin
        os.dup2(kept, 0)
        os.close(kept)
        os.close(source)


FILES = [
    (command, k, part[1:-1])
    for command, base in fuzzing.BASES.items()
    for k, part in enumerate(base)
    if part.startswith("{") and part != "{out}" and (command, k) != ("compare", 1)
]
FILES += [(command, 1, "trace") for command in ("workload", "ratio")]


@pytest.mark.parametrize(("command", "place", "kind"), FILES)
def test_a_pipe_is_read_once_by_every_command(room, tmp_path, command, place, kind):
    """What comes through a pipe is answered as the file is: never as an empty one."""
    files = {name: str(path) for name, path in room.files.items()} | {"out": str(tmp_path / "a")}
    base = [
        part.format(**files) if part.startswith("{") else part for part in fuzzing.BASES[command]
    ]
    if kind == "trace" and "--trace" not in base:
        base = ["--trace", "", *base[len(fuzzing.LENGTHS) :]]

    def asked(name):
        return invoke(command, *base[:place], name, *base[place + 1 :], "--json")

    plain = asked(room.files[kind])
    assert plain.code == 0, plain
    drop = ("inputs", "name", "files", "folder", "started", "source", "sources", "created")
    for number, way in enumerate(("-", "/dev/stdin", "pipe")):
        written = tmp_path / str(number)
        if "-o" in base:
            base[base.index("-o") + 1] = str(written)
        with piped(room.files[kind].read_bytes()) as name:
            given = asked(name if way == "pipe" else way)
        if given.code:  # a plan is written beside what is deployed: a pipe may be refused
            assert given.error_line
            assert not written.exists()
            continue
        told, expected = (
            {key: value for key, value in json.loads(text).items() if key not in drop}
            for text in (given.out, plain.out)
        )
        assert set(told) == set(expected)
        numbers = {key: value for key, value in expected.items() if isinstance(value, int | float)}
        assert {key: told[key] for key in numbers} == numbers, way
        if command == "deploy":
            assert (written / "plan.json").read_bytes() == room.files["plan"].read_bytes()


def test_20_000_keys_in_two_lines(tmp_path):
    path = tmp_path / "wide.jsonl"
    line = {"isl": 5, "osl": 7} | {f"k{k}": k for k in range(10_000)}
    path.write_text(f"{json.dumps(line)}\n{json.dumps(line)}\n")
    with within(15):
        found = invoke("workload", path, "--json")
        assert found.code == 0 or found.error_line


def test_300_000_rows_of_one_load(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("stage,load,requests,latency_us\n" + "attention,1000,4,50.5\n" * 300_000)
    with within(12):
        assert "attention" in invoke("calibrate", path).error_line


def test_a_hundred_thousand_attention_workers():
    with within(20):
        found = invoke("ratio", *fuzzing.LENGTHS, *LATENCY, "--batch-size", "8",
                       "--max-attention-workers", "100000", "--json")  # fmt: skip
    assert found.document["optimal_attention_workers"] >= 1


def test_lognormal_laws_are_summed_once():
    laws = ("--prompt", "lognormal:mean=1200,cv=1.0", "--decode", "lognormal:mean=400,cv=0.8")
    given = ("simulate", *laws, *LATENCY, "--batch-size", "4", "--attention-workers", "2")
    invoke("simulate", *fuzzing.LENGTHS, *given[5:], "--requests", "50")  # loads what is compiled
    with within(15):
        assert invoke(*given, "--requests", "50", "--json").code == 0


def test_the_longest_tail_is_cut_into_columns_in_no_time():
    """As a list of ten million numbers it took six seconds for each of the two lengths."""
    law = parse_law("lognormal:mean=9000,cv=2")
    AliasTable(parse_law("geometric:3"))  # compiled
    with within(2.5):
        table = AliasTable(law)
    assert table.columns.size == 10_000_000


@pytest.mark.parametrize("text", ["geometric:7", "uniform:3..9", "lognormal:mean=20,cv=2", "5"])
def test_columns_hold_the_law(text):
    law = parse_law(text)
    table = AliasTable(law)
    share, other = (table.columns & (2**33 - 1)) / 2**32, table.columns >> 33
    chance = np.bincount(other, 1 - share, share.size) + share
    assert chance / share.size == pytest.approx(law.probabilities, abs=1e-9)


@pytest.mark.parametrize("option", ["--noise", "--occupied"])
@pytest.mark.parametrize("value", ["1e-320", "1e308"])
def test_sharp_numbers_of_a_sweep(tmp_path, option, value):
    path = tmp_path / "sweep.csv"
    path.write_text("ratio,batch,context,tok_s_per_gpu\n3,48,8192,2193\n7,48,8192,2518\n"
                    "3,96,8192,3193\n7,96,8192,3818\n")  # fmt: skip
    with within(20):
        found = invoke("calibrate", path, option, value, "--json")
    assert found.code == 0 or found.error_line


@pytest.mark.parametrize("value", ["1e308", "1e-320", "1e400"])
@pytest.mark.parametrize("name", ["ratio", "ffn_weight", "batch_size", "tpot"])
def test_sharp_numbers_of_a_study(tmp_path, name, value):
    path = tmp_path / "study.toml"
    path.write_text(fuzzing.STUDY + f"{name} = [{value}]\n")
    with within(10):
        found = invoke("sweep", path, "--json", "-o", tmp_path / "r")
    assert found.code == 0 or len(found.err.strip().splitlines()) == 1, found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("published_parameters", one) for one in ('"many"', "1e400", "-5", "[1]", "true")),
        *((key, one) for key in ("hidden_size", "n_routed_experts", "num_hidden_layers")
          for one in ("-2048", "0", "1e400", "1e308", "[1e400]", '"8"', "true")),
        *(("rope_scaling", one) for one in ("[1e400]", "5")),
    ],
)  # fmt: skip
def test_facts_of_a_model_that_cannot_be(tmp_path, name, value):
    path = tmp_path / "config.json"
    document = json.loads((MODELS / "deepseek-v2-lite.json").read_text())
    place = document["afdplan"] if name.startswith("published") else document
    place[name] = "@"
    path.write_text(json.dumps(document).replace('"@"', value))
    for command in (("models", path), ("ratio", *fuzzing.LENGTHS, "--batch-size", "8", "--model",
                                       path, "--hardware", "h200")):  # fmt: skip
        found = invoke(*command, "--json")
        if found.code:
            assert found.error_line
        else:  # what a model is not asked for may be anything
            assert name in ("published_parameters", "rope_scaling")
            assert value in ("[1e400]", "5")


@pytest.mark.parametrize("value", ["1e308", "1e-320", "-3", "0", "inf", "true", '"3"'])
@pytest.mark.parametrize("name", ["memory_bandwidth", "memory_size"])
def test_devices_that_cannot_be(tmp_path, name, value):
    lines = (MODELS.parent / "hardware/h200.toml").read_text().splitlines()
    assert any(line.startswith(f"{name} =") for line in lines)
    path = tmp_path / "device.toml"
    path.write_text("\n".join(f"{name} = {value}" if line.startswith(f"{name} =") else line
                              for line in lines))  # fmt: skip
    found = invoke("ratio", *fuzzing.LENGTHS, "--batch-size", "8", "--model", "deepseek-v2-lite",
                   "--hardware", path, "--json")  # fmt: skip
    assert found.error_line


def test_arrivals_that_span_more_than_63_bits(tmp_path):
    path = tmp_path / "far.csv"
    path.write_text("arrival_ns,isl,osl\n-9223372036854775807,5,6\n9223372036854775806,5,6\n")
    found = invoke("workload", path, "--json")
    assert found.code == 1 or found.document["arrivals"]["duration"] > 1.8e10, found.out


@pytest.mark.parametrize("columns", ["0", "-3", "x", "1"])
def test_columns_of_a_terminal_that_cannot_be(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    told = invoke("hardware", "h200")
    assert told.code == 0
    assert "h200" in told.out.replace("\n", "").replace(" ", "").lower()


def test_devices_that_nobody_asked_for_are_not_refused():
    given = ("plan", *fuzzing.LENGTHS, *fuzzing.DERIVED, "--tpot", "50ms", "--batch-sizes", "8")
    found = invoke(*given, "--devices", "100000", "--json")
    assert found.code == 0 or "100000" in found.error_line.replace(",", "")


def test_a_unit_of_time_that_lines_do_not_have(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"isl": 5, "osl": 7, "ts": 1}\n{"isl": 5, "osl": 8, "ts": 2}\n')
    found = invoke("workload", path, "--columns", "unit=iso")
    assert "unit=iso is for times written as" in found.error_line


@pytest.mark.parametrize("load", ["1e-300", "0", "-1", "1e300"])
def test_loads_that_no_fit_can_weigh(tmp_path, load):
    path = tmp_path / "table.csv"
    rows = "".join(f"attention,{load},4,{t}\nffn,{k},,{t}\n" for k, t in ((8, "1e-300"), (9, 2)))
    path.write_text(f"stage,load,requests,latency_us\n{rows}")
    found = invoke("calibrate", path, "--json")
    assert found.code == 0 or found.error_line
