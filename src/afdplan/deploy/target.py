"""What can one version of a serving system run, and how is it started?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from afdplan.deploy.pairs import ANY_PAIR, PairRule
from afdplan.errors import UnsupportedError
from afdplan.model import parameters as ask
from afdplan.model.parameters import Execution

if TYPE_CHECKING:
    from afdplan.deploy.deployment import Deployment
    from afdplan.deploy.request import DeployRequest

__all__ = ["ANY", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One version of one serving system: everything about it that afdplan knows.

    Attributes
    ----------
    name, version
        As on the command line. The newest version of a system stands first in its file.
    microbatches
        Numbers in flight that it can run.
    source
        Where this was read, with its date or commit.
    pairs
        Rule on the numbers of workers.
    execution
        Whether its attention workers meet at a barrier.
    engine
        Version of the engine underneath that it is built for; empty if it is its own.
    models
        Values of ``model_type`` in the configurations that it registers; None if not known.
    devices
        Kinds of devices that it runs on (`afdplan.deploy.devices`).
    placement
        Which switch balances the ranks' tokens, or that there is none: one sentence.
    flags
        Command-line flags that may be emitted.
    keys
        Keys of its configuration objects that may be emitted.
    prefills
        Whether prefill servers of a plan of the whole service are written too.
    split
        Returns what starts a split plan; None if it cannot be emitted.
    unsplit
        Returns what starts the same model without a split; None if it cannot.
    """

    name: str
    version: str
    microbatches: tuple[int, ...]
    source: str
    pairs: PairRule = ANY_PAIR
    execution: Execution = ask.EXECUTION.default
    engine: str = ""
    models: frozenset[str] | None = None
    devices: tuple[str, ...] = ("nvidia",)
    placement: str = ""
    flags: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    prefills: bool = False
    split: Callable[[DeployRequest, Target], Deployment] | None = None
    unsplit: Callable[[DeployRequest, Target], Deployment] | None = None

    @property
    def rule(self) -> str:
        """The rule on pairs in words."""
        return self.pairs.words

    @property
    def restricts(self) -> bool:
        """Whether some pair is illegal."""
        return self.pairs != ANY_PAIR

    @property
    def shown(self) -> str:
        """Name, version and engine for headers."""
        engine = f" for {self.engine}" if self.engine else ""
        return f"{self.name} {self.version}{engine}"

    def allows(
        self,
        attention_workers: npt.ArrayLike,
        ffn_workers: npt.ArrayLike,
        attention_devices: int = 1,
        ffn_devices: int = 1,
    ) -> Any:
        """Return whether each pair is legal, elementwise.

        Parameters
        ----------
        attention_workers, ffn_workers
            A and F of one bundle, any shape.
        attention_devices, ffn_devices
            Devices of one worker; a rank is a device.

        Examples
        --------
        >>> from afdplan.deploy.registry import find_target
        >>> find_target("vllm-afd-plugin", "2e4378f").allows([8, 9, 1], [2, 2, 2]).tolist()
        [True, False, False]
        """
        a = np.asarray(attention_workers, dtype=np.int64)
        f = np.asarray(ffn_workers, dtype=np.int64)
        return self.pairs.test(a, f, attention_devices, ffn_devices)

    def knows(self, model_type: str) -> bool:
        """Return whether a model is registered; one whose type is not known passes.

        Checkpoints with pictures name their language model apart, by the same name with ``_text``.

        Examples
        --------
        >>> from afdplan.deploy.registry import find_target
        >>> find_target("vllm-afd-plugin").knows("qwen3_5_moe_text")
        True
        """
        names = {"", *(self.models or ())}
        return self.models is None or not names.isdisjoint(
            {model_type, model_type.removesuffix("_text")}
        )

    def nearest(
        self, attention_workers: int, ffn_workers: int, attention_devices: int, ffn_devices: int
    ) -> tuple[int, int] | None:
        """Return the legal pair with the nearest number of workers and ratio, if there is one."""
        a, f = np.meshgrid(
            np.arange(1, 4 * attention_workers + 65), np.arange(1, 4 * ffn_workers + 33)
        )
        legal = self.allows(a, f, attention_devices, ffn_devices)
        distance = np.abs(np.log(a / attention_workers)) + np.abs(np.log(f / ffn_workers))
        distance = np.where(legal, distance, np.inf)
        at = np.unravel_index(int(np.argmin(distance)), distance.shape)
        return (int(a[at]), int(f[at])) if np.isfinite(distance[at]) else None

    def check(self, words: Iterable[str], keys: Iterable[str] = ()) -> None:
        """Raise `UnsupportedError` if a flag or key is unknown to this version.

        Parameters
        ----------
        words
            Command line, flags and values apart.
        keys
            Of its configuration objects.
        """
        unknown = [word for word in words if word.startswith("--") and word not in self.flags]
        unknown += [key for key in keys if key not in self.keys]
        if unknown:
            raise UnsupportedError(
                f"{unknown[0]!r} is not known to {self.name} {self.version}: it must not be emitted"
            )


ANY = Target(name="any", version="", microbatches=(1, 2, 3), source="no system: no restriction")
"""Restricts nothing and starts nothing."""
