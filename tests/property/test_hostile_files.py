"""Files that nobody means, of every reader: each is answered or refused in a few lines.

Whatever stands in them, a command ends with a code of its own, says why, and leaves nothing behind.
"""

from __future__ import annotations

import gzip
import io
import json

import numpy as np
import polars as pl
import pytest

from tests.cli.invoke import invoke
from tests.property.fuzzing import LATENCY, LENGTHS, SIZE, STUDY, TABLE, Room
from tests.running import written_to


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return Room(tmp_path_factory.mktemp("hostile"))


def parquet():
    frame = pl.DataFrame({"prompt_tokens": range(1, 200), "decode_tokens": range(1, 200)})
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def archive():
    out = io.BytesIO()
    np.savez(out, a=np.arange(4))
    return out.getvalue()


TRACE = "prompt_tokens,decode_tokens,arrival\n" + "".join(
    f"{k % 97 + 1},{k % 31 + 1},{k}\n" for k in range(200)
)
WHOLE = parquet()
WORDS = ("NaN", "1e400", "-1", "1e308", "Infinity", "null", "true", "1.5", "0x10", '""', "١٢")
CONTENTS: dict[str, bytes | str] = {
    **{f"parquet cut at {k}": WHOLE[:k] for k in (4, 20, len(WHOLE) // 2, len(WHOLE) - 3)},
    "parquet with a spoiled page": WHOLE[:300] + b"\xff" * 8 + WHOLE[308:],
    "parquet with a long footer": WHOLE[:-8] + b"\xff\xff\xff\x7fPAR1",
    "npz": archive(),
    "npz cut": archive()[:40],
    "gzip bomb of zeros": gzip.compress(bytes(80_000_000)),
    "gzip cut": gzip.compress(TRACE.encode())[:-9],
    "gzip in gzip": gzip.compress(gzip.compress(TRACE.encode())),
    "zstd spoiled": b"\x28\xb5\x2f\xfd" + bytes(range(200)),
    **{f"csv {w}": f"{TRACE[:36]}{w},3,1\n5,{w},2\n7,8,{w}\n" for w in WORDS},
    **{f"jsonl {w}": f'{{"prompt_tokens":{w},"decode_tokens":3}}\n' * 3 for w in WORDS},
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "deep toml": "a=" + "[" * 5000 + "]" * 5000,
    "keys twice": '{"prompt_tokens":1,"prompt_tokens":2,"decode_tokens":3}',
    "many keys": "{" + ",".join(f'"k{k}":1' for k in range(30_000)) + "}",
    "many columns": ",".join(f"c{k}" for k in range(20_000)) + "\n" + "1," * 19_999 + "1\n",
    "crlf": TRACE.replace("\n", "\r\n"),
    "cr": TRACE.replace("\n", "\r"),
    "utf-16": TRACE.encode("utf-16"),
    "utf-32": TRACE.encode("utf-32"),
    "bom": b"\xef\xbb\xbf" + TRACE.encode(),
    "latin-1": TRACE.encode() + b"\xe9,\xe9,1\n",
    "nul": TRACE.encode().replace(b",", b"\0,", 3),
    "surrogate": '{"prompt_tokens":"\\ud800","decode_tokens":"\\udfff"}',
    "a number of 10,000 digits": '{"prompt_tokens":' + "9" * 10_000 + ',"decode_tokens":1}',
    "toml of 5,000 digits": "layers = " + "9" * 5000,
    "toml of a date": "layers = 1979-05-27",
    "html": "<html><body>404</body></html>",
    "sqlite": b"SQLite format 3\0" + bytes(200),
    "pickle": b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x02os\x94.",
    "empty zip": b"PK\x05\x06" + bytes(18),
    "elf": b"\x7fELF" + bytes(200),
    "empty": b"",
    "blank": b" \n\t\n",
    "quotes": b'"' * 1_000_001,
    "commas": b"," * 1_000_000,
    "no shape": '{"prompt_tokens":1}\n[1,2]\n"x"\n5\nnull\n',
    "lists as lengths": '{"prompt_tokens":[1],"decode_tokens":{"a":1}}\n',
    "table of 1e308": TABLE.replace("51.0", "1e308"),
    "table of 1e-320": TABLE.replace("51.0", "1e-320"),
    "table of nan": TABLE.replace("51.0", "nan"),
    "table of negatives": TABLE.replace("attention,100,4,51.0", "attention,-100,4,-51"),
    "metrics of 1e400": 'vllm:request_prompt_tokens_bucket{le="+Inf"} 1e400\n',
    "metrics without an edge": 'vllm:request_prompt_tokens_bucket{le="x"} 1\n',
    "an answer of nothing": '{"status":5,"data":[]}',
    "study of 1e308": STUDY.replace("[8, 16]", "[1e308]"),
    "study in another folder": STUDY.replace('"two"', '"../../x"'),
    "study of a wide law": STUDY.replace("geometric:20", "lognormal:1e9,50"),
    "config of layers without end": json.dumps({"model_type": "llama", "num_hidden_layers": 10**9}),
}  # fmt: skip
PLACES = ("loop", "dangling", "directory", "unreadable", "under a file", "long name")
READERS = (
    ("workload", "{}"),
    ("workload", "{}", "--format", "prometheus"),
    ("ratio", *LENGTHS, "--latency", "{}", *SIZE, "--max-attention-workers", "4"),
    ("ratio", "--trace", "{}", *LATENCY, *SIZE, "--max-attention-workers", "4", "--json"),
    ("calibrate", "{}", "--load", "1000", "--role", "attention"),
    ("calibrate", "{}", "--sweep", "--batch-size", "8"),
    ("deploy", "{}", "--target", "fastafd", "-o", "{out}"),
    ("check", "{}", "--trace", "{trace}"),
    ("check", "{plan}", "--trace", "{}"),
    ("compare", "{}", "{plan}"),
    ("sweep", "{}", "--dry-run"),
    ("sweep", "--summary", "{}"),
    ("models", "{}"),
    ("hardware", "{}"),
    ("--project", "{}", "config"),
)


def answered(call, path, room):
    files = {name: str(one) for name, one in room.files.items()}
    files["out"] = str(room.folder / "out" / "deployment")
    words = [str(path) if w == "{}" else w.format(**files) if w[0] == "{" else w for w in call]
    outcome = invoke(*words)
    lines = outcome.err.strip().splitlines()
    assert outcome.code in range(5), (words, outcome)
    assert outcome.out or lines, (words, outcome)
    assert outcome.code not in (1, 2) or len(lines) <= 3, (words, outcome.err[:500])
    assert "Warning" not in outcome.err
    written = list((room.folder / "out").rglob("*"))
    assert (room.clean(), outcome.code and written) in (([], 0), ([], [])), words


@pytest.mark.parametrize("what", CONTENTS)
def test_whatever_stands_in_a_file_is_answered_or_refused(what, room, tmp_path):
    content = CONTENTS[what]
    path = tmp_path / "hostile"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    at = list(CONTENTS).index(what)
    # Two readers of traces, and three of all in turn: together they see every kind.
    for call in (READERS[0], READERS[3], *(READERS[(at * 4 + k) % len(READERS)] for k in range(3))):
        answered(call, path, room)
    assert [one.name for one in tmp_path.iterdir()] == ["hostile"]


@pytest.mark.parametrize("place", PLACES)
def test_whatever_stands_at_a_path_is_answered_or_refused(place, room, tmp_path):
    path = tmp_path / "hostile"
    if place == "loop":
        path.symlink_to(path)
    elif place == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif place == "directory":
        path.mkdir()
    elif place == "unreadable":
        path.write_text(TRACE)
        path.chmod(0)
    elif place == "under a file":
        path.write_text(TRACE)
        path = path / "below"
    elif place == "long name":
        path = tmp_path / ("a" * 300)
    for call in READERS:
        answered(call, path, room)


def test_a_pipe_that_ends_without_a_word_is_an_empty_file(room, tmp_path):
    for at, call in enumerate(READERS):
        path = tmp_path / f"pipe{at}"
        with written_to(path, b""):  # a command that never looks leaves the writer waiting
            answered(call, path, room)
