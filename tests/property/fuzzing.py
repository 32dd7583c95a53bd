"""Seeded calls of every command and reader that nobody means: each is answered or plainly refused.

``python -m tests.property.fuzzing --cases 10000 --first 0`` tries as many and prints what broke;
the same seed is the same case.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from tests.cli.invoke import Outcome, invoke

SAMPLES = Path(__file__).parents[1] / "samples"
MODEL = Path(__file__).parents[2] / "src/afdplan/data/latency/deepseek-v3-ascend-910c.toml"
LENGTHS = ("--prompt", "geometric:20", "--decode", "geometric:30")
LATENCY = ("--latency", "deepseek-v3-ascend-910c")
SIZE = ("--batch-size", "8")
SMALL = ("--attention-workers", "2", "--requests", "60")
DERIVED = ("--model", "deepseek-v2-lite", "--hardware", "h200")
TABLE = "stage,load,requests,latency_us\n" + "".join(
    f"attention,{load},4,{50 + load / 100}\nffn,{load},,{20 + load / 50}\n"
    f"transfer,{load},,{3 + load / 400}\n"
    for load in (100, 200, 400, 800)
)
STUDY = """name = "two"
compute = "ratio"
[fixed]
prompt = "geometric:20"
decode = "geometric:30"
latency = "deepseek-v3-ascend-910c"
[grid]
batch_size = [8, 16]
"""
WORDS = """0 -1 1 2 3 7 0.5 -0.0 1e-320 1e-90 1e90 1e308 1e400 -1e308 nan inf -inf abc 0x10 1_000
1e 1,2 1..3 3..1 1e-5000 2s 50ms 1h -5ms 99% 4/s 1e9/h auto none all ١٢"""
NUMBERS = (*WORDS.split(), "", " ", "9" * 40, "\udcff", "\0x", "[/b]", "a" * 5000)
PIECES = (
    b"", b"\0", b"{", b"]", b'"', b"nan", b"-1", b"0", b"1e999", b"\xff", b",", b"[" * 300, b"\n",
    b"true", b"null", b"9" * 30, b'"\\ud800"', b"\xef\xbb\xbf", b"1e308", b"-", b"e", b".", b"[]",
)  # fmt: skip
# What is asked about, before it is spoiled.
BASES: dict[str, tuple[str, ...]] = {
    "workload": LENGTHS,
    "ratio": (*LENGTHS, *LATENCY, *SIZE, "--max-attention-workers", "8"),
    "simulate": (*LENGTHS, *LATENCY, *SIZE, *SMALL),
    "plan": (*LENGTHS, *DERIVED, "--devices", "8", "--tpot", "50ms", "--batch-sizes", "8,16"),
    "calibrate": ("{table}",),
    "compare": ("{plan}", "{plan}"),
    "deploy": ("{plan}", "--target", "vllm-afd-plugin", "-o", "{out}"),
    "check": ("{plan}", "--trace", "{trace}"),
    "sweep": ("{study}", "--dry-run"),
    "validate": ("paper", "--jobs", "1"),
    "models": ("deepseek-v2-lite",),
    "hardware": ("h200",),
    "config": (),
    "doctor": (),
}
SLOW = {"--prometheus", "--verify", "--method", "--engine", "--address", "--jobs", "--requests"}
SLOW |= {"--resume", "--replications", "--precision", "--p99-precision", "--requests-per-worker"}
SLOW |= {"--around", "--report", "--plot", "--horizon", "--help"}  # drawn rarely
RARE = {"validate", "doctor", "config", "models", "hardware"}
"""Commands of seconds, or with little to ask: few of their cases are tried."""
LONGEST = 60.0


class Room:
    """A folder with a file of every kind, and a place for what commands write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "out").mkdir()
        trace = "prompt_tokens,decode_tokens,arrival\n" + "".join(
            f"{100 + k * 37 % 90},{1 + k * k % 30},{k / 4}\n" for k in range(120)
        )
        self.files = {
            "trace": self.put("trace.csv", trace.encode()),
            "table": self.put("table.csv", TABLE.encode()),
            "study": self.put("study.toml", STUDY.encode()),
            "model": self.put("model.toml", MODEL.read_bytes()),
            "plan": folder / "plan.json",
        }
        made = invoke("plan", *BASES["plan"], "-o", self.files["plan"])
        assert made.code == 0, made
        names = ("vllm_metrics.prom", "fastafd_steps.jsonl", "sglang_decode.log")
        for name in (*names, "stepmesh_traces.jsonl", "torch_attention.json.gz"):
            self.files[name] = self.put(name, (SAMPLES / name).read_bytes()[:4000])
        self.kinds = sorted(self.files)
        self.kept = {path.name for path in folder.iterdir()}

    def put(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def damaged(self, chance: random.Random, kind: str | None = None) -> Path:
        """A file of some kind with up to three pieces cut, replaced, doubled or moved."""
        source = self.files[kind or chance.choice(self.kinds)]
        content = source.read_bytes()
        for _ in range(chance.choice([1, 1, 2, 3])):
            at = chance.randrange(len(content) + 1)
            end = min(at + chance.choice([0, 1, 3, 20, 200]), len(content))
            what = chance.randrange(6)
            if what == 0:
                content = content[:at]
            elif what == 1:
                content = content[:end] + content[at:]
            elif what == 2:  # a whole line elsewhere
                lines = content.split(b"\n")
                chance.shuffle(lines)
                content = b"\n".join(lines)
            elif what == 3:  # one number for another
                numbers = [k for k, byte in enumerate(content) if 48 <= byte < 58]
                if numbers:
                    k = chance.choice(numbers)
                    content = content[:k] + chance.choice(PIECES) + content[k + 1 :]
            else:
                content = content[:at] + chance.choice(PIECES) + content[end:]
        return self.put(f"damaged{source.suffix}", content)

    def path(self, chance: random.Random) -> str:
        """A path that an option may be given, of whatever is or is not there."""
        kind = chance.randrange(8)
        if kind == 0:
            return str(self.folder / "missing" / "x.json")
        if kind == 1:
            return str(self.folder)
        if kind == 2:
            return str(self.folder / "out" / chance.choice(["a.csv", "b.json", "c", "d.png"]))
        if kind < 5:
            return str(self.damaged(chance))
        return str(self.files[chance.choice(self.kinds)])

    def clean(self) -> list[str]:
        """Names of files that nobody asked for; all that was written goes."""
        for path in (self.folder / "out").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        found = {path.name for path in self.folder.iterdir()} - self.kept
        left = sorted(name for name in found - {"out"} if not name.startswith("damaged"))
        for name in left:
            (self.folder / name).unlink()
        return left


def options_of(command: str) -> list[click.Option]:
    """Return the options of a command."""
    from afdplan.cli.group import cli

    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    return [one for one in found.params if isinstance(one, click.Option)]


def value_of(option: click.Option, chance: random.Random, room: Room) -> list[str]:
    """Return an option with a value of its kind, or of another."""
    name = option.opts[0]
    if option.is_flag:
        return [name]
    words = list(getattr(option.type, "choices", ()))
    if words and chance.random() < 0.8:
        return [name, str(chance.choice(words))]
    writes = name in ("-o", "--to-table", "--to-trace", "--timeline", "--per-request", "--per-step")
    if name in ("--plot", "--report", "--markdown", "--summary", "--state") or writes:
        return [name, str(room.folder / "out" / chance.choice(["a.csv", "b.json", "c.png", "d"]))]
    if type(option.type).__name__ in ("Completed", "Path") and chance.random() < 0.8:
        return [name, room.path(chance)]
    if chance.random() < 0.3:  # a number that may well be meant
        return [name, f"{math.exp(chance.uniform(-6, 8)):.{chance.choice([0, 2])}f}"]
    return [name, chance.choice(NUMBERS)]


def case(seed: int, room: Room) -> list[str]:
    """Return the call of a seed: a sound one with a file, an option or two spoiled."""
    chance = random.Random(seed)
    command = chance.choice(sorted(BASES))
    if command in RARE and seed % (500 if command == "validate" else 10):
        command = chance.choice(["plan", "ratio", "workload", "calibrate", "check"])
    files = {name: str(path) for name, path in room.files.items()}
    files["out"] = str(room.folder / "out" / "deployment")
    spoiled = [kind for kind in room.files if "{" + kind + "}" in BASES[command]]
    if spoiled and chance.random() < 0.7:
        kind = chance.choice(spoiled)
        files[kind] = str(room.damaged(chance, kind))
    given = [part.format(**files) if part.startswith("{") else part for part in BASES[command]]
    if command in ("workload", "ratio", "simulate") and chance.random() < 0.4:
        known = chance.choice([room.damaged(chance, "trace"), room.path(chance)])
        given = ["--trace", str(known), *given[len(LENGTHS) :]]
    if command == "calibrate" and chance.random() < 0.5:
        given = [str(room.damaged(chance)), "--load", "1000", "--role", "attention"]
    options = [one for one in options_of(command) if one.opts[0] not in SLOW or seed % 10 == 0]
    # A sound call is dear and always the same: something is spoiled in each.
    most = chance.choice([0, 1, 1, 2, 3] if "damaged" in str(given) else [1, 1, 2, 3])
    for option in chance.sample(options, min(most, len(options))):
        if option.opts[0] not in ("--prometheus", "--address", "--profile", "--help"):
            given += value_of(option, chance, room)
    if chance.random() < 0.1 and given and command not in ("validate", "sweep"):
        k = chance.randrange(len(given))
        del given[k : k + 1 + (given[k].startswith("--") and chance.random() < 0.5)]
    if "--json" not in given and chance.random() < 0.7:
        given.insert(0, "--json")  # at the end it could be the value of an option
    return [command, *given]


def complaint(outcome: Outcome, given: list[str], seconds: float, left: list[str]) -> str | None:
    """Return what is wrong with an outcome, None if nothing is."""
    if outcome.code not in (0, 1, 2, 3, 4, 5):
        return f"exit code {outcome.code}"
    lines = outcome.err.strip().splitlines()
    if "Traceback" in outcome.err or len(lines) > (4 if outcome.code == 2 else 12):
        return f"{len(lines)} lines of error: {outcome.err[:300]!r}"
    if outcome.code in (1, 2, 3) and not lines and not outcome.out:
        return "failed without a word"
    if outcome.code == 0 and not outcome.out and not lines:
        return "succeeded without a word"
    if given[1:2] == ["--json"] and outcome.out.strip():
        try:
            json.loads(outcome.out, parse_constant=_no_number)
        except ValueError as error:
            return f"not strict JSON: {error}: {outcome.out[:200]!r}"
    if seconds > LONGEST:
        return f"took {seconds:.0f} s"
    return f"left {left}" if left else None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} in JSON")


def tried(seed: int, room: Room) -> str | None:
    """Play the case of a seed; return what is wrong with it."""
    given = case(seed, room)
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # an overflow is no answer
            outcome = invoke(*given)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        room.clean()
        return f"{type(error).__name__} {error} at {Path(place.filename).name}:{place.lineno}"
    return complaint(outcome, given, time.process_time() - began, room.clean())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder))
        for seed in range(asked.first, asked.first + asked.cases):
            wrong = tried(seed, room)
            if wrong is not None:
                broken += 1
                print(f"{seed}: {wrong}\n    {case(seed, room)}"[:900], flush=True)
            if (seed + 1 - asked.first) % 1000 == 0:
                print(f"{seed + 1 - asked.first} cases, {broken} broken", flush=True)
    print(f"{asked.cases} cases from {asked.first}, {broken} outside the oracles")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
