"""Which model on which devices was chosen, in plain values that a file can keep?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.hardware import Hardware
from afdplan.calibration.placement import place
from afdplan.errors import InvalidInputError
from afdplan.planning.derived_source import TENSOR_PARALLEL, DerivedSource

__all__ = ["DerivedChoice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedChoice:
    """What a derived source follows from.

    Attributes
    ----------
    model, hardware, ffn_hardware
        Shipped names or paths; the FFN side has the attention side's device unless given.
    weight_precision, kv_precision
        Formats of weights and KV cache; None takes the model's.
    link
        ``scale-up`` or ``scale-out``; None lets the size decide.
    speculative_tokens, acceptance
        Draft tokens per step, and the chance of each.
    attention_devices
        Devices of an attention worker to try; None tries what heads and node allow.
    """

    model: str
    hardware: str
    ffn_hardware: str | None = None
    weight_precision: str | None = None
    kv_precision: str | None = None
    link: str | None = None
    speculative_tokens: int = 0
    acceptance: float = 0.85
    attention_devices: tuple[int, ...] | None = None

    def devices(self) -> tuple[Hardware, Hardware]:
        """Return the device of the attention and of the FFN side."""
        attention = find_hardware(self.hardware)
        if self.ffn_hardware is None:
            return attention, attention
        return attention, find_hardware(self.ffn_hardware)

    def source(self) -> DerivedSource:
        """Return stage times and memory.

        Raises
        ------
        InvalidInputError
            If a name is unknown, a file has gone, or the model does not fit the devices.
        """
        attention, ffn = self.devices()
        architecture = find_model(self.model)
        refusals: list[InvalidInputError] = []
        for tensor_parallel in self.attention_devices or TENSOR_PARALLEL:
            try:
                placement = place(
                    architecture,
                    attention,
                    ffn_hardware=None if self.ffn_hardware is None else ffn,
                    precision=self.weight_precision,
                    cache_precision=self.kv_precision,
                    link=self.link,  # type: ignore[arg-type]  # checked by `place`
                    speculative_tokens=self.speculative_tokens,
                    acceptance=self.acceptance,
                    attention_devices=tensor_parallel,
                )
            except InvalidInputError as error:
                # One device may be too small for the attention weights, or eight too many.
                refusals.append(error)
                continue
            return DerivedSource(placement, self.attention_devices)
        raise refusals[0]
