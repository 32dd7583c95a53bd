from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.studies.case_runner import DIED
from afdplan.studies.definition import load_study
from afdplan.studies.engine import Outcome, SerialEngine
from afdplan.studies.local_engine import LocalEngine
from afdplan.studies.ray_engine import RayEngine, _quiet, check_address
from afdplan.studies.run import new_results, resume_results, run_study
from tests.unit.studies.declare import FAST, write


def table(study, engine, folder, **options):
    """Run a study and return its rows in order."""
    results = new_results(study, str(folder), {})
    try:
        run_study(study, engine, results, **options)
        return results.scan().collect().sort("case")
    finally:
        engine.close()
        results.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study(write(tmp_path_factory.mktemp("study"), FAST))


@pytest.fixture(scope="module")
def rows(study, tmp_path_factory):
    return table(study, LocalEngine(study, 1), tmp_path_factory.mktemp("one") / "r")


def test_two_workers_give_the_rows_of_one(study, rows, tmp_path):
    assert rows.height == study.cases
    assert rows["case"].to_list() == list(range(study.cases))
    assert rows["status"].unique().to_list() == ["done"]
    assert table(study, LocalEngine(study, 2), tmp_path / "r").equals(rows)


def test_the_readable_twin_agrees(study, rows, tmp_path):
    twin = table(study, SerialEngine(study), tmp_path / "r")
    texts = ["case", "case_hash", "status", "decode", "optimal_attention_workers", "bottleneck"]
    assert twin.select(texts).equals(rows.select(texts))
    # This process may have more threads than a worker: sums then differ by rounding.
    assert twin["objective"].to_list() == pytest.approx(rows["objective"].to_list(), rel=1e-12)


def test_a_killed_worker_loses_and_doubles_nothing(study, rows, tmp_path):
    victims = []

    engine = LocalEngine(study, 2)

    def kill_one(_tally):
        if not victims:
            victims.append(next(iter(engine._crew._processes.values())))
            victims[0].kill()

    found = table(study, engine, tmp_path / "r", report=kill_one, part_seconds=0)
    assert victims
    assert found.equals(rows)


class DeadlyEngine(SerialEngine):
    """An engine whose worker dies at some cases, and takes what is in flight with it."""

    workers = 3

    def __init__(self, study, deadly):
        super().__init__(study)
        self.deadly = deadly
        self.deaths = 0

    def collect(self, timeout):
        chunk = self._waiting.pop(0)
        if not set(chunk) & self.deadly:
            return [Outcome(chunk=chunk, rows=self._runner.packed_rows(chunk), seconds=1e-9)]
        lost = [chunk, *self._waiting]
        self._waiting.clear()
        self.deaths += 1
        return [Outcome(chunk=one, rows=None) for one in lost]


def test_cases_that_kill_are_found_and_the_others_are_done(study, tmp_path):
    engine = DeadlyEngine(study, {2, 7})
    found = table(study, engine, tmp_path / "r", seconds_per_case=1e-6)
    assert found["case"].to_list() == list(range(study.cases))
    failed = found.filter(found["status"] == "failed")
    assert failed["case"].to_list() == [2, 7]
    assert failed["reason"].unique().to_list() == [DIED]
    assert failed["case_hash"].null_count() == 0
    assert engine.deaths < 20


def test_resume_tries_failed_cases_again_and_refused_ones_not(tmp_path):
    text = FAST.replace('"mean-field"', '"exact"\nphase = "aligned"')  # refused: lengths vary
    study = load_study(write(tmp_path, text.replace('"geometric:20"', '"20"')))
    first = table(study, DeadlyEngine(study, {11}), tmp_path / "r")
    refused = first.filter(first["status"] == "refused")
    assert refused["case"].to_list() == [0, 1, 2, 3, 4, 5]
    assert "phase aligned needs requests of one" in refused["reason"][0]
    results, done, tally = resume_results(study, str(tmp_path / "r"))
    assert (len(done), tally.refused, tally.failed) == (11, 6, 0)
    engine = SerialEngine(study)
    tally = run_study(study, engine, results, done=done, tally=tally)
    assert (tally.finished, tally.refused, tally.failed) == (12, 6, 0)
    again = results.scan().collect().sort("case")
    assert again["status"].to_list() == ["refused"] * 6 + ["done"] * 6
    results.close()


def test_a_case_with_a_bug_does_not_end_the_others(study, tmp_path, monkeypatch):
    engine = SerialEngine(study)
    compute = engine._runner._kind.compute

    def broken(case):
        if case.values["batch_size"] == 32:
            raise ZeroDivisionError("float division\nby zero")
        return compute(case)

    class Kind:
        name = "ratio"

        def __init__(self):
            self.compute = broken

    monkeypatch.setattr(engine._runner, "_kind", Kind())
    found = table(study, engine, tmp_path / "r")
    failed = found.filter(found["status"] == "failed")
    assert failed["batch_size"].unique().to_list() == [32]
    assert failed["reason"][0] == "ZeroDivisionError: float division by zero"
    assert found.height == study.cases


def ray_workers():
    """Processes of Ray tasks on this machine, by the name that Ray gives them."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::compute_on_ray"):
            found.append(int(process.parent.name))
    return found


def test_ray_gives_the_rows_of_one_process_even_if_a_worker_is_killed(
    study, rows, tmp_path, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    victims = []

    def kill_one(_tally):
        for pid in ray_workers():
            if not victims:
                victims.append(pid)
                os.kill(pid, signal.SIGKILL)

    assert table(study, RayEngine(study, 2), tmp_path / "a").equals(rows)
    found = table(study, RayEngine(study, 2), tmp_path / "b", report=kill_one)
    assert found.equals(rows)
    assert victims


def test_ray_is_an_optional_extra(study, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'afdplan\[ray\]'"):
        RayEngine(study)


@pytest.mark.parametrize("address", ["", "somewhere", "host:", "host:99999", ":6379"])
def test_addresses_that_are_none(address):
    with pytest.raises(InvalidInputError, match="must be auto, HOST:PORT"):
        check_address(address)


def test_an_address_where_nobody_listens():
    with pytest.raises(InvalidInputError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        check_address("127.0.0.1:9")


def test_an_address_that_never_answers(monkeypatch):
    def silent(*_args, timeout):
        assert timeout == 0.5
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", silent)
    with pytest.raises(InvalidInputError, match=r"within 0\.5 s"):
        check_address("ray://10.0.0.1:10001", 0.5)


def test_bad_workers(study):
    with pytest.raises(InvalidInputError, match="workers must be an integer >= 1"):
        LocalEngine(study, 0)


def test_what_ray_tells_about_every_try_is_not_shown(capfd):
    with _quiet():
        os.write(2, b"gcs_client.cc: Failed to get cluster ID\n")
    os.write(2, b"afdplan: one line\n")
    assert capfd.readouterr().err == "afdplan: one line\n"
