"""How is one operation timed on a CPU or on CUDA?"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Timer"]

# Larger than the last-level cache of every device we know of.
FLUSH_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}


class Timer:
    """Times callables, each run preceded by a flush of the cache.

    Parameters
    ----------
    torch
        The torch module.
    device
        ``cpu`` or ``cuda``.
    repeats, warmups
        Timed and untimed runs.
    """

    def __init__(self, torch: Any, device: str, repeats: int, warmups: int) -> None:
        self._torch = torch
        self._device = device
        self._repeats = repeats
        self._warmups = warmups
        self._buffer = torch.zeros(FLUSH_BYTES[device], dtype=torch.uint8, device=device)

    def measure(self, run: Callable[[], Any]) -> list[float]:
        """Return the seconds of each timed run of `run`."""
        with self._torch.inference_mode():
            for _ in range(self._warmups):
                run()
            once = self._on_cuda if self._device == "cuda" else self._on_cpu
            return [once(run) for _ in range(self._repeats)]

    def _on_cpu(self, run: Callable[[], Any]) -> float:
        self._buffer.add_(1)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def _on_cuda(self, run: Callable[[], Any]) -> float:
        cuda = self._torch.cuda
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        # The flush keeps the device busy while the host queues the run: no launch gap is timed.
        self._buffer.add_(1)
        start.record()
        run()
        end.record()
        cuda.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def environment(self) -> dict[str, Any]:
        """Return what the machine is, for whoever reads the times later."""
        torch = self._torch
        facts: dict[str, Any] = {
            "device": self._device,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "flushed_bytes": FLUSH_BYTES[self._device],
        }
        if self._device == "cuda":
            properties = torch.cuda.get_device_properties(0)
            facts |= {
                "device_name": properties.name,
                "device_memory": properties.total_memory,
                "cuda": torch.version.cuda,
                "devices": torch.cuda.device_count(),
                "clock": "CUDA events",
            }
        else:
            facts |= {
                "device_name": platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
                "clock": "perf_counter",
            }
        return facts
