"""How long do the stages of one layer take: attention, transfer out, FFN, transfer back?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.model import parameters as ask
from afdplan.model.checks import check_choice, check_number
from afdplan.model.coupling import Coupling
from afdplan.model.curve import Curve, LinearCurve
from afdplan.model.layer_order import LayerOrder, named_order, order_of_layers, repeated
from afdplan.model.parameter import check_fields
from afdplan.model.stages import BESIDE_THE_CURVE, AttentionLayers, Transfer, check_curve
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.model.words import counted
from afdplan.model.worker_memory import WorkerMemory

__all__ = ["LatencyModel", "TimeUnit", "attention_stages", "coefficients_of", "stage_curves"]

TimeUnit = Literal["s", "abstract"]
PROBE_TOKENS = 1e9
SHORTEST_TIME = 1e-100


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """Times of all stages of one decode step, per layer and microbatch.

    Attributes
    ----------
    name
        What is modelled, for people.
    time_unit
        ``s`` for seconds, ``abstract`` for a unit that nobody published.
    attention
        t_A: the kinds of attention layers; their `layers` add up to L, the round trips per step.
    layer_order
        In which order a step passes them: ``blocks``, one kind after the other; ``alternating``,
        each layer the kind that is furthest behind its share; or the number of each layer's kind,
        counted from 1; a list shorter than L repeats.
    ffn
        t_F: time of one layer on one FFN worker against its n tokens [time; tokens].
    send, receive
        c_out (attention to FFN) and c_back (FFN to attention).
    scatter
        How far the stages scatter about these times from layer to layer; not at all by default.
    experts
        How unevenly the experts are loaded; None: equally.
    coupling
        Whom transfers occupy, what a launch costs, whose tokens an FFN worker has.
    step_overhead
        Sampling and scheduling, once per output step [time], >= 0.
    tokens_per_step
        Mean tokens that a request gains per step, >= 1 (above 1 with multi-token prediction).
    drain
        Whether the pipeline empties between output steps.
    validity
        Loads at which the curves were measured.
    source
        Where the numbers come from.
    assumptions
        Inputs that were assumed, not measured, one sentence each.
    uncertainty
        Covariance of the coefficients that were estimated; None if nobody knows.
    attention_devices, ffn_devices
        Devices of one attention and of one FFN worker that take these times; None if nobody says.
    memory
        Of these devices, where they are named: answers then refuse what it does not hold. No file
        keeps it.

    Raises
    ------
    LatencyModelError
        If a value is out of its domain.

    Examples
    --------
    >>> model = LatencyModel.linear(
    ...     attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0))
    >>> model.layers, model.ffn(1000)
    (1, 183.0)
    """

    name: str
    time_unit: TimeUnit
    attention: tuple[AttentionLayers, ...]
    ffn: Curve
    send: Transfer
    receive: Transfer
    layer_order: LayerOrder = "blocks"
    scatter: Scatter = field(default_factory=Scatter)
    experts: ExpertLoad | None = None
    coupling: Coupling = field(default_factory=Coupling)
    step_overhead: float = 0.0
    tokens_per_step: float = 1.0
    drain: bool = False
    validity: Validity = field(default_factory=Validity)
    source: str = ""
    assumptions: tuple[str, ...] = ()
    uncertainty: Uncertainty | None = None
    attention_devices: int | None = ask.ATTENTION_DEVICES.default
    ffn_devices: int | None = ask.FFN_DEVICES.default
    memory: WorkerMemory | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        error = LatencyModelError
        check_choice("time_unit", self.time_unit, get_args(TimeUnit), error)
        object.__setattr__(self, "attention", tuple(self.attention))
        if not self.attention or not all(isinstance(a, AttentionLayers) for a in self.attention):
            raise error("attention must be one or more AttentionLayers")
        counts = [kind.layers for kind in self.attention]
        object.__setattr__(self, "layer_order", named_order(self.layer_order, counts))
        check_curve("ffn", self.ffn)
        for name in ("send", "receive"):
            if not isinstance(getattr(self, name), Transfer):
                raise error(f"{name} must be a Transfer")
        if not isinstance(self.scatter, Scatter):
            raise error("scatter must be a Scatter")
        if self.experts is not None:
            if not isinstance(self.experts, ExpertLoad):
                raise error("experts must be an ExpertLoad or None")
            if len(self.experts.popularity) not in (0, 1, self.layers):
                raise error(
                    f"popularity must have one row, or one for each of {self.layers} layers, "
                    f"got {len(self.experts.popularity)}"
                )
        self._check_coupling()
        check_fields(self, (ask.STEP_OVERHEAD, ask.TOKENS_PER_STEP), error=error)
        if self.drain and self.layers == 1:
            raise error("drain needs per-layer times: give the number of layers, or drain = false")
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if self.uncertainty is not None:
            _check_coefficients(self, self.uncertainty.coefficients)
        check_fields(self, ask.DEVICES_PER_WORKER, error=error)
        self._check_takes_time()

    def __str__(self) -> str:
        """Return in a sentence whose times these are."""
        unit = "seconds" if self.time_unit == "s" else "abstract units of time"
        said = f"{self.name}: stage times of {counted(self.layers, 'layer')} in {unit}"
        sides = (("attention", self.attention_devices), ("FFN", self.ffn_devices))
        workers = [f"{side} workers of {counted(n, 'device')}" for side, n in sides if n]
        return f"{said}{''.join(f', {one}' for one in workers)}."

    def _check_coupling(self) -> None:
        """Raise unless workers can be occupied by these transfers, in these shares."""
        if not isinstance(self.coupling, Coupling):
            raise LatencyModelError("coupling must be a Coupling")
        for name in ("send", "receive"):
            share = getattr(self.coupling, f"{name}_attention")
            if share > 0 and getattr(self, name).load == "aggregate":
                raise LatencyModelError(
                    f"{name}_attention must be 0 where the {name} transfer has load aggregate, got "
                    f"{share:g}: an attention worker is occupied by its own tokens, load worker"
                )
        dense = self.coupling.dense_share
        if self.experts is not None and dense + self.experts.share > 1 + 1e-9:
            raise LatencyModelError(
                f"dense_share and the share of experts must be at most 1 together, got {dense:g} "
                f"and {self.experts.share:g}: they are parts of one FFN"
            )

    def _check_takes_time(self) -> None:
        """Raise unless a step at a very large load takes a time that a number can hold."""
        with np.errstate(over="ignore"):
            times = [kind.time(PROBE_TOKENS, 1) for kind in self.attention]
            curves = (self.ffn, self.send.curve, self.receive.curve)
            times += [curve(PROBE_TOKENS) for curve in curves]
        total = sum(times) + self.step_overhead
        if not SHORTEST_TIME < total < 1 / SHORTEST_TIME:
            raise LatencyModelError(
                f"the stages of a layer must take more than no time and less than 1e100 at "
                f"{PROBE_TOKENS:g} tokens, got {total:g}: check the coefficients"
            )

    @property
    def layers(self) -> int:
        """L, the attention-FFN round trips of one output step."""
        return sum(kind.layers for kind in self.attention)

    @property
    def ffn_weight(self) -> float | None:
        """Cost of one FFN worker over that of one attention worker by devices, if both are known.

        Examples
        --------
        >>> LatencyModel.linear(
        ...     attention=(1, 2), ffn=(3, 4), attention_devices=2, ffn_devices=8).ffn_weight
        4.0
        """
        if self.attention_devices is None or self.ffn_devices is None:
            return None
        return self.ffn_devices / self.attention_devices

    @property
    def kind_of_layer(self) -> tuple[int, ...]:
        """Index into `attention` of each layer, in the order of a step, shape (L,).

        Examples
        --------
        >>> whole = AttentionLayers(curve=LinearCurve(slope=1.0, intercept=0.0))
        >>> model = LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0))
        >>> replace(model, attention=(whole, replace(whole, layers=3)),
        ...         layer_order="alternating").kind_of_layer
        (1, 0, 1, 1)
        """
        if isinstance(self.layer_order, tuple):
            return repeated(tuple(number - 1 for number in self.layer_order), self.layers)
        return order_of_layers(self.layer_order, [kind.layers for kind in self.attention])

    @classmethod
    def linear(
        cls,
        *,
        attention: tuple[float, float],
        ffn: tuple[float, float],
        transfer: tuple[float, float] = (0.0, 0.0),
        layers: int = 1,
        time_unit: TimeUnit = "abstract",
        name: str = "linear",
        **others: Any,
    ) -> LatencyModel:
        """Return a model of straight lines, each given as (slope, intercept).

        Parameters
        ----------
        attention
            (alpha_A, beta_A) [time/token, time].
        ffn
            (alpha_F, beta_F) [time/token, time].
        transfer
            (alpha_C, beta_C) of each direction, against one worker's tokens [time/token, time].
        layers, time_unit, name, **others
            As the attributes of the class.
        """

        def line(coefficients: tuple[float, float]) -> LinearCurve:
            try:
                slope, intercept = coefficients
            except (TypeError, ValueError):
                raise LatencyModelError(
                    f"a line must be its slope and its intercept, got {coefficients!r:.40}"
                ) from None
            return LinearCurve(slope=slope, intercept=intercept)

        return cls(
            name=name,
            time_unit=time_unit,
            attention=(AttentionLayers(curve=line(attention), layers=layers),),
            ffn=line(ffn),
            send=Transfer(curve=line(transfer)),
            receive=Transfer(curve=line(transfer)),
            **others,
        )

    def with_coefficients(self, values: Mapping[str, float]) -> LatencyModel:
        """Return the model with new values of coefficients that `coefficients_of` names.

        Its uncertainty stays, unless it speaks of ``transfer`` and the two directions now differ.

        Raises
        ------
        LatencyModelError
            If a name is unknown or a value is out of its domain.

        Examples
        --------
        >>> model = LatencyModel.linear(attention=(1.0, 2.0), ffn=(3.0, 4.0))
        >>> model.with_coefficients({"ffn.slope": 5.0}).ffn.slope
        5.0
        """
        _check_coefficients(self, values)

        def changed(curve: Curve, *stages: str) -> Curve:
            new = {
                name: values[f"{stage}.{name}"]
                for stage in stages
                for name in curve.coefficients()
                if f"{stage}.{name}" in values
            }
            return curve.with_coefficients(new) if new else curve

        kinds = [
            replace(
                kind,
                curve=changed(kind.curve, stage),
                **{
                    name: values.get(f"{stage}.{name}", getattr(kind, name))
                    for name in BESIDE_THE_CURVE
                },
            )
            for stage, kind in attention_stages(self).items()
        ]
        model = replace(
            self,
            attention=tuple(kinds),
            ffn=changed(self.ffn, "ffn"),
            send=replace(self.send, curve=changed(self.send.curve, "transfer", "send")),
            receive=replace(self.receive, curve=changed(self.receive.curve, "transfer", "receive")),
            step_overhead=values.get("step_overhead", self.step_overhead),
            coupling=replace(self.coupling, launch=values.get("launch", self.coupling.launch)),
            uncertainty=None,
        )
        known = self.uncertainty
        if known is None or not set(known.coefficients) <= coefficients_of(model).keys():
            return model
        return replace(model, uncertainty=known)

    def scaled(self, factor: float) -> LatencyModel:
        """Return the model with every time multiplied by `factor` (> 0)."""
        factor = check_number("factor", factor, strict=True, error=LatencyModelError)
        return replace(
            self,
            attention=tuple(
                replace(
                    kind,
                    curve=kind.curve.scaled(factor),
                    **{name: getattr(kind, name) * factor for name in BESIDE_THE_CURVE},
                )
                for kind in self.attention
            ),
            ffn=self.ffn.scaled(factor),
            send=replace(self.send, curve=self.send.curve.scaled(factor)),
            receive=replace(self.receive, curve=self.receive.curve.scaled(factor)),
            step_overhead=self.step_overhead * factor,
            coupling=replace(self.coupling, launch=self.coupling.launch * factor),
            uncertainty=self.uncertainty.scaled(factor) if self.uncertainty else None,
        )


def attention_stages(model: LatencyModel) -> dict[str, AttentionLayers]:
    """Return the kinds of attention layers by the name of their stage."""
    if len(model.attention) == 1:
        return {"attention": model.attention[0]}
    return {f"attention.{k}": kind for k, kind in enumerate(model.attention, start=1)}


def stage_curves(model: LatencyModel) -> dict[str, Curve]:
    """Return the curve of every stage by name; ``transfer`` is there if both directions agree."""
    stages = {stage: kind.curve for stage, kind in attention_stages(model).items()}
    stages |= {"ffn": model.ffn, "send": model.send.curve, "receive": model.receive.curve}
    return stages | ({"transfer": model.send.curve} if model.send == model.receive else {})


def coefficients_of(model: LatencyModel) -> dict[str, float]:
    """Return every coefficient of `model` that has the unit of a time, by its dotted name.

    Attention of one kind is ``attention.slope``; of several kinds ``attention.1.slope``,
    ``attention.2.slope``, ... in their order. Where both directions of the link are equal,
    ``transfer.slope`` stands for both, beside ``send.slope`` and ``receive.slope``. Entries of a
    table are ``ffn.times.1``, ``ffn.times.2``, ...; ``launch`` is there if launches take time.

    Parameters
    ----------
    model
        The model to read.

    Examples
    --------
    >>> model = LatencyModel.linear(attention=(1.0, 2.0), ffn=(3.0, 4.0), transfer=(5.0, 6.0))
    >>> found = coefficients_of(model)
    >>> found["attention.slope"], found["ffn.intercept"], found["transfer.slope"]
    (1.0, 4.0, 5.0)
    """
    kinds = attention_stages(model)
    found: dict[str, float] = {}
    for stage, curve in stage_curves(model).items():
        found |= {f"{stage}.{name}": value for name, value in curve.coefficients().items()}
        if stage in kinds:
            kind = kinds[stage]
            found |= {f"{stage}.{name}": getattr(kind, name) for name in BESIDE_THE_CURVE}
    launch = {"launch": model.coupling.launch} if model.coupling.launch > 0 else {}
    return found | {"step_overhead": model.step_overhead} | launch


def _check_coefficients(model: LatencyModel, names: Iterable[str]) -> None:
    """Raise `LatencyModelError` if `model` has no coefficient of one of these `names`."""
    known = coefficients_of(model)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise LatencyModelError(
                f"the latency model has no coefficient {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}")
            )
