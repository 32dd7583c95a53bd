"""How long does one operator take on one device, from its bytes and operations?

Five numbers per device, family and format, fitted to measured operators by
``benchmarks/operator_fits.py`` and shipped in ``data/operators.csv`` with their error:

    t = fixed + ( moving^s + computing^s )^(1/s)
    moving = bytes / (bandwidth * memory share)
    computing = operations / (rate * matrix share) + depth * depth time

s is the sharpness: how sharply the longer of both takes over. The depth of a matrix product is its
inner width, which one block of threads walks through in turn: it binds narrow ones. That of experts
is the numbers of their rows, which are sorted, quantized and added up beside the products.
Attention has no depth: there the fifth number is the time of one KV head of one request, a block of
threads at least, and is added to the rest.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.calibration.hardware import Hardware
from afdplan.calibration.precision import number_format

__all__ = ["Family", "Operator", "find_operator", "operator_rows"]

Family = Literal[
    "attention", "latent", "gemm", "experts", "wide", "elementwise", "dispatch", "combine"
]

STANDS_FOR = {
    ("gemm", "int8"): "fp8",
    ("gemm", "mxfp4"): "nvfp4",
    ("gemm", "int4"): "bf16",
    ("experts", "mxfp4"): "nvfp4",
    ("wide", "int8"): "fp8",
    ("wide", "mxfp4"): "nvfp4",
    ("attention", "int8"): "fp8",
    ("latent", "int8"): "fp8",
}
"""Formats that were not measured on a device, and which measured one has the same arithmetic.

