"""How long do the stages of one layer take: attention, transfer out, FFN, transfer back?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args, overload

import numpy as np
import numpy.typing as npt

from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_choice, check_count, check_number
from afdplan.model.curve import Curve, LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.uncertainty import Uncertainty, check_coefficients, replace_coefficients

__all__ = [
    "AttentionLayers",
    "LatencyModel",
    "LayerOrder",
    "LoadRange",
    "TimeUnit",
    "Transfer",
    "TransferLoad",
    "Validity",
]

TimeUnit = Literal["s", "abstract"]
TransferLoad = Literal["worker", "aggregate"]
LayerOrder = Literal["blocks", "alternating"] | tuple[int, ...]
FloatArray = npt.NDArray[np.float64]
PROBE_TOKENS = 1e9
SHORTEST_TIME = 1e-100
_CURVES = (LinearCurve, RooflineCurve, TabulatedCurve)


def _check_curve(name: str, value: Any) -> None:
    if not isinstance(value, _CURVES):
        raise LatencyModelError(
            f"{name} must be a LinearCurve, RooflineCurve or TabulatedCurve, "
            f"got {type(value).__name__}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayers:
    """The attention layers of one kind: how many, how long each takes, how far back each reads.

    One such layer takes ``curve(T) + time_per_request * B``, with T the sum over the B requests
    of a worker's microbatch of ``min(P + i, context_window)``.

    Attributes
    ----------
    curve
        Time against KV tokens read by one worker in one microbatch [time; tokens].
    layers
        Number of layers of this kind, >= 1.
    time_per_request
        Extra time per request of the microbatch (projections, launch) [time/request], >= 0.
    context_window
        Most tokens of one request that a layer reads (sliding window, top-k) [tokens], >= 1;
        None reads the whole context.
    """

    curve: Curve
    layers: int = 1
    time_per_request: float = 0.0
    context_window: int | None = None

    def __post_init__(self) -> None:
        _check_curve("attention curve", self.curve)
        object.__setattr__(
            self, "layers", check_count("layers", self.layers, 1, 10_000, LatencyModelError)
        )
        object.__setattr__(
            self,
            "time_per_request",
            check_number("time_per_request", self.time_per_request, error=LatencyModelError),
        )
        if self.context_window is not None:
            window = check_count("context_window", self.context_window, error=LatencyModelError)
            object.__setattr__(self, "context_window", window)

    @overload
    def time(self, kv_tokens: float, requests: int) -> float: ...
    @overload
    def time(self, kv_tokens: npt.NDArray[Any], requests: int) -> FloatArray: ...
    def time(self, kv_tokens: float | npt.NDArray[Any], requests: int) -> float | FloatArray:
        """Return t_A, the time of one layer for `kv_tokens` in `requests` requests."""
        return self.curve(kv_tokens) + self.time_per_request * requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One direction of the link between attention and FFN.

    Attributes
    ----------
    curve
        Time against tokens [time; tokens].
    load
        Whose tokens: ``worker``, the B tokens that one attention worker sends (or gets back), or
        ``aggregate``, the ``n = A B / F`` tokens that one FFN worker receives (or returns).
    """

    curve: Curve
    load: TransferLoad = "worker"

    def __post_init__(self) -> None:
        _check_curve("transfer curve", self.curve)
        check_choice("transfer load", self.load, get_args(TransferLoad), LatencyModelError)

    def time(self, batch_size: float, ffn_tokens: float) -> float:
        """Return the time for `batch_size` tokens per worker, `ffn_tokens` per FFN worker."""
        return self.curve(float(batch_size if self.load == "worker" else ffn_tokens))


def _order(name: str, layers: list[int]) -> tuple[int, ...]:
    """Return the kind of each layer, from 0, for so many layers of each kind."""
    if name == "blocks":
        return tuple(kind for kind, count in enumerate(layers) for _ in range(count))
    total, passed = sum(layers), [0] * len(layers)
    order = []
    for layer in range(1, total + 1):
        behind = [count * layer - done * total for count, done in zip(layers, passed, strict=True)]
        kind = behind.index(max(behind))
        passed[kind] += 1
        order.append(kind)
    return tuple(order)


