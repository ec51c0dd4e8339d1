"""specgen/compose.py: profiles and --set, and where each value came from."""

from __future__ import annotations

import pytest

from specgen.compose import with_profile, with_settings
from specgen.diagnostics import SpecError
from specgen.source import parse

PROFILES = """\
train: {epochs: 3, seed: 1}
model_note: 1
profiles:
  quick:
    train: {epochs: 1}
  full: {name: whole, adapter: {dora: {r: 4}}, smoke: []}
"""


@pytest.fixture
def tree(small):
    text = PROFILES.replace("model_note: 1", "adapter: {lora: {r: 8, alpha: 16}}\nsmoke: [{user: a, expect: {contains: [b]}}]")
    return parse(small + text, "spec.yaml")


def faults(call, *arguments):
    with pytest.raises(SpecError) as caught:
        call(*arguments)
    return [(fault.code, fault.message, fault.hint) for fault in caught.value.diagnostics]


def test_without_a_profile_the_spec_stays_as_it_is(tree):
    assert with_profile(tree, None) is tree


def test_a_profile_is_laid_over_key_by_key_and_gives_its_name(tree):
    laid = with_profile(tree, "quick")
    assert laid.at("train").plain() == {"epochs": 1, "seed": 1}
    assert laid.at("name").value == "small-quick"
    assert tree.at("train", "epochs").value == 3


def test_a_profile_may_name_the_result_itself(tree):
    assert with_profile(tree, "full").at("name").value == "whole"


def test_another_variant_replaces_the_one_below(tree):
    assert with_profile(tree, "full").at("adapter").plain() == {"dora": {"r": 4}}


def test_the_same_variant_is_merged(tree):
    assert with_settings(tree, ("adapter.lora.r=4",)).at("adapter").plain() == {"lora": {"r": 4, "alpha": 16}}


def test_lists_are_replaced(tree):
    assert with_profile(tree, "full").at("smoke").plain() == []


def test_values_keep_the_place_that_they_came_from(tree):
    laid = with_settings(with_profile(tree, "quick"), ("train.seed=2",))
    assert str(laid.at("train", "epochs").place) == "spec.yaml:16:21"
    assert str(laid.at("train", "seed").place) == "--set train.seed=2"
    assert str(laid.at("train").key) == "spec.yaml:11:1"


def test_settings_are_laid_over_in_order(tree):
    assert with_settings(tree, ("train.seed=2", "train.seed=3")).at("train", "seed").value == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("no", "no"), ("010", "010"), ("null", None), ("", None), ('"1"', "1"), ("[a, b]", ["a", "b"]), ("a=b", "a=b")],
)
def test_a_setting_is_read_as_the_spec_is(tree, text, value):
    assert with_settings(tree, (f"x.y={text}",)).at("x", "y").plain() == value


@pytest.mark.parametrize("setting", ["train.epochs", "=1", "train..epochs=1", "train.=1"])
def test_a_setting_without_key_and_value_is_refused(tree, setting):
    assert faults(with_settings, tree, (setting,)) == [("SG110", "--set takes KEY=VALUE", "for example --set train.epochs=1")]


def test_a_setting_that_is_no_yaml_is_refused(tree):
    assert faults(with_settings, tree, ("a=[1",))[0][0] == "SG003"


def test_an_unknown_profile_is_refused_with_the_nearest(tree):
    assert faults(with_profile, tree, "qiuck") == [("SG109", "the spec has no profile 'qiuck'", "did you mean 'quick'?")]
    assert faults(with_profile, tree, "x") == [("SG109", "the spec has no profile 'x'", "its profiles are quick, full")]


def test_a_profile_of_a_spec_without_profiles_is_refused(small):
    assert faults(with_profile, parse(small, "spec.yaml"), "x") == [("SG109", "the spec has no profile 'x'", None)]


def test_a_setting_can_choose_the_other_of_two_ways_to_say_it(compiled_with):
    plan = compiled_with("train.epochs=2", "train.max_steps=5").plan
    assert (plan.train.epochs, plan.train.total_steps) == (None, 5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("a." * 5000 + "b=1", "--set has a key of 5,001 parts; at most 60 are allowed"),
        ("name=\udcff", "--set is not UTF-8 text"),
    ],
    ids=["deep", "bytes"],
)
def test_a_hostile_setting_is_refused(tree, setting, message):
    with pytest.raises(SpecError) as raised:
        with_settings(tree, (setting,))
    (fault,) = raised.value.diagnostics
    assert (fault.code, fault.message, fault.place.file) == ("SG110", message, "--set")
