"""Values of any kind survive being written as YAML, read by 1.2's rules and by 1.1's."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from specgen.quoting import block, scalar
from specgen.source import parse

awkward = st.sampled_from(["yes", "1e-4", "a\nb", " x\n y\n", "~", "\t", "#"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | awkward
numbers = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8)


@given(scalars)
@settings(deadline=None)
def test_a_scalar_survives(value):
    text = f"key: {scalar(value)}\n"
    assert parse(text, "x").plain() == {"key": value} == yaml.load(text, Loader=yaml.CSafeLoader)


@given(values)
@settings(deadline=None)
def test_a_nested_value_survives(value):
    text = f"top:\n  {block({'key': value}, 2)}\n"
    assert parse(text, "x").plain() == {"top": {"key": value}} == yaml.load(text, Loader=yaml.CSafeLoader)
