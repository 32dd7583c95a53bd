"""Does every command work for a user without a name, a home, or a place to write anything?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import afdplan
from tests.plans import written_plan
from tests.property.fuzzing import LENGTHS, STUDY, TABLE

SOURCE = Path(afdplan.__file__).parent
# All that could be written is mounted anew, read-only; then the user is one without an entry.
BOX = """
for folder in /tmp /var/tmp /dev/shm "$1"; do
    [ ! -d "$folder" ] || { mount --bind "$folder" "$folder" &&
        mount -o remount,bind,ro "$folder"; } || exit 99
done
cd "$1" && shift && exec unshare --user --map-user=12345 env -i "$@"
"""
# Every command in one process: what each wrote on standard error, and its code.
SCRIPT = """
import contextlib, io, json, os, sys
from afdplan.cli import main
told = {"user": os.getuid(), "home": os.environ.get("HOME")}
try:
    open("here", "w")
except OSError:
    told["sealed"] = True
for name, words in json.load(open("calls.json")).items():
    sys.argv = ["afdplan", *words]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code or 0
    told[name] = [code, bool(out.getvalue()), err.getvalue()]
print(json.dumps(told))
"""
LATENCY = ("--latency", "deepseek-v3-ascend-910c", "--batch-size", "4")
CALLS = {
    "workload": ("workload", "trace.csv"),
    "ratio": ("ratio", *LENGTHS, *LATENCY, "--max-attention-workers", "4"),
    "simulate": ("simulate", *LENGTHS, *LATENCY, "--attention-workers", "2", "--requests", "8"),
    "plan": ("plan", *LENGTHS, "--model", "deepseek-v2-lite", "--hardware", "h200", "--devices",
             "8", "--tpot", "50ms", "--batch-sizes", "8"),
    "calibrate": ("calibrate", "table.csv"),
    "compare": ("compare", "plan.json", "plan.json"),
    "check": ("check", "plan.json", "--trace", "trace.csv"),
    "sweep": ("sweep", "study.toml", "--dry-run"),
    "models": ("models", "deepseek-v3"),
    "hardware": ("hardware",),
    "config": ("config",),
    "doctor": ("doctor",),
    "validate": ("validate", "published", "--jobs", "2"),
    "deploy": ("deploy", "plan.json", "--target", "vllm-afd-plugin", "-o", "out"),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What every command said in the box."""
    folder = tmp_path_factory.mktemp("box")
    shutil.copytree(SOURCE, folder / "lib/afdplan", ignore=shutil.ignore_patterns("__pycache__"))
    written_plan(folder)
    (folder / "trace.csv").write_text(
        "prompt_tokens,decode_tokens\n"
        + "".join(f"{k % 40 + 1},{k % 30 + 1}\n" for k in range(200))
    )
    (folder / "table.csv").write_text(TABLE)
    (folder / "study.toml").write_text(STUDY)
    (folder / "calls.json").write_text(json.dumps(CALLS))
    surroundings = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder / "lib"),
        "NUMBA_CACHE_DIR": "/nowhere",
    }
    # Parents of the folder may be closed to others.
    for parent in (folder, *folder.parents):
        if parent.owner() == Path.home().owner() and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    box = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", BOX, "sh", str(folder))
    try:
        done = subprocess.run(
            [*box, *(f"{name}={value}" for name, value in surroundings.items()),
             sys.executable, "-c", SCRIPT],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no user of its own is permitted here: {done.stderr.strip()[:80]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_box_is_one(told):
    assert (told["user"], told["home"], told["sealed"]) == (12345, None, True)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "deploy"])
def test_every_command_works(told, name):
    code, answered, err = told[name]
    assert code == 0, err
    assert answered
    assert err.count("\n") <= 2
    assert "Traceback" not in err


def test_what_must_be_written_is_refused_in_one_line(told):
    code, _, err = told["deploy"]
    assert code == 1
    assert err.count("\n") == 1
    assert "out" in err
