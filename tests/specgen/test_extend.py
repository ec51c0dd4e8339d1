"""extends: a spec builds on others, and each value keeps the place that it came from."""

from __future__ import annotations

import pytest

from specgen.compiler import compile_spec
from specgen.diagnostics import SpecError
from specgen.extend import load
from tests.conftest import SMALL

PARENT = SMALL + "train: {epochs: 3, batch_size: 4, warmup_ratio: 0.1}\nprofiles:\n  short: {train: {epochs: 1}}\n"


@pytest.fixture
def specs(tmp_path, monkeypatch):
    """Writes specs by their paths; returns the folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(**texts):
        for name, text in texts.items():
            file = tmp_path / f"{name.replace('__', '/')}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return write


def test_a_child_says_only_what_differs(specs):
    folder = specs(parent=PARENT, child="extends: parent.yaml\nname: child\ntrain: {batch_size: 2}\n")
    tree = load(folder / "child.yaml")
    assert tree.at("train").plain() == {"epochs": 3, "batch_size": 2, "warmup_ratio": 0.1}
    assert "extends" not in tree.children
    assert compile_spec(folder / "child.yaml").plan.train.batch_size == 2


def test_values_keep_their_files_and_lines(specs):
    folder = specs(parent=PARENT, child="extends: parent.yaml\nname: child\ntrain:\n  batch_size: 2\n")
    tree = load(folder / "child.yaml")
    places = [tree.at("train", key).place for key in ("epochs", "batch_size")]
    assert [(place.file, place.line) for place in places] == [(str(folder / "parent.yaml"), 11), (str(folder / "child.yaml"), 4)]


def test_the_other_way_to_say_a_thing_takes_the_place_of_the_parents(specs):
    folder = specs(parent=PARENT, child="extends: parent.yaml\nname: child\ntrain: {max_steps: 7, warmup_steps: 1}\n")
    plan = compile_spec(folder / "child.yaml").plan
    assert (plan.train.max_steps, plan.train.epochs, plan.train.warmup_steps) == (7, None, 1)


def test_lists_are_replaced(specs):
    own = "data: {sources: [{synthetic: {messages: [{user: Bye}, {assistant: Goodbye.}]}}]}\n"
    folder = specs(parent=PARENT, child=f"extends: parent.yaml\nname: child\n{own}")
    assert "Goodbye." in compile_spec(folder / "child.yaml").files["config.yaml"]
    assert "Hello." not in compile_spec(folder / "child.yaml").files["config.yaml"]


def test_profiles_of_the_parent_are_there_and_can_be_changed(specs):
    child = "extends: parent.yaml\nname: child\nprofiles:\n  short: {train: {seed: 7}}\n  long: {train: {epochs: 9}}\n"
    folder = specs(parent=PARENT, child=child)
    short = compile_spec(folder / "child.yaml", "short").plan
    assert (short.name, short.train.epochs, short.train.seed) == ("child-short", 1, 7)
    assert compile_spec(folder / "child.yaml", "long").plan.train.epochs == 9


def test_paths_start_at_the_file_that_says_them(specs):
    folder = specs(
        shared__base=PARENT,
        team__middle="extends: ../shared/base.yaml\nname: middle\ntrain: {seed: 5}\n",
        child="extends: team/middle.yaml\nname: child\n",
    )
    assert compile_spec(folder / "child.yaml").plan.train.seed == 5


def test_of_several_the_later_one_wins(specs):
    folder = specs(
        base=PARENT,
        small="extends: base.yaml\nname: small\ntrain: {seed: 1, batch_size: 1}\n",
        large="extends: base.yaml\nname: large\ntrain: {seed: 2}\n",
        child="extends: [small.yaml, large.yaml]\nname: child\n",
    )
    plan = compile_spec(folder / "child.yaml").plan
    assert (plan.train.seed, plan.train.batch_size) == (2, 4)


def test_a_chain_has_an_end(specs):
    texts = {f"s{number}": f"extends: s{number + 1}.yaml\nname: s{number}\n" for number in range(20)}
    folder = specs(**texts)
    with pytest.raises(SpecError) as raised:
        load(folder / "s0.yaml")
    assert raised.value.diagnostics[0].message == "more than 16 specs build on one another"


def test_a_spec_may_not_extend_itself(specs):
    folder = specs(own="extends: ./own.yaml\nname: own\n")
    with pytest.raises(SpecError) as raised:
        load(folder / "own.yaml")
    assert raised.value.diagnostics[0].code == "SG112"


def test_a_family_that_meets_again_and_again_has_an_end(specs):
    texts = {f"s{number}": f"extends: [s{number + 1}.yaml, s{number + 1}.yaml]\nname: s\n" for number in range(12)}
    folder = specs(**texts, s12=PARENT)
    with pytest.raises(SpecError) as raised:
        load(folder / "s0.yaml")
    assert raised.value.diagnostics[0].message == "more than 16 specs build on one another"


@pytest.mark.parametrize(("setting", "key"), [("extends=parent.yaml", "extends"), ("profiles.short.train.epochs=2", "profiles")])
def test_what_is_read_before_set_is_not_passed_over(specs, setting, key):
    folder = specs(parent=PARENT)
    with pytest.raises(SpecError) as raised:
        compile_spec(folder / "parent.yaml", settings=(setting,))
    (fault,) = raised.value.diagnostics
    assert (fault.code, fault.message) == ("SG117", f"{key} has no effect with --set: it is read before")
