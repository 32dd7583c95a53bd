"""Every reader of the package comes through one opener: the same file, however it arrives."""

import ast
import gzip
import io
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from backports import zstd

from afdplan.errors import InvalidInputError, LatencyModelError
from afdplan.files import document
from afdplan.files.document import open_source, read_document
from afdplan.files.hardware_file import read_hardware_file
from afdplan.files.latency_file import load_latency
from afdplan.files.measurements.prometheus import read_metrics
from afdplan.files.measurements.reader import read_measurements, recognise_measurements
from afdplan.files.measurements.table import read_ratio_sweep
from afdplan.files.model_config import read_model_config
from afdplan.files.parsed import from_toml
from afdplan.files.plan_file import read_plan
from afdplan.files.study_file import read_study_file
from afdplan.files.traces.reader import read_trace
from tests.running import started, written_to

DATA = Path(__file__).parents[3] / "src/afdplan/data"
SAMPLES = Path(__file__).parents[2] / "samples"
TABLE = b"stage,load,requests,latency_us\nattention,1000,4,50\nffn,64,,120.5\n"
SWEEP = b"ratio,batch,context,tok_s_per_gpu\n3,48,8192,2193\n7,48,8192,2518\n"
TRACE = b"isl,osl\n100,7\n30,9\n"
STUDY = b'compute = "ratio"\n[grid]\nbatch_size = [64, 128]\n'


def trace_lengths(path):
    return read_trace(path).prompt_tokens.tolist()


def steps(path):
    return [stage.times.tolist() for stage in read_measurements(path).stages]


READERS = {
    "trace": (trace_lengths, TRACE),
    "table": (steps, TABLE),
    "sglang log": (steps, (SAMPLES / "sglang_decode.log").read_bytes()),
    "sglang steps": (steps, (SAMPLES / "sglang_server_info.json").read_bytes()),
    "stepmesh": (steps, (SAMPLES / "stepmesh_traces.jsonl").read_bytes()),
    "fastafd": (steps, (SAMPLES / "fastafd_steps.jsonl").read_bytes()),
    "sweep": (lambda path: read_ratio_sweep(path).step_times.tolist(), SWEEP),
    "metrics": (
        lambda path: read_metrics(path).prompt_tokens,
        (SAMPLES / "vllm_metrics.prom").read_bytes(),
    ),
    "latency": (load_latency, (DATA / "latency/deepseek-v3-ascend-910c.toml").read_bytes()),
    "hardware": (read_hardware_file, (DATA / "hardware/a100-80g.toml").read_bytes()),
    "config": (read_model_config, b'{"hidden_size": 8}'),
    "study": (lambda path: read_study_file(path).grid, STUDY),
}
UNLIMITED = [*READERS, "plan"]
every_reader = pytest.mark.parametrize("name", READERS)


def reader(name):
    return read_plan if name == "plan" else READERS[name][0]


@every_reader
@pytest.mark.parametrize(
    "pack", [gzip.compress, zstd.compress, lambda c: gzip.compress(gzip.compress(c))]
)
def test_packed_files_read_as_plain_ones(tmp_path, name, pack):
    read, content = READERS[name]
    plain, packed = tmp_path / "plain", tmp_path / "plain.packed"
    plain.write_bytes(content)
    packed.write_bytes(pack(content))
    if name == "latency":  # names itself after its file only if it has no name
        assert read(packed) == read(plain)
    assert repr(read(packed)) == repr(read(plain))


@every_reader
def test_pipes_are_read_once(tmp_path, name):
    read, content = READERS[name]
    plain, pipe = tmp_path / "plain", tmp_path / "pipe"
    plain.write_bytes(content)
    with written_to(pipe, content):
        found = read(pipe)
    assert repr(found) == repr(read(plain))


@every_reader
def test_standard_input(tmp_path, name, monkeypatch):
    read, content = READERS[name]
    plain = tmp_path / "plain"
    plain.write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert repr(read("-")) == repr(read(plain))


@pytest.mark.parametrize("name", UNLIMITED)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (b"\0" * 99, "is binary"),
        (b"PK\x03\x04....", "zip archive"),
        ("isl,osl".encode("utf-16"), "UTF-16"),
        (gzip.compress(TABLE * 99, mtime=0)[:-20], "gzip data is cut short or damaged"),
        (zstd.compress(TABLE * 99)[:-5], "zstd data is cut short or damaged"),
    ],
)
def test_what_no_reader_takes_is_told_in_the_same_words(tmp_path, name, content, told):
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=told) as caught:
        reader(name)(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", UNLIMITED)
def test_missing_files_directories_and_bad_names(tmp_path, name):
    with pytest.raises(InvalidInputError, match=r"there is no file .*absent: check the path"):
        reader(name)(tmp_path / "absent")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InvalidInputError, match="is a directory"):
        reader(name)(tmp_path)
    with pytest.raises(InvalidInputError, match=r"null byte|no latency model named"):
        reader(name)("a\0b")
    with pytest.raises(InvalidInputError, match="given by its name, got ''"):
        reader(name)("")
    long = str(tmp_path / ("a" * 10_000))
    with pytest.raises(InvalidInputError) as told:
        reader(name)(long)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("name", UNLIMITED)
def test_an_endless_device_is_refused_at_once(name):
    with pytest.raises(InvalidInputError, match="is binary"):
        reader(name)(Path("/dev/zero"))


