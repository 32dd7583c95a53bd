"""How are chunks computed by the Ray cluster that a serving team already has?"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from afdplan.errors import InvalidInputError, UnsupportedError, reason
from afdplan.model.checks import check_count
from afdplan.processes import THREAD_LIMITS
from afdplan.studies.engine import Outcome
from afdplan.version import __version__

if TYPE_CHECKING:
    from afdplan.studies.study import Study

__all__ = ["RayEngine", "check_address", "compute_on_ray"]

CONNECT_SECONDS = 10.0
JOIN_SECONDS = 30.0
START_SECONDS = 60.0
_WORKER: dict[str, Any] = {}


def check_address(address: str, seconds: float = CONNECT_SECONDS) -> None:
    """Raise unless something answers at the address of a cluster.

    Parameters
    ----------
    address
        ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
    seconds
        How long to wait for a connection [s].

    Raises
    ------
    InvalidInputError
        If the address has no port, or nothing answers there in time.
    """
    if address in ("auto", "local"):
        return
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInputError(
            f"address must be auto, HOST:PORT or ray://HOST:PORT, got {address!r:.80}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except TimeoutError:
        raise InvalidInputError(
            f"no Ray cluster answers at {address} within {seconds:g} s: check the address"
        ) from None
    except OSError as error:
        raise InvalidInputError(
            f"no Ray cluster answers at {address} ({reason(error)}): check the address, or "
            "start one with ray start --head"
        ) from None


def compute_on_ray(
    digest: str, version: str, packed: list[Any], chunk: tuple[int, ...]
) -> tuple[Any, float]:
    """Return the packed rows of some cases and their seconds; runs on the cluster.

    Parameters
    ----------
    digest
        Of the study: a worker unpacks each study once.
    version
        Of the afdplan that asks.
    packed
        One reference to the packed study, fetched only if the worker does not have it.
    chunk
        Case numbers.
    """
    import time

    if version != __version__:
        return f"a worker of the cluster has afdplan {__version__}, this is {version}", 0.0
    if digest not in _WORKER:
        import ray

        from afdplan.studies.case_runner import CaseRunner

        _WORKER.clear()
        _WORKER[digest] = CaseRunner(pickle.loads(ray.get(packed[0])))
    start = time.perf_counter()
    rows = _WORKER[digest].packed_rows(chunk)
    return rows, time.perf_counter() - start


class RayEngine:
    """Tasks of one core each on a Ray cluster; without an address a cluster on this machine.

    Parameters
    ----------
    study
        Stored once in the cluster.
    workers
        Chunks computed at the same time; by default the cores of the cluster.
    address
        ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``, or None to start a cluster here.

    Raises
    ------
    UnsupportedError
        If Ray is not installed.
    InvalidInputError
        If the cluster does not answer.
    """

    name = "ray"

    def __init__(
        self, study: Study, workers: int | None = None, address: str | None = None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UnsupportedError(
                "engine ray needs Ray, which is not installed: pip install 'afdplan[ray]'"
            )
        if workers is not None:
            check_count("workers", workers, 1, 100_000)
        if address is not None:
            check_address(address)
        # Its own processes would tell their failures on our standard error, many lines each.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray

        self._ray = ray
        options: dict[str, Any] = {
            "logging_level": "ERROR",
            "log_to_driver": False,
            "include_dashboard": False,
        }
        if address is None:
            options["num_cpus"] = workers
        else:
            options = {"address": address, **options}
            del options["include_dashboard"]
        self._release = threading.Event()
        with _quiet():
            _in_time(lambda: ray.init(**options), address, self._release)
        cores = int(ray.cluster_resources().get("CPU", 1))
        self.workers = cores if workers is None else workers
        # A worker that dies is reported, not retried: the run finds out which case kills it.
        self._task = ray.remote(
            num_cpus=1, max_retries=0, runtime_env={"env_vars": dict(THREAD_LIMITS)}
        )(compute_on_ray)
        self._packed = [ray.put(pickle.dumps(study, protocol=pickle.HIGHEST_PROTOCOL))]
        self._digest = study.digest
        self._flights: dict[Any, tuple[int, ...]] = {}

    def submit(self, chunk: tuple[int, ...]) -> None:
        """Put a chunk in flight."""
        reference = self._task.remote(self._digest, __version__, self._packed, chunk)
        self._flights[reference] = chunk

    def collect(self, timeout: float) -> list[Outcome]:
        """Return the chunks that have ended; those whose worker died have no rows.

        Raises
        ------
        UnsupportedError
            If the cluster's workers cannot import this version of afdplan.
        InvalidInputError
            If the connection to the cluster is lost.
        """
        errors = self._ray.exceptions
        waiting = list(self._flights)
        try:
            ended, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout)
            more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        except (ConnectionError, errors.RaySystemError) as error:
            raise InvalidInputError(
                f"the Ray cluster no longer answers ({type(error).__name__}): continue with "
                "--resume when it does"
            ) from None
        outcomes = []
        for reference in dict.fromkeys([*ended, *more]):
            chunk = self._flights.pop(reference)
            try:
                rows, seconds = self._ray.get(reference)
            except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
                outcomes.append(Outcome(chunk=chunk, rows=None))
                continue
            except errors.RayError as error:
                reason = " ".join(str(error).split())[-200:]
                raise UnsupportedError(
                    f"the cluster cannot run afdplan ({type(error).__name__}): install "
                    f"afdplan {__version__} on its nodes; {reason}"
                ) from None
            if isinstance(rows, str):
                raise UnsupportedError(f"{rows}: install the same version on all nodes")
            outcomes.append(Outcome(chunk=chunk, rows=rows, seconds=seconds))
        return outcomes

    def close(self) -> None:
        """Leave the cluster; tasks in flight are cancelled."""
        for reference in self._flights:
            self._ray.cancel(reference, force=True)
        self._flights.clear()
        self._ray.shutdown()
        self._release.set()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's compiled part tells about every failed try away from standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _in_time(connect: Callable[[], Any], address: str | None, release: threading.Event) -> None:
    """Call `connect` in a thread, so that a silent address cannot hold us for ever.

    The thread lives until `release`: Linux ends the processes of a local cluster when the thread
    that started them ends.
    """
    failure: list[BaseException] = []
    answered = threading.Event()

    def attempt() -> None:
        try:
            connect()
        except BaseException as error:
            failure.append(error)
        answered.set()
        release.wait()

    threading.Thread(target=attempt, daemon=True).start()
    where = "on this machine" if address is None else f"at {address}"
    seconds = START_SECONDS if address is None else JOIN_SECONDS
    if not answered.wait(seconds):
        raise InvalidInputError(
            f"no Ray cluster answers {where} within {seconds:g} s, though something listens: "
            "check the address"
            if address is not None
            else f"Ray did not start {where} within {seconds:g} s"
        )
    if failure:
        release.set()
        reason = " ".join(str(failure[0]).split())[:200]
        raise InvalidInputError(f"no Ray cluster {where}: {reason}")
