"""How do the fits of single stages become one latency model with its uncertainty?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import block_diag

from afdplan.calibration.stage import StageFit
from afdplan.errors import InsufficientDataError, TimeUnitError
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel, TimeUnit, coefficients_of
from afdplan.model.stages import AttentionLayers, Transfer, TransferLoad
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import LoadRange, Validity

__all__ = ["assemble"]


def assemble(
    fits: Sequence[StageFit],
    *,
    name: str,
    time_unit: TimeUnit,
    source: str,
    layers: int = 1,
    transfer_load: TransferLoad = "worker",
    step_overhead: float = 0.0,
    tokens_per_step: float = 1.0,
    prior: LatencyModel | None = None,
) -> LatencyModel:
    """Return the latency model of fitted stages, its covariance block by block.

    Parameters
    ----------
    fits
        One fit per stage; ``attention`` and ``ffn`` must be there unless `prior` has them.
    name, time_unit, source
        As in `LatencyModel`.
    layers
        Number of layers that the fitted times describe once each.
    transfer_load
        Whose tokens the loads of the transfer stages count; times are one way.
    step_overhead, tokens_per_step
        As in `LatencyModel`.
    prior
        A model that lends the stages which were not measured.

    Raises
    ------
    InsufficientDataError
        If attention or FFN was neither measured nor lent.
    TimeUnitError
        If `prior` has another time unit.
    """
    found = {fit.stage: fit for fit in fits}
    assumptions: list[str] = []
    if prior is not None and prior.time_unit != time_unit:
        raise TimeUnitError(
            f"the measurements are in {time_unit!r} and the prior in {prior.time_unit!r}: "
            "take a prior of the same time unit"
        )
    for stage in ("attention", "ffn"):
        if stage not in found and prior is None:
            raise InsufficientDataError(
                f"stage {stage} was not measured: add its rows, or lend it with a prior model"
            )
        if stage not in found:
            assumptions.append(f"Times of {stage} were lent by {prior.name if prior else ''}.")
    if "attention" in found:
        fit = found["attention"]
        kinds: tuple[AttentionLayers, ...] = (
            AttentionLayers(curve=fit.curve, layers=layers, time_per_request=fit.time_per_request),
        )
    else:
        kinds = prior.attention if prior else ()
    ffn = found["ffn"].curve if "ffn" in found else prior.ffn if prior else LinearCurve(slope=0.0)
    links, linked = _links(found, transfer_load, prior, assumptions)
    model = LatencyModel(
        name=name,
        time_unit=time_unit,
        attention=kinds,
        ffn=ffn,
        send=links[0],
        receive=links[1],
        step_overhead=step_overhead,
        tokens_per_step=tokens_per_step,
        validity=_validity(found),
        source=source,
        assumptions=tuple(assumptions),
    )
    return replace(model, uncertainty=_uncertainty(found, linked, prior, model))


def _links(
    found: dict[str, StageFit],
    load: TransferLoad,
    prior: LatencyModel | None,
    assumptions: list[str],
) -> tuple[list[Transfer], list[str]]:
    """Return both directions, and the stages whose fits they took."""
    if "transfer" in found and ("send" in found or "receive" in found):
        raise InsufficientDataError(
            "transfer was measured beside send or receive: keep either the common or the two stages"
        )
    if "transfer" in found:
        curve = found["transfer"].curve
        assumptions.append("Both directions of the link take the same time.")
        return [Transfer(curve=curve, load=load)] * 2, ["transfer"]
    links: list[Transfer] = []
    linked: list[str] = []
    for stage in ("send", "receive"):
        if stage in found:
            links.append(Transfer(curve=found[stage].curve, load=load))
            linked.append(stage)
        elif prior is not None:
            links.append(getattr(prior, stage))
            assumptions.append(f"Times of {stage} were lent by {prior.name}.")
        else:
            links.append(Transfer(curve=LinearCurve(slope=0.0)))
            assumptions.append(f"Times of {stage} were not measured and are taken as 0.")
    return links, linked


def _validity(found: dict[str, StageFit]) -> Validity:
    """Return the loads that were measured."""

    def span(values: np.ndarray | None) -> LoadRange | None:
        return None if values is None else (float(values.min()), float(values.max()))

    attention, ffn = found.get("attention"), found.get("ffn")
    return Validity(
        attention_tokens=span(attention.samples.loads) if attention else None,
        ffn_tokens=span(ffn.samples.loads) if ffn else None,
        batch_size=span(attention.samples.requests) if attention else None,
    )


def _uncertainty(
    found: dict[str, StageFit],
    linked: list[str],
    prior: LatencyModel | None,
    model: LatencyModel,
) -> Uncertainty | None:
    """Return the covariance of all fitted stages and of what the prior lent, block by block."""
    names: list[str] = []
    blocks = []
    for stage in ("attention", "ffn", *linked):
        fit = found.get(stage)
        if fit is None or fit.samples.count <= (
            1 if fit.form == "table" else len(fit.coefficients)
        ):
            continue
        names += [f"{stage}.{name}" for name in fit.coefficients]
        blocks.append(fit.covariance)
    if prior is not None and prior.uncertainty is not None:
        measured = {*found, *linked} | ({"send", "receive"} if "transfer" in found else set())
        measured |= {"transfer"} if linked else set()
        known = coefficients_of(model)
        lent = [
            k
            for k, name in enumerate(prior.uncertainty.coefficients)
            if name in known and name.split(".")[0] not in measured and name != "step_overhead"
        ]
        names += [prior.uncertainty.coefficients[k] for k in lent]
        blocks.append(prior.uncertainty.covariance[np.ix_(lent, lent)])
    if not names:
        return None
    return Uncertainty(coefficients=tuple(names), covariance=block_diag(*blocks))