def _repeated(numbers: tuple[int, ...], layers: int) -> tuple[int, ...]:
    return (numbers * (-(-layers // len(numbers))))[:layers]


def _named_order(order: Any, attention: tuple[AttentionLayers, ...]) -> LayerOrder:
    """Return the order as it is written shortest; raise if it is not one of these layers."""
    layers = [kind.layers for kind in attention]
    if isinstance(order, str):
        check_choice("layer_order", order, ("blocks", "alternating"), LatencyModelError)
        numbers = tuple(kind + 1 for kind in _order(order, layers))
    else:
        if not isinstance(order, tuple | list) or not 1 <= len(order) <= sum(layers):
            raise LatencyModelError(
                f"layer_order must be blocks, alternating or 1 to {sum(layers)} kinds of layers, "
                f"got {order!r:.60}"
            )
        for number in order:
            check_count("layer_order", number, 1, len(layers), LatencyModelError)
        numbers = _repeated(tuple(order), sum(layers))
        counted = [numbers.count(kind + 1) for kind in range(len(layers))]
        if counted != layers:
            raise LatencyModelError(
                f"layer_order must name each kind of attention layers as often as it has layers, "
                f"{layers}, got {counted}"
            )
    for name in ("blocks", "alternating"):
        if numbers == tuple(kind + 1 for kind in _order(name, layers)):
            return cast(LayerOrder, name)
    shortest = next(
        n for n in range(1, len(numbers) + 1) if _repeated(numbers[:n], len(numbers)) == numbers
    )
    return numbers[:shortest]


LoadRange = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """The loads at which a latency model was measured; None says nothing.

    Attributes
    ----------
    attention_tokens
        KV tokens of one worker and microbatch, (low, high) [tokens].
    ffn_tokens
        Tokens of one FFN worker and microbatch, (low, high) [tokens].
    batch_size
        Requests of one attention worker and microbatch, (low, high) [requests].
    """

    attention_tokens: LoadRange | None = None
    ffn_tokens: LoadRange | None = None
    batch_size: LoadRange | None = None

    def __post_init__(self) -> None:
        for name in ("attention_tokens", "ffn_tokens", "batch_size"):
            bounds = getattr(self, name)
            if bounds is None:
                continue
            if not isinstance(bounds, tuple | list) or len(bounds) != 2:
                raise LatencyModelError(
                    f"validity {name} must be two numbers [low, high], got {bounds!r}"
                )
            low, high = (
                check_number(f"validity {name}", b, error=LatencyModelError) for b in bounds
            )
            if low > high:
                raise LatencyModelError(
                    f"validity {name} must be [low, high] with low <= high, got [{low:g}, {high:g}]"
                )
            object.__setattr__(self, name, (low, high))


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
    step_overhead: float = 0.0
    tokens_per_step: float = 1.0
    drain: bool = False
    validity: Validity = field(default_factory=Validity)
    source: str = ""
    assumptions: tuple[str, ...] = ()
    uncertainty: Uncertainty | None = None

    def __post_init__(self) -> None:
        error = LatencyModelError
        check_choice("time_unit", self.time_unit, get_args(TimeUnit), error)
        object.__setattr__(self, "attention", tuple(self.attention))
        if not self.attention or not all(isinstance(a, AttentionLayers) for a in self.attention):
            raise error("attention must be one or more AttentionLayers")
        object.__setattr__(self, "layer_order", _named_order(self.layer_order, self.attention))
        _check_curve("ffn", self.ffn)
        for name in ("send", "receive"):
            if not isinstance(getattr(self, name), Transfer):
                raise error(f"{name} must be a Transfer")
        overhead = check_number("step_overhead", self.step_overhead, error=error)
        object.__setattr__(self, "step_overhead", overhead)
        tokens = check_number("tokens_per_step", self.tokens_per_step, 1.0, error=error)
        object.__setattr__(self, "tokens_per_step", tokens)
        if self.drain and self.layers == 1:
            raise error("drain needs per-layer times: give the number of layers, or drain = false")
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if self.uncertainty is not None:
            check_coefficients(self, self.uncertainty.coefficients)
        self._check_takes_time()

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
            return _repeated(tuple(number - 1 for number in self.layer_order), self.layers)
        return _order(self.layer_order, [kind.layers for kind in self.attention])

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
            return LinearCurve(slope=coefficients[0], intercept=coefficients[1])

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
        """Return the model with the named coefficients changed (see `coefficients_of`).

        Examples
        --------
        >>> model = LatencyModel.linear(attention=(1.0, 2.0), ffn=(3.0, 4.0))
        >>> model.with_coefficients({"ffn.slope": 5.0}).ffn.slope
        5.0
        """
        return replace_coefficients(self, values)

    def scaled(self, factor: float) -> LatencyModel:
        """Return the model with every time multiplied by `factor` (> 0)."""
        factor = check_number("factor", factor, strict=True, error=LatencyModelError)
        return replace(
            self,
            attention=tuple(
                replace(
                    kind,
                    curve=kind.curve.scaled(factor),
                    time_per_request=kind.time_per_request * factor,
                )
                for kind in self.attention
            ),
            ffn=self.ffn.scaled(factor),
            send=replace(self.send, curve=self.send.curve.scaled(factor)),
            receive=replace(self.receive, curve=self.receive.curve.scaled(factor)),
            step_overhead=self.step_overhead * factor,
            uncertainty=self.uncertainty.scaled(factor) if self.uncertainty else None,
        )
