"""Do many rules of naming cost little, and do short cuts change no answer?"""

import re
import time
from fnmatch import fnmatchcase

import pytest

from afdplan.calibration import checkpoint_rules
from afdplan.calibration.checkpoint_format import checkpoint_format
from afdplan.calibration.checkpoint_rules import PLAIN, Resolver, Rule, Stored
from afdplan.errors import InvalidInputError

BEGINNINGS = ("", "model.", "language_model.model.", "model.language_model.", "backbone.")
NAMES = [
    f"layers.{layer}.{tail}"
    for layer in (0, 3, 13, 31, 93)
    for tail in (
        "mlp.experts.3.up_proj",
        "mlp.experts.13.down_proj",
        "mlp.gate_up_proj",
        "self_attn.q_proj",
        "mixer.in_proj",
        "mlp.x3",
    )
]
PATTERNS = [
    *(r"re:.*layers\.3\.mlp\.(gate|up)_proj", r"re:model\.layers\.(3|13)\.", r"re:.*3\..*up_proj"),
    *(r"re:.*\.1?3\.mlp", r"re:.*experts\.3\..*", r"re:.*\.31\.m", r"re:(?i).*MLP\.", "re:.*x3?$"),
    *(r"re:.*mlp\.x3+", r"re:.*q_proj|.*in_proj", r"re:.*\x6dixer", r"re:[^b]*layers\.1\d", "re:l"),
    *(r"re:model.layers.3.mlp.*", r"re:.*layers\.[0-9]\.", r"re:.*(?!mlp)self", r"re:backbone.*m"),
    *(
        "*.3.*",
        "*3*",
        "model.layers.[13]*.mlp*",
        "model.layers.?.mlp.x3",
        "*experts.1[]3]*",
        "*[!a",
    ),
    *("layers.3.*", "*layers.3*", "model.layers.*.mlp.experts.3*", "backbone*_proj", "*"),
]


def fits(pattern, name):
    """A pattern's word by the documented rule alone: any beginning, and what a module holds."""
    if pattern.startswith("re:"):
        return any(re.match(pattern[3:], begin + name) for begin in BEGINNINGS)
    parts = name.split(".")
    held = [".".join(parts[:k]) for k in range(1, len(parts) + 1)]
    inner = pattern.removeprefix("model.")
    if inner.startswith("layers."):
        return any(fnmatchcase(one, inner) for one in held)
    return any(fnmatchcase(begin + one, pattern) for begin in BEGINNINGS for one in held)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_names_what_the_plain_rule_says(pattern):
    asked = Resolver([Rule(pattern, PLAIN)])
    expected = {name for name in NAMES if fits(pattern, name)}
    assert {name for name in NAMES if asked.of(name)} == expected
    if asked.layers is not None:  # the other layers are all alike
        tails = [n.split(".", 2)[2] for n in expected if n.split(".")[1] not in asked.layers]
        others = sum(str(layer) not in asked.layers for layer in (0, 3, 13, 31, 93))
        assert all(tails.count(tail) == others for tail in tails)


@pytest.mark.parametrize("back", [False, True])
def test_the_first_of_many_patterns_decides(back):
    patterns = PATTERNS[::-1] if back else PATTERNS
    rules = [Rule(pattern, Stored("int8", k)) for k, pattern in enumerate(patterns)]
    asked = Resolver([*rules, *rules[::-1]])
    for name in NAMES:
        first = next(k for k, pattern in enumerate(patterns) if fits(pattern, name))
        assert asked.of(name) == Stored("int8", first), name


@pytest.mark.parametrize(
    "pattern",
    [
        r"re:.*mlp\.x{}_proj.*",
        r"re:.*layers\.\d+\.mlp\.x{}_proj.*",
        r"re:model\.layers\.{}\.mlp\.(a|b)_proj",
        "*x{}*",
    ],
)
def test_hundreds_of_rules_are_tried_only_where_their_words_are_in_a_name(monkeypatch, pattern):
    tried = []
    plain = checkpoint_rules._test

    def counted(pattern):
        test = plain(pattern)
        return test._replace(fits=lambda names: tried.append(names) or test.fits(names))

    monkeypatch.setattr(checkpoint_rules, "_test", counted)
    ignored = [pattern.format(k) for k in range(300)]
    quantization = {"quant_method": "fp8", "ignore": ignored}
    found = checkpoint_format({"num_hidden_layers": 94, "num_experts": 128}, quantization)
    assert found.weights == "fp8"
    assert len(tried) < 10 * 94 * 30  # of 94 layers of some 200 names, 6 million times


@pytest.mark.parametrize(
    "ignored",
    [
        [f"re:.*[~{chr(k)}].*[~].*[~].*[~].*" for k in range(300, 597)],
        [f"re:.*.*.*.*.*[~{chr(k)}]" for k in range(300, 400)],
        [f"re:(?<!a).*.*.*.*.*[~{k}]" for k in range(3)],  # Python alone knows it
        [f"re:((a?.){{9}}){{9}}.*.*[~{k}]" for k in range(30)],
    ],
)
def test_patterns_that_fit_everywhere_and_take_for_ever_are_refused_at_once(ignored):
    began = time.process_time()
    with pytest.raises(InvalidInputError, match="patterns, which take too long to try"):
        checkpoint_format(
            {"num_hidden_layers": 94, "num_experts": 128},
            {"quant_method": "fp8", "ignore": ignored},
        )
    assert time.process_time() - began < 6  # a minute and more where each is tried


def test_patterns_of_megabytes_are_refused_before_they_are_read():
    began = time.process_time()
    with pytest.raises(InvalidInputError, match="1 patterns, which take too long to read"):
        checkpoint_format({}, {"quant_method": "fp8", "ignore": ["*" + "[a" * 40_000]})
    assert time.process_time() - began < 5


def test_honest_expressions_of_many_repetitions_are_answered():
    """Of six and more repetitions, and one that asks first what it shall not be."""
    expressions = (
        r"re:.*layers\.\d+\.mlp\.experts\.\d+\.(gate|up)_proj.*",
        r"re:^(?!.*\.layers\.\d+\.mlp\.experts\..*\.(gate|down)_proj.*).*x$",
        r"re:(model\.)?(layers\.\d+\.)*mlp\.[a-z]+\.\d+\.\w+x?",
    )
    rules = [Rule(one, Stored("int8", k)) for k, one in enumerate(expressions)]
    asked = Resolver(rules)
    bits = {
        "layers.3.mlp.experts.17.up_proj": 0, "layers.3.mlp.experts.17.down_proj": 2,
        "layers.3.mlp.experts.17.x": 1, "layers.31.self_attn.x": 1,
    }  # fmt: skip
    assert {name: asked.of(name).bits for name in bits} == bits
    assert asked.of("layers.31.self_attn.q_proj") is None
