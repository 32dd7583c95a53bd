"""Which times were chosen: a latency model as it is, or a model on hardware?

The command line, study files and plan files name it by the same plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from afdplan.calibration.architecture import ModelArchitecture
from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import latency_of, times_of
from afdplan.calibration.hardware import Hardware
from afdplan.calibration.placement import Placement, place
from afdplan.errors import InvalidInputError
from afdplan.files.latency_file import load_latency
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.latency import LatencyModel
from afdplan.model.parameter import Parameter

__all__ = ["LatencyChoice"]

PLACED = (*ask.DERIVED[3:], ask.FFN_DEVICES)
"""What `place` takes besides model and devices."""


def _name(parameter: Parameter) -> str:
    return parameter.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyChoice:
    """What stage times follow from.

    Attributes
    ----------
    latency
        Built-in name or file of a latency model; else `model` and `hardware`.
    model, hardware, ffn_hardware
        Shipped names or paths, or what was read from them; the FFN side has the attention side's
        device unless given.
    weight_precision, kv_precision
        Formats of weights and KV cache; None takes the model's.
    link
        ``scale-up`` or ``scale-out``; None lets the size decide.
    serving_system, transfers, router_side, shared_experts_side
        Whose habits hold, and what of them is otherwise.
    speculative_tokens, acceptance
        Draft tokens per step, and the chance of each.
    attention_devices
        Devices of an attention worker; a plan may try several; None lets it choose.
    ffn_devices
        Devices of an FFN worker.
    kv_tokens, colocated_kv_tokens
        KV tokens that fit on one attention worker, and on one that holds the FFN weights too;
        with `latency` only, else they follow from the hardware.
    """

    latency: str | None = None
    model: str | ModelArchitecture | None = None
    hardware: str | Hardware | None = None
    ffn_hardware: str | Hardware | None = None
    weight_precision: str | None = None
    kv_precision: str | None = None
    link: str | None = None
    serving_system: str = ask.SERVING_SYSTEM.default
    transfers: str | None = None
    router_side: str | None = None
    shared_experts_side: str | None = None
    speculative_tokens: int = ask.SPECULATIVE_TOKENS.default
    acceptance: float = ask.ACCEPTANCE.default
    attention_devices: int | tuple[int, ...] | None = None
    ffn_devices: int | None = None
    kv_tokens: float | None = None
    colocated_kv_tokens: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], say: Callable[[Parameter], str] = _name) -> LatencyChoice:
        """Return the choice that values by name make; None says nothing.

        Parameters
        ----------
        given
            Values; names of other parameters are passed over.
        say
            How messages call a parameter.

        Raises
        ------
        InvalidInputError
            If they do not go together. Whether each is in its domain shows when it is used.

        Examples
        --------
        >>> LatencyChoice.of({"model": "step-3", "hardware": "h20", "kv_precision": "fp8"}).link
        """
        known = {field.name for field in fields(cls)}
        asked = {n: v for n, v in given.items() if n in known and v is not None}
        ways = f"{say(ask.LATENCY)}, or {say(ask.MODEL)} and {say(ask.HARDWARE)}"
        if ask.LATENCY.name in asked:
            if asked[ask.LATENCY.name] == "":
                raise InvalidInputError(
                    f"{say(ask.LATENCY)} is empty: give a built-in name or a file"
                )
            wrong = [
                p for p in ask.DERIVED if asked.get(p.name, p.default or 0) != (p.default or 0)
            ]
            if wrong:
                raise InvalidInputError(f"give {ways}; {say(wrong[0])} belongs to the latter")
        elif not {ask.MODEL.name, ask.HARDWARE.name} <= asked.keys():
            raise InvalidInputError(f"say how long the stages take: {ways}")
        else:
            for one in (of_plan.KV_TOKENS, of_plan.COLOCATED_KV_TOKENS):
                if one.name in asked:
                    raise InvalidInputError(
                        f"{say(one)} belongs to {say(ask.LATENCY)}; "
                        f"with {say(ask.MODEL)} it is derived"
                    )
        if ask.ACCEPTANCE.name in asked and ask.SPECULATIVE_TOKENS.name not in asked:
            raise InvalidInputError(
                f"{say(ask.ACCEPTANCE)} is of draft tokens: give {say(ask.SPECULATIVE_TOKENS)} too"
            )
        return cls(**asked)

    @property
    def is_derived(self) -> bool:
        """Whether a model on hardware was chosen."""
        return self.latency is None

    def devices(self) -> tuple[Hardware, Hardware]:
        """Return the device of the attention and of the FFN side of a derived model."""
        attention, ffn = (
            find_hardware(one) if isinstance(one, str) else one
            for one in (self.hardware, self.ffn_hardware)
        )
        assert attention is not None
        return attention, ffn or attention

    def loaded(self) -> LatencyChoice:
        """Return the choice with what its names stand for: no file is read any more.

        Raises
        ------
        InvalidInputError
            If a name is unknown or a file cannot be read.
        """
        attention, ffn = self.devices()
        model = find_model(self.model) if isinstance(self.model, str) else self.model
        return replace(self, model=model, hardware=attention, ffn_hardware=ffn)

    def placement(self, **others: Any) -> Placement:
        """Return the model on its devices; `others` are `batch_size` and `ffn_workers`.

        Raises
        ------
        InvalidInputError
            If a value is out of its domain or the model does not fit the devices.
        """
        chosen = self.loaded()
        assert isinstance(chosen.model, ModelArchitecture)
        attention, ffn = chosen.devices()
        options = {one.field: getattr(chosen, one.name) for one in PLACED} | others
        if chosen.attention_devices is not None:
            options.setdefault("attention_devices", chosen.attention_devices)
        return place(chosen.model, attention, ffn_hardware=ffn, **options)

    def resolve(
        self, *, batch_size: int | None = None, ffn_workers: int = 1, with_errors: bool = False
    ) -> LatencyModel:
        """Return the stage times.

        Parameters
        ----------
        batch_size, ffn_workers
            B and F: a derived FFN worker holds its share of the experts.
        with_errors
            Whether a derived model is to carry its uncertainty, which takes eight times as long.

        Raises
        ------
        InvalidInputError
            If a name is unknown, a file is wrong, or a value is out of its domain.
        """
        if self.is_derived:
            derive = latency_of if with_errors else times_of
            return derive(self.placement(batch_size=batch_size, ffn_workers=ffn_workers))
        return self.with_devices(load_latency(str(self.latency)))

    def with_devices(self, model: LatencyModel) -> LatencyModel:
        """Return a measured model with the devices per worker that were given.

        Raises
        ------
        InvalidInputError
            If the model names other numbers: its times are of those.
        """
        given = {one: getattr(self, one.name) for one in ask.DEVICES_PER_WORKER}
        if all(value is None for value in given.values()):
            return model
        for one, value in given.items():
            known = getattr(model, one.name)
            if known is not None and value not in (None, known):
                raise InvalidInputError(
                    f"{one.name} must be {known} as in the latency model, got {value}: its times "
                    "are of workers of that many devices"
                )
        # Who names one side says of the other that it is a single device.
        return replace(
            model,
            attention_devices=given[ask.ATTENTION_DEVICES] or model.attention_devices or 1,
            ffn_devices=given[ask.FFN_DEVICES] or model.ffn_devices or 1,
        )