def test_an_endless_pipe_is_cut_at_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "LARGEST_PIPE", 3_000_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for read, told in ((read_trace, "at most 3 MB"), (load_latency, "at most 16 MB")):
        with (
            started(["yes", "1,2"], stdout=subprocess.PIPE) as endless,
            pytest.raises(InvalidInputError, match=told),
        ):
            read(Path(f"/dev/fd/{endless.stdout.fileno()}"))
    assert list(tmp_path.iterdir()) == []


def test_a_sparse_file_of_a_terabyte_costs_no_memory(tmp_path):
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.write(b"a = 1\n" * 20_000)
        file.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LatencyModelError, match="at most 16 MB"):
        load_latency(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_copies_of_packed_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(TRACE))
    assert trace_lengths(path) == [100, 30]
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_place_for_copies_plain_files_are_read(tmp_path, monkeypatch):
    """As in a container whose whole file system is read-only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    plain, packed = tmp_path / "trace.csv", tmp_path / "trace.csv.gz"
    plain.write_bytes(TRACE)
    packed.write_bytes(gzip.compress(TRACE))
    assert trace_lengths(plain) == [100, 30]
    with pytest.raises(InvalidInputError, match="set TMPDIR to a folder that can be written"):
        trace_lengths(packed)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TRACE)))
    with pytest.raises(InvalidInputError, match="set TMPDIR"):
        trace_lengths("-")


def test_lines_do_not_depend_on_blocks(tmp_path, monkeypatch):
    content = b"a\r\n\n" + b"b" * 50 + b"\nc"
    path = tmp_path / "log"
    path.write_bytes(content)
    for size in (1, 2, 3, 7, 1 << 20):
        monkeypatch.setattr(document, "BLOCK", size)
        with open_source(path, "a log") as source:
            assert list(source.lines()) == [(1, b"a"), (2, b""), (3, b"b" * 50), (4, b"c")]


@pytest.mark.parametrize(
    ("read", "start"),
    [
        (read_trace, b"prompt,decode\n"),
        (read_trace, b'{"prompt": "'),
        (recognise_measurements, b"x"),
    ],
)
def test_a_line_of_a_hundred_megabytes_is_refused_soon(tmp_path, read, start):
    """A kilobyte of a packed file may hold it: nothing looks at it twice, or letter by letter."""
    path = tmp_path / "packed"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(100):
            file.write(b"12345,abcd" * 100_000)
    began = time.process_time()
    with pytest.raises(InvalidInputError, match=r"longer than 64 MB|cut short in line 1"):
        read(path)
    assert time.process_time() - began < 4


def test_a_sign_is_found_far_down_whatever_stands_before(tmp_path):
    path = tmp_path / "log"
    for name, sign in (
        ("prometheus", b'vllm:request_prompt_tokens_sum{a="b"} 5\n'),
        ("expert-load", b"[Expert Balancedness] x current_pass_balancedness=0.5\n"),
        ("sglang-log", b"Decode batch. #running-req: 3\n"),
    ):
        path.write_bytes(b"a line of a log\n" * 200_000 + sign)
        assert recognise_measurements(path) == name


def test_a_key_of_millions_of_parts_is_refused_at_once(tmp_path):
    path = tmp_path / "hardware.toml"
    path.write_text("a" + ".a" * 5_000_000 + " = 1\n")
    began = time.process_time()
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        read_hardware_file(path)
    path.write_text("name = '" + "a" * 5_000_000 + "'\n" + "# " + "a-" * 2_000_000 + "\n")
    with open_source(path, "a table") as source:
        assert len(from_toml(source.text())["name"]) == 5_000_000
    assert from_toml("a.b.c.'d.e' = 'a.b'") == {"a": {"b": {"c": {"d.e": "a.b"}}}}
    assert time.process_time() - began < 5


def test_a_key_that_comes_twice_among_many_is_found_at_once(tmp_path):
    path = tmp_path / "many.json"
    keys = "".join(f'"k{k}": 1,' for k in range(200_000))
    path.write_text(f'{{{keys} "z": 1, "z": 2}}')
    began = time.process_time()
    with pytest.raises(InvalidInputError, match="must occur once in an object, got 'z' twice"):
        read_document(path, "a table")
    assert time.process_time() - began < 5


def test_a_quote_that_nobody_closes_is_refused_soon(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b'isl,osl\n"' + b"1,2\n" * 10_000_000)
    began = time.process_time()
    with pytest.raises(InvalidInputError, match="field larger than field limit"):
        read_trace(path)
    assert time.process_time() - began < 5


def test_json_is_strict_for_every_document(tmp_path):
    path = tmp_path / "doc.json"
    for text, told in (
        ('{"a": 1, "a": 2}', "once in an object, got 'a' twice"),
        ('{"a": Infinity}', "finite, got Infinity"),
        ('{"a": [1e400]}', "finite, got 1e400"),
        ("[1]", "one JSON object, got list"),
        (json.dumps({"a": 1})[:-1], "invalid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match=told):
            read_document(path, "a test")


def test_no_reader_opens_a_file_by_itself():
    """Of the room `files`, only the opener reads; what is written by us may be opened."""
    folder = Path(document.__file__).parent
    # The opener with its packings, locks, and files being written.
    own = {"document.py", "content.py", "atomic.py", "dataset.py", "table.py"}
    for path in folder.rglob("*.py"):
        if path.name in own and path.parent.name != "measurements":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                opens = node.attr in ("read_text", "read_bytes") or (
                    node.attr == "open" and ast.unparse(node.value) != "source.path"
                )
                assert not opens, f"{path.name}:{node.lineno} opens a file past the opener"


def test_a_document_is_opened_without_numpy():
    # The check of a path once brought the latency model, and with it NumPy, to every command.
    line = "import sys, afdplan.files.document; print('numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "False"
