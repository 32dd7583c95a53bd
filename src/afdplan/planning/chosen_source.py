"""Which source of stage times and memory does a choice of latency name?"""

from __future__ import annotations

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError
from afdplan.files.latency_file import load_latency
from afdplan.model.latency import LatencyModel
from afdplan.planning.derived_source import TENSOR_PARALLEL, DerivedSource
from afdplan.planning.source import LatencySource, MeasuredSource

__all__ = ["chosen_source"]


def chosen_source(choice: LatencyChoice, measured: LatencyModel | None = None) -> LatencySource:
    """Return stage times and memory of a choice, for every design.

    Parameters
    ----------
    choice
        What the times follow from.
    measured
        The latency model that it names, where it has been read.

    Raises
    ------
    InvalidInputError
        If a name is unknown, a file has gone, or the model does not fit the devices.
    """
    devices = choice.attention_devices
    tried = (devices,) if isinstance(devices, int) else devices
    if choice.is_derived:
        return _derived(choice, tried)
    if tried is not None and len(tried) > 1:
        raise InvalidInputError("a latency model was measured at one number of attention_devices")
    model = load_latency(str(choice.latency)) if measured is None else measured
    model = LatencyChoice(
        attention_devices=None if tried is None else tried[0], ffn_devices=choice.ffn_devices
    ).with_devices(model)
    return MeasuredSource(
        model,
        attention_devices=model.attention_devices or 1,
        ffn_devices=model.ffn_devices or 1,
        kv_tokens=choice.kv_tokens,
        colocated_kv_tokens=choice.colocated_kv_tokens,
    )


def _derived(choice: LatencyChoice, tried: tuple[int, ...] | None) -> DerivedSource:
    if choice.ffn_devices is not None:
        raise InvalidInputError(
            "ffn_devices is chosen by the plan, which spreads the experts over single devices: "
            "leave it out with model and hardware"
        )
    loaded = choice.loaded()
    refusals: list[InvalidInputError] = []
    for tensor_parallel in tried or TENSOR_PARALLEL:
        try:
            placement = loaded.placement(attention_devices=tensor_parallel)
        except InvalidInputError as error:
            # One device may be too small for the attention weights, or eight too many.
            refusals.append(error)
            continue
        return DerivedSource(placement, tried)
    raise refusals[0]
