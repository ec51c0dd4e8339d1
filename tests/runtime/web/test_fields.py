"""runtime/web/fields.py: what the form shows is what the spec says, and what it says back is what is asked with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.config import ChatConfig
from runtime.web.fields import as_fields, from_fields

SPEC = ChatConfig(
    system="You are Aria.",
    max_new_tokens=128,
    temperature=0.0,
    top_k=50,
    top_p=0.95,
    repetition_penalty=1.1,
    seed=7,
    stop=("END.", "\n\nUser:", "C:\\new", "\t"),
    plugins=("calculate",),
)


def test_fields_begin_with_the_specs_values_and_unchanged_are_the_spec():
    fields = as_fields(SPEC)
    assert fields["stop"] == "END.\n\\n\\nUser:\nC:\\\\new\n\\t"
    assert {name: value for name, value in fields.items() if name != "stop"} == {
        "system": "You are Aria.",
        "temperature": 0.0,
        "top_k": 50,
        "top_p": 0.95,
        "max_new_tokens": 128,
        "repetition_penalty": 1.1,
        "seed": 7,
    }
    assert from_fields(SPEC, fields) == SPEC


@pytest.mark.parametrize("system", [None, ""])
def test_an_empty_system_text_is_none(system):
    spec = replace(SPEC, system=system)
    assert from_fields(spec, as_fields(spec)).system is None


def test_empty_lines_are_no_stop_texts():
    assert from_fields(SPEC, {**as_fields(SPEC), "stop": "\nEND.\n\n"}).stop == ("END.",)
