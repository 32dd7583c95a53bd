"""However a file is damaged, a reader answers or says why in one line; it never breaks."""

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.errors import AfdplanError
from afdplan.files.latency_file import load_latency
from afdplan.files.measurements.prometheus import read_metrics
from afdplan.files.measurements.reader import read_measurements
from afdplan.files.measurements.table import read_ratio_sweep

SAMPLES = Path(__file__).parents[1] / "samples"
MODEL = Path(__file__).parents[2] / "src/afdplan/data/latency/deepseek-v3-ascend-910c.toml"
TABLE = b"stage,load,requests,latency_us\nattention,1000,4,50\nffn,64,,120.5\nffn,128,,1e3\n"
SWEEP = b"ratio,batch,context,tok_s_per_gpu\n3,48,8192,2193\n7,48,8192,2518\n"
FPM = (
    b'{"timestamp":1,"event":{"schema":"dynamo.fpm.trace.v1","observed_at_unix_ms":1782777601250,'
    b'"fpm":{"worker_id":"4","dp_rank":0,"wall_time":0.025,"scheduled_requests":'
    b'{"num_decode_requests":3,"sum_decode_kv_tokens":1024}}}}\n'
)


def damaged(content):
    """Cut the content, or replace, drop or double a piece of it."""
    pieces = st.sampled_from(
        [b"", b"\0", b"{", b"]", b'"', b"nan", b"-1", b"1e999", b"\xff", b",", b"[" * 3000, b"\n"]
    )
    at = st.integers(0, len(content))

    def apply(arguments):
        begin, end, piece = arguments
        begin, end = min(begin, end), min(max(begin, end), begin + 40)
        return content[:begin] + piece + content[end:]

    return st.one_of(
        at.map(lambda k: content[:k]), st.tuples(at, at, pieces).map(apply), st.binary(max_size=60)
    )


def answers_or_explains(read, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        path.write_bytes(content)
        try:
            read(path)
        except AfdplanError as error:
            message = str(error)
        else:
            return
    assert "\n" not in message
    assert len(message) < 600


def measurements(path):
    return read_measurements(path, role="attention", load=1000.0)


CASES = {
    "table": (measurements, TABLE),
    "sweep": (read_ratio_sweep, SWEEP),
    "model": (load_latency, MODEL.read_bytes()),
    "prometheus": (read_metrics, (SAMPLES / "vllm_metrics.prom").read_bytes()),
    "api": (read_metrics, (SAMPLES / "metrics" / "prometheus-2.42-query.json").read_bytes()),
    "pool": (
        measurements,
        b"afd pool time: 2000 calls in 1.42s (1408/s) -- wire in 0.110 ms, work "
        b"0.450 ms, wire out 0.070 ms a call; 89% of the clock\n" * 3,
    ),
    "log": (measurements, (SAMPLES / "logs" / "sglang_dp_ranks.log").read_bytes()[:2500]),
    "fpm": (measurements, FPM * 5),
    **{
        name: (measurements, (SAMPLES / name).read_bytes()[:2500])
        for name in (
            "fastafd_steps.jsonl",
            "sglang_decode.log",
            "sglang_server_info.json",
            "stepmesh_traces.jsonl",
            "torch_attention.json.gz",
            "torch_ffn.json",
        )
    },
}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_explained(case, data):
    read, content = CASES[case]
    answers_or_explains(read, data.draw(damaged(content)))


@settings(max_examples=40, deadline=None)
@given(damaged(gzip.decompress((SAMPLES / "torch_attention.json.gz").read_bytes())[:3000]))
def test_damage_inside_gzip_is_explained(content):
    answers_or_explains(measurements, gzip.compress(content))
