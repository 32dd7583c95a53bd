"""Any latency model survives its file, in both forms."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.files.latency_file import load_latency, save_latency
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel, coefficients_of
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.model.variation import ExpertLoad, Scatter

parts = st.just(0.0) | st.floats(0.001, 1)
numbers = st.just(0.0) | st.floats(min_value=1e-60, max_value=1e60)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@st.composite
def curves(draw):
    kind = draw(st.sampled_from(["linear", "roofline", "table"]))
    if kind == "linear":
        return LinearCurve(slope=draw(numbers), intercept=draw(numbers))
    if kind == "roofline":
        return RooflineCurve(
            floor=draw(numbers),
            slope=draw(numbers),
            intercept=draw(numbers) * draw(st.sampled_from([1, -1])),
        )
    # Apart by a token at least: steeper tables are refused by the latency model.
    places = st.integers(0, 10**9).map(float)
    loads = sorted(draw(st.sets(places, min_size=1, max_size=6)))
    times = sorted(draw(st.lists(numbers, min_size=len(loads), max_size=len(loads))))
    return TabulatedCurve(loads=loads, times=times)


@st.composite
def expert_loads(draw, layers):
    experts = draw(st.integers(1, 40))
    row = np.random.default_rng(experts).dirichlet(np.ones(experts)).tolist()
    rows = [row] * draw(st.sampled_from([0, 1, layers]))
    return ExpertLoad(
        experts=experts,
        experts_per_token=draw(st.integers(1, experts)),
        ranks_per_worker=draw(st.integers(1, 64)),
        popularity=rows,
        overdispersion=draw(st.floats(1, 100)),
        imbalance=draw(st.none() | st.floats(1, 30)),
        imbalance_cv=draw(parts) * 3,
        tokens_per_request=draw(st.integers(1, 8)),
        share=draw(parts),
    )


@st.composite
def models(draw):
    kinds = draw(
        st.lists(
            st.builds(
                AttentionLayers,
                curve=curves(),
                layers=st.integers(2, 100),
                time_per_request=numbers,
                time_per_context=numbers,
                context_window=st.none() | st.integers(1, 10**6),
            ),
            min_size=1,
            max_size=3,
        )
    )
    links = st.builds(Transfer, curve=curves(), load=st.sampled_from(["worker", "aggregate"]))
    send = draw(links)
    shares = st.floats(0.001, 1)
    dense = draw(st.just(0.0) | shares)
    coupling = Coupling(
        send_ffn=draw(st.just(0.0) | shares),
        receive_ffn=draw(shares),
        one_by_one=draw(st.booleans()),
        launch=draw(st.sampled_from([0.0, 2e-5, 3.0])),
        fan_in="whole" if dense else draw(st.sampled_from(["even", "whole"])),
        dense_share=dense,
    )
    total = sum(kind.layers for kind in kinds)
    experts = draw(st.none() | expert_loads(total))
    if experts is not None and experts.share + coupling.dense_share > 1:
        experts = replace(experts, share=0.0)
    scatters = dict.fromkeys(("attention", "send", "ffn", "receive"), parts)
    order = np.repeat(np.arange(len(kinds)) + 1, [kind.layers for kind in kinds])
    mixed = np.random.default_rng(draw(st.integers(0, 99))).permutation(order).tolist()
    model = LatencyModel(
        layer_order=draw(st.sampled_from(["blocks", "alternating", mixed])),
        scatter=draw(
            st.just(Scatter())
            | st.builds(Scatter, **scatters, law=st.sampled_from(["gamma", "lognormal"]))
        ),
        experts=experts,
        name=draw(text.filter(bool)),
        time_unit=draw(st.sampled_from(["s", "abstract"])),
        attention=tuple(kinds),
        ffn=draw(curves()),
        send=send,
        receive=draw(st.just(send) | links),
        step_overhead=1e-3 + draw(numbers),  # a step takes some time
        tokens_per_step=draw(st.floats(1, 10)),
        drain=draw(st.booleans()),
        coupling=draw(st.just(Coupling()) | st.just(coupling)),
        validity=Validity(
            batch_size=draw(st.none() | st.tuples(numbers, numbers).map(lambda b: tuple(sorted(b))))
        ),
        source=draw(text),
        assumptions=tuple(draw(st.lists(text, max_size=2))),
    )
    names = draw(st.sets(st.sampled_from(sorted(coefficients_of(model))), max_size=3))
    if names:
        errors = draw(st.lists(st.floats(0, 1e6), min_size=len(names), max_size=len(names)))
        uncertainty = Uncertainty(
            coefficients=tuple(sorted(names)), covariance=np.diag(np.square(errors))
        )
        model = LatencyModel(
            **{f: getattr(model, f) for f in model.__dataclass_fields__ if f != "uncertainty"},
            uncertainty=uncertainty,
        )
    return model


@settings(max_examples=60, deadline=None)
@given(models(), st.sampled_from(["model.toml", "model.json"]))
def test_round_trip(model, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        save_latency(model, path)
        assert load_latency(path) == model
