"""Does a test that fails leave no process behind, and wait for none?"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import started, written_to

TESTS = Path(__file__).parents[1]
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:  # holds the pipe, too
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_block_that_fails_ends_its_process_and_what_that_started():
    began = time.monotonic()
    pids = []

    def block():
        with started([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as run:
            pids.extend([run.pid, int(run.stdout.readline())])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    while any(map(is_alive, pids)):
        assert time.monotonic() - began < 10
    assert len(set(pids)) == 2


def test_a_writer_that_nobody_reads_is_let_go(tmp_path):
    with written_to(tmp_path / "pipe", b"x" * 1_000_000):
        pass
    with written_to(tmp_path / "other", b"word"):
        assert (tmp_path / "other").read_bytes() == b"word"
    assert os.path.lexists(tmp_path / "pipe")


def test_processes_of_tests_are_started_in_one_place():
    others = {"running.py", "test_running.py"}
    for path in TESTS.rglob("*.py"):
        if path.name not in others:
            assert "Popen(" not in path.read_text(encoding="utf-8"), path
            assert "mkfifo" not in path.read_text(encoding="utf-8"), path