A stand-in was not measured in its own format: it errs by as much more as a borrowed device does,
and on a device that was not measured either, by both.
"""
OTHER_MAKER_ERROR = 0.3
"""Relative standard error of kernels that another maker's device was measured with: as that of
other parts which nobody measured. Published stages of Ascend 910C are off by 21 and 88 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What one family of kernels reaches on one device.

    Attributes
    ----------
    memory_share, matrix_share
        Of the peak bandwidth and of the peak matrix rate, > 0.
    fixed_time
        Of a call that has next to nothing to do [s].
    sharpness
        Exponent s, > 0: with a large one the longest part alone counts.
    depth_time
        Time per unit of depth [s], of attention per request and KV head; 0 where none was fitted.
    error
        Median relative error on shapes that were not fitted.
    origin
        Device, system and format that were measured.

    Examples
    --------
    >>> perfect = Operator(memory_share=1, matrix_share=1, fixed_time=0, sharpness=64)
    >>> float(perfect.time(2.0, 1.0))
    2.0
    """

    memory_share: float
    matrix_share: float
    fixed_time: float
    sharpness: float
    depth_time: float = 0.0
    error: float = 0.0
    origin: str = ""

    def scaled(self, factor: float) -> Operator:
        """Return the operator whose every call takes `factor` times as long."""
        return replace(
            self,
            memory_share=self.memory_share / factor,
            matrix_share=self.matrix_share / factor,
            fixed_time=self.fixed_time * factor,
            depth_time=self.depth_time * factor,
        )

    def time(
        self, memory: npt.ArrayLike, matrix: npt.ArrayLike = 0.0, depth: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Return the time of one call [s].

        Parameters
        ----------
        memory, matrix
            Bytes over the peak bandwidth and operations over the peak rate [s], any shape.
        depth
            Inner width of the product; numbers of the experts' rows.
        """
        return self.fixed_time + self.work(memory, matrix, depth)

    def work(
        self, memory: npt.ArrayLike, matrix: npt.ArrayLike = 0.0, depth: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Return the time of one call without its fixed time [s]; doubles with all parts."""
        read = np.asarray(memory, dtype=np.float64) / self.memory_share
        computed = np.asarray(matrix, dtype=np.float64) / self.matrix_share
        computed = computed + np.asarray(depth, dtype=np.float64) * self.depth_time
        longest = np.maximum(np.maximum(read, computed), 1e-300)
        both = (read / longest) ** self.sharpness + (computed / longest) ** self.sharpness
        return np.asarray(longest * both ** (1 / self.sharpness))


@cache
def operator_rows() -> dict[tuple[str, str, str], tuple[Operator, float]]:
    """Return the shipped operators by (device, family, format), with what borrowing them costs.

    The second number is the median relative error that the row of the nearest measured device has
    on another one's shapes.
    """
    text = (resources.files("afdplan.data") / "operators.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text))
    return {
        (row["device"], row["family"], row["format"]): (
            Operator(
                memory_share=float(row["memory_share"]),
                matrix_share=float(row["matrix_share"]),
                fixed_time=float(row["fixed_us"]) * 1e-6,
                sharpness=float(row["sharpness"]),
                depth_time=float(row["depth_ns"]) * 1e-9,
                error=float(row["error"]),
                origin=" ".join(
                    (f"{row['device']},", row["backend"], row["version"], row["kernel"])
                ),
            ),
            float(row["borrowed_error"]),
        )
        for row in rows
        if row["chosen"] == "yes"
    }


def find_operator(hardware: Hardware, family: Family, number: str) -> Operator:
    """Return the operator of a device, or of the nearest one that was measured.

    Nearest is the device that its file names (`Hardware.like`), else the one whose bandwidth and
    bf16 rate are the least factors away. A borrowed row errs by as much more as the rows of
    measured devices do on each other, and so does one that stands in for another format; one that
    does both errs by both, independently. Where the
    matrix units are slower than those of the device it comes from, their share is taken between two
    readings: that it stays, and that what does not run on them lasts as long as there.

    Parameters
    ----------
    hardware
        The device.
    family
        Kind of kernel.
    number
        Number format of what it reads.

    Examples
    --------
    >>> from afdplan.calibration.catalogue import find_hardware
    >>> find_operator(find_hardware("h200"), "gemm", "bf16").origin.partition(",")[0]
    'H200'
    """
    rows = operator_rows()
    number = _kernels(hardware, family, number)
    for name in (number, STANDS_FOR.get((family, number), number), "bf16"):
        devices = _devices_with(family, name)
        if not devices:
            continue
        if hardware.name in devices:
            operator, borrowed = rows[hardware.name, family, name]
        else:
            operator, borrowed = _borrowed(hardware, devices, family, name)
        if name == number:
            return operator
        return replace(operator, error=math.hypot(operator.error, borrowed))
    raise AssertionError(f"no device has a row of {family}")


def _kernels(hardware: Hardware, family: Family, number: str) -> str:
    """Return the format that chooses the kernels: its name without bits and arithmetic.

    Weights that are unpacked on the way run on the kernels of int4, whatever their width: by their
    name, or because the device does not compute in their format and nothing like it was measured.
    """
    base = re.match("[a-z]+[0-9]+", number)
    name = base[0] if base else number
    is_unpacked = number.endswith("a16") or name in ("int2", "int3", "int5", "int6")
    if family in ("gemm", "experts", "wide"):
        wanted = number_format(number).arithmetic
        alike = {hardware.name, hardware.like} & set(_devices_with(family, name))
        is_known = [one.arithmetic(wanted) == wanted for one in (hardware, *map(_measured, alike))]
        is_unpacked |= not is_known[0] and all(is_known[1:])
    return "int4" if is_unpacked else name


@cache
def _devices_with(family: Family, name: str) -> tuple[str, ...]:
    """Return the devices on which a family was measured in a format."""
    return tuple(device for device, kind, form in operator_rows() if (kind, form) == (family, name))


@cache
def _measured(device: str) -> Hardware:
    """Return a shipped device whose operators were measured; asked for with every operator."""
    from afdplan.calibration.catalogue import find_hardware

    return find_hardware(device)


def _borrowed(
    hardware: Hardware, devices: Iterable[str], family: Family, name: str
) -> tuple[Operator, float]:
    """Return the operator of the nearest device, its borrowing in its error, and that of its row.

    The second is what standing in for another format adds.
    """
    known = {device: _measured(device) for device in devices}
    nearest = hardware.like
    if nearest not in known:
        nearest = min(known, key=lambda device: device_distance(hardware, known[device]))
    operator, stands_in = operator_rows()[nearest, family, name]
    borrowed = stands_in
    rate = hardware.matrix_rate("bf16") / known[nearest].matrix_rate("bf16")
    beside = (1 / operator.matrix_share - 1) * min(rate, 1.0)
    if hardware.maker.casefold() != known[nearest].maker.casefold():
        borrowed = max(borrowed, OTHER_MAKER_ERROR)
    taken = replace(
        operator,
        matrix_share=math.sqrt(operator.matrix_share / (1 + max(beside, 0.0))),
        error=math.hypot(operator.error, borrowed),
    )
    return taken, stands_in


def device_distance(one: Hardware, other: Hardware) -> float:
    return math.hypot(
        math.log(one.memory_bandwidth / other.memory_bandwidth),
        math.log(one.matrix_rate("bf16") / other.matrix_rate("bf16")),
    )
