"""Does a crew finish whatever happens to its processes? Nothing here may wait for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import wait
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
    return wait(crew._busy, 0)


def test_a_process_killed_in_the_middle_of_its_answer_costs_its_task_only():
    """With one queue for all, the others waited for its lock, and we for the rest of its answer."""
    with Crew(many_bytes, 2) as crew:
        crew.submit(1)
        wait_for(lambda: ready(crew))
        next(iter(crew._processes.values())).kill()
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
        wait_for(lambda: crew._processes[crew._idle[0]].poll() is not None)
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
        assert len(crew._processes) == 1


def test_one_process_keeps_what_it_prepared_and_no_more_start_than_tasks():
    with Crew(Counting(), 3) as crew:
        crew.submit(0)
        assert [done.result for done in crew.collect(20)] == [1]
        crew.submit(0)
        assert [done.result for done in crew.collect(20)] == [2]
        assert len(crew._processes) == 1


def test_no_answer_in_time_is_none():
    with Crew(time.sleep, 1) as crew:
        crew.submit(60)
        assert crew.collect(0.01) == []
        assert crew.in_flight == 1
        [process] = crew._processes.values()
    assert process.poll() == -signal.SIGKILL
    assert crew.in_flight == 0


def test_where_no_process_can_be_started_one_line_says_so(monkeypatch):
    def refused(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
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
    print(*(process.pid for process in crew._processes.values()), flush=True)
    if sys.argv[1:]:
        os.fork()  # the copy has all the pipes
    time.sleep(60)
"""


@pytest.mark.parametrize("copies", [[], ["fork"]])
def test_no_process_outlives_a_parent_that_is_killed(tmp_path, copies):
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    command = [sys.executable, script, *copies]
    with started(command, stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        assert len(workers) == 2
        wait_for(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


UNGUARDED = """
from afdplan.processes import Crew
with Crew(len, 2) as crew:
    crew.submit(b"x" * 3_000_000)  # more than a pipe holds: it is read, or the process died
    print(crew.collect(20)[0].result)
"""


@pytest.mark.parametrize("given", ["", "<"])
@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", "2>&- 3>&-"])
def test_a_script_without_a_guard_or_a_file_has_processes_that_work(tmp_path, given, closed):
    """Run again in every process, it started processes that started processes, for ever."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    how = f"{sys.executable} {given} {script} {closed}"
    done = subprocess.run(how, shell=True, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if closed == ">&-" else "3000000\n")


def test_what_a_task_prints_is_not_in_the_answer_of_the_parent(capfd):
    with Crew(print, 1) as crew:
        crew.submit("hello")
        assert crew.collect(20) == [Done("hello", None)]
    assert capfd.readouterr() == ("", "hello\n")


class TwoWordsError(Exception):
    """Does not come back from a pickle: it is made of two words and keeps one."""

    def __init__(self, one, two):
        super().__init__(one + two)


def two_words(task):
    raise TwoWordsError("of ", f"task {task}")


def held(task):
    error = ValueError(f"of task {task}")
    error.lock = threading.Lock()
    raise error


def locked(_):
    return threading.Lock()


@pytest.mark.parametrize("compute", [two_words, held, locked])
def test_what_cannot_be_sent_is_told_and_the_process_goes_on(compute):
    with Crew(compute, 1) as crew:
        for task in (1, 2):
            crew.submit(task)
            with pytest.raises((RuntimeError, TypeError), match=f"of task {task}|pickle") as told:
                crew.collect(20)
            assert "Traceback" in told.value.__notes__[0]
        assert len(crew._processes) == 1
        assert crew.in_flight == 0


def test_a_task_that_cannot_be_sent_is_refused_and_the_crew_goes_on():
    with Crew(abs, 1) as crew:
        with pytest.raises(TypeError, match="pickle"):
            crew.submit(threading.Lock())
        crew.submit(-1)
        assert crew.collect(20) == [Done(-1, 1)]


def one_over(task):
    return 1 / task


def test_what_others_computed_is_returned_before_what_one_raised():
    with Crew(one_over, 3) as crew:
        for task in (1, 0, 2):
            crew.submit(task)
        wait_for(lambda: len(ready(crew)) == 3)
        assert {done.result for done in crew.collect(20)} == {1, 0.5}
        assert crew.in_flight == 1
        with pytest.raises(ZeroDivisionError):
            crew.collect(20)
        assert crew.in_flight == 0


def test_processes_that_cannot_begin_are_not_started_for_ever(monkeypatch):
    monkeypatch.setattr("afdplan.processes._PROGRAM", "raise SystemExit")
    with Crew(len, 1) as crew, pytest.raises(AfdplanError, match="cannot be started"):
        crew.submit(b"x" * 3_000_000)
    assert not crew._processes


def test_threads_that_start_processes_at_once_leave_the_surroundings_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def start():
        with Crew(surroundings, 1) as crew:
            crew.submit(0)
            found.extend(crew.collect(20))

    found: list[Done] = []
    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [done.result[0] for done in found] == [THREAD_LIMITS] * 4
    assert os.environ["OMP_NUM_THREADS"] == "7"
