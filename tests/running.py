"""Processes of tests: whatever a test meets, none outlives it or is waited for without end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["started", "written_to"]


@contextmanager
def started(command: list[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process with all that it starts, which end with the block, however that ends.

    Where `subprocess.Popen` leaves its own block by an error it waits for the process, for ever
    if need be; and what a killed process has started lives on, with the pipes that are read.
    """
    words = [str(part) for part in command]
    process = subprocess.Popen(words, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait(timeout=20)


@contextmanager
def written_to(pipe: Path, content: bytes) -> Iterator[None]:
    """A named pipe into which somebody writes; who waits for a reader is let go at the end."""
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(content)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        while writer.is_alive():
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
            writer.join(0.01)
