"""Does a crew finish whatever happens to its processes? Nothing here may wait for ever."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afdplan.errors import AfdplanError
from afdplan.processes import THREAD_LIMITS, Crew, Done
from tests.running import started


def many_bytes(task):
    """More than a pipe holds: who writes it waits until it is read."""
    return b"x" * (4_000_000 + task)


def surroundings(_):
    threads = {name: os.environ.get(name) for name in THREAD_LIMITS}
    return threads, os.getpid(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def refuse(task):
    raise ZeroDivisionError(f"of task {task}")


class Counting:
    """Counts the tasks of its own process."""

    def __init__(self):
        self.tasks = 0

    def __call__(self, _):
        self.tasks += 1
        return self.tasks


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ready(crew):
    return multiprocessing.connection.wait(crew._busy, 0)


def test_a_process_killed_in_the_middle_of_its_answer_costs_its_task_only():
    """With one queue for all, the others waited for its lock, and we for the rest of its answer."""
    with Crew(many_bytes, 2) as crew:
        crew.submit(1)
        wait_for(lambda: ready(crew))
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        crew.submit(2)
        done = crew.collect(20)
        while len(done) < 2:
            done += crew.collect(20)
        assert done == [Done(1, None), Done(2, many_bytes(2))]
        crew.submit(3)
        assert crew.collect(20) == [Done(3, many_bytes(3))]
        assert crew.in_flight == 0


def test_a_process_that_dies_while_it_is_idle_is_replaced():
    with Crew(surroundings, 1) as crew:
        crew.submit(0)
        [first] = crew.collect(20)
        os.kill(first.result[1], signal.SIGKILL)
        wait_for(lambda: not multiprocessing.active_children())
        crew.submit(1)
        [second] = crew.collect(20)
        assert second.result[1] != first.result[1]


def test_processes_have_one_thread_and_no_interrupt_and_this_one_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with Crew(surroundings, 1) as crew:
        crew.submit(0)
        [done] = crew.collect(20)
    assert (done.result[0], done.result[2]) == (THREAD_LIMITS, True)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_a_task_raises_is_raised_here_and_the_process_goes_on():
    with Crew(refuse, 1) as crew:
        for task in (1, 2):
            crew.submit(task)
            with pytest.raises(ZeroDivisionError, match=f"of task {task}") as told:
                crew.collect(20)
            assert "in refuse" in told.value.__notes__[0]
        assert len(multiprocessing.active_children()) == 1


def test_one_process_keeps_what_it_prepared_and_no_more_start_than_tasks():
    with Crew(Counting(), 3) as crew:
        crew.submit(0)
        assert [done.result for done in crew.collect(20)] == [1]
        crew.submit(0)
        assert [done.result for done in crew.collect(20)] == [2]
        assert len(multiprocessing.active_children()) == 1


def test_no_answer_in_time_is_none():
    with Crew(time.sleep, 1) as crew:
        crew.submit(60)
        assert crew.collect(0.01) == []
        assert crew.in_flight == 1
    assert not multiprocessing.active_children()
    assert crew.in_flight == 0


def test_where_no_process_can_be_started_one_line_says_so(monkeypatch):
    def refused(_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", refused)
    with Crew(abs, 2) as crew, pytest.raises(AfdplanError, match="cannot be started") as told:
        crew.submit(1)
    assert "(resource temporarily unavailable)" in str(told.value)
    assert "\n" not in str(told.value)


ORPHANS = """
import os, sys, time
from afdplan.processes import Crew
if __name__ == "__main__":
    crew = Crew(time.sleep, 2)
    crew.submit(60)
    crew.submit(60)
    import multiprocessing
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_no_process_outlives_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    with started([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        parent.wait(timeout=20)
        assert len(workers) == 2
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
