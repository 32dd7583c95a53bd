"""Which numbers of attention and FFN workers can a serving system run?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from afdplan.errors import InvalidInputError

__all__ = ["TARGETS", "TargetRule", "target_rule"]

IntArray = npt.NDArray[np.int64]
Kind = Literal["any", "multiple", "mutual", "powers", "single"]

_RULES: dict[Kind, str] = {
    "any": "any pair",
    "multiple": "attention ranks must be a multiple of FFN ranks",
    "mutual": "one of the numbers of workers must divide the other",
    "powers": "FFN ranks must be 1, 2, 4, 8, 16 or 32",
    "single": "there must be one FFN rank",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRule:
    """What a serving system accepts.

    Attributes
    ----------
    name
        As on the command line.
    kind
        Rule on the pair.
    microbatches
        Numbers in flight that it can run.
    largest_ratio
        Most attention per FFN ranks; None has no bound.
    source
        Where the rule was read.
    """

    name: str
    kind: Kind
    microbatches: tuple[int, ...]
    largest_ratio: int | None = None
    source: str = ""

    @property
    def rule(self) -> str:
        """The rule in words."""
        return _RULES[self.kind]

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
        >>> target_rule("vllm-afd-plugin").allows([8, 9, 1], [2, 2, 2]).tolist()
        [True, False, False]
        """
        a = np.asarray(attention_workers, dtype=np.int64)
        f = np.asarray(ffn_workers, dtype=np.int64)
        attention, ffn = a * attention_devices, f * ffn_devices
        legal = np.ones(np.broadcast(a, f).shape, dtype=bool)
        if self.kind == "multiple":
            legal = (attention >= ffn) & (attention % ffn == 0)
        elif self.kind == "mutual":
            tensor = max(attention_devices, ffn_devices) % min(attention_devices, ffn_devices) == 0
            legal = ((a % f == 0) | (f % a == 0)) & tensor
        elif self.kind == "powers":
            legal = np.isin(ffn, (1, 2, 4, 8, 16, 32)) & (attention >= 1)
        elif self.kind == "single":
            legal = ffn == 1
        if self.largest_ratio is not None:
            legal = legal & (attention <= self.largest_ratio * ffn)
        return legal

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


TARGETS: dict[str, TargetRule] = {
    rule.name: rule
    for rule in (
        TargetRule(name="any", kind="any", microbatches=(1, 2, 3)),
        TargetRule(
            name="vllm-afd-plugin",
            kind="multiple",
            microbatches=(1, 2),
            source="vllm-project/afd-plugin 2e4378f, P2pNcclAFDConnector",
        ),
        TargetRule(
            name="fastafd",
            kind="mutual",
            microbatches=(1, 2, 3, 4),
            source="FastAFD server arguments, 2026-08",
        ),
        TargetRule(
            name="sglang", kind="powers", microbatches=(2,), source="SGLang srt/afd, 2026-08"
        ),
        TargetRule(
            name="stepmesh", kind="any", microbatches=(3,), source="StepMesh 740ac12, Step-3"
        ),
        TargetRule(name="rtp-llm", kind="single", microbatches=(2,), source="rtp-llm, 2026-08"),
    )
}
"""The known systems; ``any`` restricts nothing."""


def target_rule(name: str) -> TargetRule:
    """Return the rule of a serving system by name.

    Raises
    ------
    InvalidInputError
        If the name is unknown.
    """
    if name not in TARGETS:
        raise InvalidInputError(f"target must be one of {', '.join(TARGETS)}, got {name!r:.80}")
    return TARGETS[name]
