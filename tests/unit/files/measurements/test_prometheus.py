"""Counters of engines are read the same however they come, kept apart and subtracted."""

import contextlib
import gzip
import http.server
import json
import socket
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Written

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.files.measurements.counters import read_snapshot
from afdplan.files.measurements.prometheus import Histogram, read_metrics
from afdplan.files.measurements.prometheus_api import prometheus_increase
from afdplan.workload.observed import (
    law_of_histogram,
    observed_lengths,
    observed_load,
    observed_trace,
)

SAMPLES = Path(__file__).parents[3] / "samples" / "metrics"
EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

# file: (system, requests, mean prompt, mean output, step time or None)
RIGHT = {
    "dynamo_frontend.prom": ("Dynamo", 1000, 510, 230, 0.035),
    "prometheus-2.42-federate.txt": ("vLLM", 236, 167331 / 236, 6859 / 236, 8185 / 6630),
    "ray_vllm.prom": ("vLLM", 1000, 510, 230, 0.035),
    "sglang.prom": ("SGLang", 1000, 510, 230, 0.035),
    "vllm-0.32.0-after-bench.prom": ("vLLM", 78, 14912 / 78, 3154 / 78, 5826.4 / 3209),
    "vllm-0.32.0-during.prom": ("vLLM", 1, 7, 8, 1.5064),
    "vllm_lora_models.prom": ("vLLM", 1040, 519000 / 1040, 231200 / 1040, None),
    "vllm_plain.prom": ("vLLM", 1000, 510, 230, 0.035),
    "vllm_timestamps.prom": ("vLLM", 1000, 510, 230, 0.035),
    "vllm_trailing_comma.prom": ("vLLM", 1000, 510, 230, 0.035),
    "vllm_underscore.prom": ("vLLM", 1000, 510, 230, 0.035),
    "vllm_v0_tpot.prom": ("vLLM", 1000, 510, 230, 0.035),
    "vllm_v1_req_tpot.prom": ("vLLM", 1000, 510, 230, None),
}


@pytest.mark.parametrize("name", RIGHT)
def test_histograms_of_every_engine_and_collector(name):
    system, requests, prompt, decode, step = RIGHT[name]
    found = read_metrics(SAMPLES / name)
    assert found.system == system
    assert found.requests == requests
    assert found.prompt_tokens.mean == pytest.approx(prompt)
    assert found.decode_tokens.mean == pytest.approx(decode)
    if step is None:
        assert found.step_time is None
    else:
        assert found.step_time.mean == pytest.approx(step, rel=1e-3)
    assert not found.is_window


def text(
    lengths, names=("vllm:request_prompt_tokens", "vllm:request_generation_tokens"), edges=EDGES
):
    """Let the library that engines use write the text of (engine, prompt, output) triples."""
    registry = CollectorRegistry()
    written = [
        Written(name, "x", ["model_name", "engine"], buckets=edges, registry=registry)
        for name in names
    ]
    for engine, *both in lengths:
        for histogram, length in zip(written, both, strict=True):
            histogram.labels("m", engine).observe(length)
    return generate_latest(registry)


