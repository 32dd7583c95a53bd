"""Who is told that kernels are being compiled, and how? Imports nothing: the command line asks."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["listeners"]

listeners: list[Callable[[bool], None]] = []
"""Called with True when a kernel begins to be compiled, with False when it is."""
