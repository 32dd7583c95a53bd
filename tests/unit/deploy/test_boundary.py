"""Is it said where the emitted system runs router and shared experts otherwise than planned?"""

from __future__ import annotations

import dataclasses

import pytest

from afdplan.deploy.emit import deployment_of
from afdplan.deploy.registry import find_target
from tests.unit.deploy.cases import pair_plan, request_for


def said(name, version=None, **sides):
    plan = pair_plan(m=find_target(name, version).microbatches[-1])
    plan = dataclasses.replace(plan, inputs={**plan.inputs, **sides})
    assumed = deployment_of(request_for(name, plan), find_target(name, version)).assumed
    return [text for text in assumed if "as planned with" in text]


@pytest.mark.parametrize("name", ["vllm-afd-plugin", "fastafd", "stepmesh", "sglang"])
def test_of_a_plan_that_asked_for_no_side_nothing_is_said(name):
    assert said(name, router_side=None) == []


def test_each_connector_has_the_router_on_its_side():
    (text,) = said("vllm-afd-plugin", router_side="attention")
    assert text.startswith("not the router on the attention side")
    assert text.endswith("plan with --router-side ffn")
    assert said("vllm-afd-plugin", router_side="ffn") == []
    assert said("vllm-afd-plugin", "6fa5b0d", router_side="attention") == []  # flag is emitted
    (text,) = said("vllm-afd-plugin", "6fa5b0d", router_side="ffn")
    assert text.endswith("plan with --router-side attention")
    assert said("fastafd", router_side="attention") == []


def test_shared_experts_elsewhere_and_systems_that_nobody_asked():
    (text,) = said("stepmesh", shared_experts_side="attention")
    assert text.endswith("plan with --shared-experts-side ffn")
    (text,) = said("sglang", router_side="attention")
    assert "it is not known where sglang has that" in text