def file(folder, content, name="metrics"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_the_engines_library_writes_is_read(tmp_path):
    requests = [("0", 40, 7), ("0", 300, 20), ("1", 1500, 90), ("1", 1700, 110)]
    found = read_metrics(file(tmp_path, text(requests)))
    assert found.requests == 4
    assert found.prompt_tokens.total == 3540
    assert found.prompt_tokens.counts[-1] == 0
    assert [name for name, *_ in found.engines] == ["engine 0", "engine 1"]
    assert [prompt.mean for _, prompt, _ in found.engines] == [170, 1600]
    packed = file(tmp_path, gzip.compress(text(requests)), "packed")
    assert read_metrics(packed) == found


def test_engines_with_other_buckets_are_summed_where_they_agree(tmp_path):
    new = text([("1", 300, 20)] * 5, edges=(10, 100, 250, 1000))
    both = text([("0", 300, 20)] * 5) + b"".join(
        line + b"\n" for line in new.splitlines() if not line.startswith(b"#")
    )
    found = read_metrics(file(tmp_path, both))
    assert found.prompt_tokens.edges == (10, 100, 1000)
    assert found.prompt_tokens.counts == (0, 0, 10, 0)


def test_two_snapshots_are_subtracted(tmp_path):
    early, late = [("0", 40, 7)] * 50, [("0", 40, 7)] * 50 + [("0", 4000, 90)] * 60
    before = file(tmp_path, text(early), "before")
    after = file(tmp_path, text(late), "after")
    found = read_metrics(before, after)
    assert found.requests == 60
    assert found.prompt_tokens.mean == 4000
    assert found.is_window
    assert read_metrics(after).prompt_tokens.mean == pytest.approx((40 * 50 + 4000 * 60) / 110)
    # A restart sets counters to 0, and an engine may come or go.
    again = read_metrics(after, before)
    assert again.requests == 50
    assert any("started again" in note for note in again.notes)
    other = read_metrics(before, file(tmp_path, text([("1", 5, 5)]), "other"))
    assert other.requests == 1
    assert any("was not in the last snapshot" in note for note in other.notes)
    assert any("is no more" in note for note in other.notes)
    with pytest.raises(InvalidInputError, match="no request has finished since the last snapshot"):
        read_metrics(after, after)


def api(content, kind="vector", drop=()):
    """Put a text snapshot into the form of Prometheus's HTTP API."""
    from prometheus_client.parser import text_string_to_metric_families

    result = []
    for family in text_string_to_metric_families(content.decode()):
        for sample in family.samples:
            metric = {k: v for k, v in sample.labels.items() if k not in drop}
            if "__name__" not in drop:
                metric["__name__"] = sample.name
            value = [1795883009.452, repr(float(sample.value))]
            found = {"value": value} if kind == "vector" else {"values": [[1.0, "0"], value]}
            result.append({"metric": metric, **found})
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


def test_the_http_api_says_what_the_text_says(tmp_path):
    content = text([("0", 40, 7)] * 20 + [("1", 900, 70)] * 30)
    plain = read_metrics(file(tmp_path, content))
    assert read_metrics(file(tmp_path, api(content), "vector")) == plain
    matrix = read_metrics(file(tmp_path, api(content, "matrix"), "matrix"))
    assert matrix.prompt_tokens == plain.prompt_tokens
    assert matrix.is_window


def test_results_without_names_are_named_by_the_user(tmp_path):
    for role in ("prompt", "generation"):
        lines = [
            line
            for line in text([("0", 300, 40)] * 50).splitlines()
            if f"{role}_tokens_bucket".encode() in line
        ]
        file(tmp_path, api(b"\n".join(lines) + b"\n", drop={"__name__"}), role)
    found = read_metrics(f"prompt={tmp_path / 'prompt'}", f"decode={tmp_path / 'generation'}")
    assert found.requests == 50
    assert found.prompt_tokens.mean is None
    assert observed_lengths(found).mean_prompt_tokens == pytest.approx(350, abs=1)
    with pytest.raises(InvalidInputError, match="say what they are with prompt=FILE"):
        read_metrics(tmp_path / "prompt")
    with pytest.raises(InvalidInputError, match="give both"):
        read_metrics(f"prompt={tmp_path / 'prompt'}")


def test_increases_over_many_times_are_no_counter(tmp_path):
    """Both would have the same shape: a query_range of increase() was read as a counter's gain."""
    edges = {"100": (9, 2, 4), "+Inf": (12, 9, 11)}
    result = [
        {"metric": {"le": le}, "values": [[60 * k, str(v)] for k, v in enumerate(values)]}
        for le, values in edges.items()
    ]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    with pytest.raises(InvalidInputError, match="query it at one time"):
        read_snapshot(file(tmp_path, json.dumps(answer)), "prompt")


def test_what_prometheus_warns_of_is_said(tmp_path):
    answer = json.loads(api(text([("0", 40, 7)] * 20)))
    answer |= {"warnings": ["a store failed"], "isPartial": True}
    notes = read_metrics(file(tmp_path, json.dumps(answer))).notes
    assert "Prometheus warns: a store failed." in notes
    assert "Prometheus warns: the answer is partial." in notes


def test_an_increase_of_prometheus():
    window = read_snapshot(SAMPLES / "prometheus-2.42-increase.json", "prompt")
    (values,) = window.series.values()
    assert window.is_window
    assert values["inf"] == pytest.approx(135.1315)  # fractional, as Prometheus extrapolates
    names = (f"{role}={SAMPLES / 'prometheus-2.42-increase.json'}" for role in ("prompt", "decode"))
    found = read_metrics(*names)
    assert found.requests == 135
    # A quarter lies beyond the last edge and nobody knows how far.
    with pytest.raises(InvalidInputError, match="25 % lie beyond the last bucket's edge 2000"):
        observed_lengths(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html></html>", "is HTML"),
        ("hello world again\n", "line 1: not a Prometheus sample"),
        ("a 1\n" * 200_001, "have at most 200,000 lines, got 200,001: keep those of prompts"),
        ('a 1\nb{c="' + '\\"' * 1_000_000 + '"} 1\n', "line 2: a sample has at most 65,536 char"),
        ("a 1\nb{c=\n", "line 2: not a Prometheus sample"),
        ("trtllm_requests_total 5\n", "its names begin with trtllm; known are those of vLLM"),
        ("vllm:num_requests_running 3\n", "among vLLM's metrics"),
        ('vllm:request_prompt_tokens_bucket{le="x"} 5\n', "no bound le"),
        ('vllm:request_prompt_tokens_bucket{le="1"} -5\n', "finite number >= 0"),
        ('vllm:request_prompt_tokens_bucket{le="1"} 1e400\n', "finite number >= 0"),
        ('{"status":"error","error":"bad query"}', "Prometheus refused: bad query"),
        ('{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}', "is no answer"),
        ('{"status":"success","data":{"resultType":"vector","result":[]}}', "found nothing"),
        ('{"status":"success","data":{"resultType":"vector","result":[5]}}', "is no answer"),
        ("[1, 2]", "is no answer"),
    ],
)
def test_bad_metrics_cost_one_line(content, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_metrics(file(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_servers_that_have_finished_nothing_say_so():
    with pytest.raises(InvalidInputError, match="no request has finished"):
        read_metrics(SAMPLES / "vllm-0.32.0-before.prom")


def test_a_sample_is_as_large_as_it_says():
    found = read_metrics(SAMPLES / "vllm-0.32.0-after-bench.prom")
    trace = observed_trace(found, "sample")
    assert trace.requests == 78
    assert trace.prompt_tokens.mean() == pytest.approx(found.prompt_tokens.mean, rel=0.02)
    few, many = (
        observed_load(read_metrics(SAMPLES / name))
        for name in ("vllm-0.32.0-after-bench.prom", "vllm_plain.prom")
    )
    assert few.relative_half_width > 0.1
    with pytest.raises(InsufficientDataError, match="only 1 request finished"):
        observed_load(read_metrics(SAMPLES / "vllm-0.32.0-during.prom"))
    assert many.method == "histograms of 1,000 requests"


def test_without_sums_the_interval_holds_what_the_buckets_allow(tmp_path):
    content = (SAMPLES / "vllm_plain.prom").read_text()
    exact = observed_load(read_metrics(SAMPLES / "vllm_plain.prom"))
    lines = [line + "\n" for line in content.splitlines() if "_sum" not in line]
    open_sum = observed_load(read_metrics(file(tmp_path, "".join(lines))))
    assert open_sum.low < exact.value < open_sum.high
    assert open_sum.relative_half_width > 2 * exact.relative_half_width


def test_one_series_twice_is_refused(tmp_path):
    content = (SAMPLES / "vllm_plain.prom").read_bytes()
    with pytest.raises(InvalidInputError, match="is there twice with the same labels"):
        read_metrics(file(tmp_path, content + content))


def test_the_interval_holds_the_load_of_the_requests(tmp_path):
    import numpy as np

    rng = np.random.default_rng(11)
    theta = 400 + (2 * 80**2 - 80) / 80 / 2 - 0.5  # geometric outputs of mean 80, prompts of 400
    inside = 0
    for at in range(40):
        prompts, outputs = rng.geometric(1 / 400, 120), rng.geometric(1 / 80, 120)
        lengths = [("0", int(p), int(d)) for p, d in zip(prompts, outputs, strict=True)]
        load = observed_load(read_metrics(file(tmp_path, text(lengths), f"m{at}")))
        inside += load.low <= theta <= load.high
    assert inside >= 36


def test_a_histogram_of_a_hundred_thousand_buckets_takes_no_minute():
    edges = tuple(float(k) for k in range(1, 100_001))
    histogram = Histogram(edges=edges, counts=(1.0,) * 100_000 + (0.0,), total=5.00005e9)
    began = time.process_time()
    law = law_of_histogram(histogram, 1, "prompt")
    assert law.mean == pytest.approx(50_000.5)
    assert time.process_time() - began < 10


class Server:
    """A Prometheus of two scrapes on the loopback."""

    def __init__(self, now, before):
        queries = self.queries = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["query"][0]
                queries.append(query)
                body = (before if " offset " in query else now).encode()
                self.send_response(400 if b'"error"' in body else 200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def test_a_server_that_never_ends_its_answer_is_left(monkeypatch):
    """A byte now and then is no silence of the socket, and would be read for ever."""
    monkeypatch.setattr("afdplan.files.measurements.prometheus_api.TIMEOUT", 0.3)
    ended = threading.Event()

    def drip(head):
        client, _ = head.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not ended.wait(0.05):
                client.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as head:
        threading.Thread(target=drip, args=(head,), daemon=True).start()
        url = f"http://127.0.0.1:{head.getsockname()[1]}"
        with pytest.raises(InvalidInputError, match=r"cannot reach .*: no whole answer in 0.6 s"):
            prometheus_increase(url, 60.0)
        ended.set()


EMPTY = '{"status":"success","data":{"resultType":"vector","result":[]}}'


def test_a_window_is_asked_of_prometheus():
    early, late = [("0", 40, 7)] * 50, [("0", 40, 7)] * 50 + [("0", 4000, 90)] * 60
    with Server(api(text(late)), api(text(early))) as server:
        gained = prometheus_increase(server.url + "/", 3600, 'job="decode"')
    assert gained.is_window
    (prompt,) = [v for (name, *_), v in gained.series.items() if "prompt" in name]
    assert prompt["count"] == 60
    assert 'job="decode"' in server.queries[0]
    assert server.queries[1].endswith("offset 3600s")
    with Server(api(text(late)), EMPTY) as server:
        assert prometheus_increase(server.url, 60).is_window
    with (
        Server(EMPTY, EMPTY) as server,
        pytest.raises(InvalidInputError, match="knows no histogram"),
    ):
        prometheus_increase(server.url, 60)
    refusal = '{"status":"error","error":"parse error"}'
    with Server(refusal, EMPTY) as server, pytest.raises(InvalidInputError, match="parse error"):
        prometheus_increase(server.url, 60)
    with Server("gateway", EMPTY) as server, pytest.raises(InvalidInputError, match="is no answer"):
        prometheus_increase(server.url, 60)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "prometheus:9090", "http://", "ftp://x", "http://["]
)
def test_addresses_that_are_no_server(url):
    with pytest.raises(InvalidInputError, match="must be such as http"):
        prometheus_increase(url, 60)


@pytest.mark.parametrize("place", ["x y", "127.0.0.1:abc", "127.0.0.1:99999999", "a..b", "\x00"])
def test_places_that_cannot_be(place):
    with pytest.raises(InvalidInputError, match="cannot reach Prometheus at http://"):
        prometheus_increase(f"http://{place}", 60)


def test_a_server_that_is_away():
    with pytest.raises(InvalidInputError, match=r"cannot reach Prometheus at http://127.0.0.1:9"):
        prometheus_increase("http://user:secret@127.0.0.1:9", 60)


def test_two_models_and_missing_sums_are_said(tmp_path):
    both = read_metrics(SAMPLES / "vllm_lora_models.prom")
    assert any("models are added" in note for note in both.notes)
    plain = (SAMPLES / "vllm_plain.prom").read_text()
    assert not read_metrics(SAMPLES / "vllm_plain.prom").notes
    kept = [line for line in plain.splitlines() if "_sum" not in line.partition("{")[0]]
    found = read_metrics(file(tmp_path, "\n".join(kept).encode() + b"\n", "nosum"))
    assert any("Without the sums" in note for note in found.notes)
