"""Is it said where the emitted system runs router and shared experts otherwise than planned?"""

from __future__ import annotations

import dataclasses

import pytest

from afdplan.deploy.emit import deployment_of
from afdplan.deploy.registry import find_target
from tests.unit.deploy.cases import pair_plan, request_for


def said(name, version=None, options=None, **sides):
    plan = pair_plan(
        m=find_target(name, version).microbatches[-1],
        hardware="ascend-910c" if name == "vllm-afd-ascend" else "h200",
    )
    plan = dataclasses.replace(plan, inputs={**plan.inputs, **sides})
    request = request_for(name, plan, **(options or {}))
    assumed = deployment_of(request, find_target(name, version)).assumed
    return [text for text in assumed if "as planned with" in text]


@pytest.mark.parametrize("name", ["vllm-afd-plugin", "fastafd", "stepmesh", "sglang"])
def test_of_a_plan_that_asked_for_no_side_nothing_is_said(name):
    assert said(name, router_side=None) == []


def test_each_connector_has_the_router_on_its_side():
    assert said("vllm-afd-plugin", router_side="attention") == []  # flag is emitted
    assert said("vllm-afd-plugin", "2e4378f", router_side="attention") == []
    assert said("vllm-afd-plugin", router_side="ffn") == []
    # Its Qwen3 was not seen to have it, and CAMP2p refuses it.
    for name, options in {"vllm-afd-plugin": {"architecture": "qwen3_moe"},
                          "vllm-afd-ascend": {}}.items():  # fmt: skip
        (text,) = said(name, options=options, router_side="attention")
        assert text.startswith("not the router on the attention side")
        assert text.endswith("plan with --router-side ffn")
    assert said("vllm-afd-plugin", "6fa5b0d", router_side="attention") == []  # flag is emitted
    (text,) = said("vllm-afd-plugin", "6fa5b0d", router_side="ffn")
    assert text.endswith("plan with --router-side attention")
    assert said("fastafd", router_side="attention") == []


def test_shared_experts_elsewhere_and_systems_that_nobody_asked():
    (text,) = said("stepmesh", shared_experts_side="attention")
    assert text.endswith("plan with --shared-experts-side ffn")
    (text,) = said("sglang", router_side="attention")
    assert "it is not known where sglang has that" in text
