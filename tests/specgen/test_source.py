"""specgen/source.py: YAML 1.2 scalars, places, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from specgen.diagnostics import Place, SpecError
from specgen.source import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse, parse_scalar, read, scalar

CASES = Path(__file__).parents[1] / "cases"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))


def case(name):
    return parse((CASES / name).read_text(encoding="utf-8"), name)


def value(text):
    found = parse(f"key: {text}", "spec.yaml").plain()["key"]
    return type(found), found


def refusal(text):
    with pytest.raises(SpecError) as caught:
        parse(text, "spec.yaml")
    return [(fault.code, fault.place.line, fault.place.column, fault.message) for fault in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("-12", -12),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e-3", -0.0015),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_null_are_read_as_such(text, expected):
    assert value(text) == (type(expected), expected)


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "010",
        "0x10",
        "0o10",
        "1_000",
        "12:30:00",
        "2024-01-02",
        ".inf",
        "-.inf",
        ".nan",
        "1e999",
        "1.1.0",
    ],
)
def test_what_other_readers_turn_into_something_else_stays_text(text):
    assert value(text) == (str, text)


@pytest.mark.parametrize("text", ['"1"', "'true'", '"null"', "!!str 1.10"])
def test_text_that_says_that_it_is_text_stays_text(text):
    assert value(text) == (str, yaml.safe_load(text))


def test_the_numbers_of_case_o14_are_numbers_unless_they_are_quoted():
    expected = {"a": 1e-4, "b": 1e-4, "c": 1e-4, "d": 5e-5, "e": 5e-4, "f": 1e-2, "g": 1000.0, "h": 5e8, "i": "1e-4"}
    found = {key[0]: number for key, number in case("o14.yaml").plain().items()}
    assert found == expected
    assert {type(number) for key, number in found.items() if key != "i"} == {float}


def test_the_words_of_case_o16_stay_words_and_the_version_keeps_how_it_was_written():
    tree = case("o16.yaml")
    words = {key: node.value for key, node in tree.children.items() if key != "model_revision"}
    assert words == {
        "mixed_precision": "no",
        "save_strategy": "no",
        "eval_strategy": "off",
        "lr_scheduler": "on",
        "report_to": "none",
        "run_name": "2024-01-02",
        "system_prompt": "yes",
    }
    version = tree.at("model_revision")
    assert (version.value, version.raw) == (1.1, "1.10")


def test_a_long_run_of_digits_is_read_at_once():
    assert scalar("9" * 99) == int("9" * 99)
    assert scalar("9" * 10_000) == "9" * 10_000


def test_every_key_and_value_knows_where_it_stands():
    tree = parse("a: 1\nb:\n  - {c: text}\n", "spec.yaml")
    assert tree.at("b").key == Place(file="spec.yaml", line=2, column=1)
    assert tree.at("b", 0, "c").key == Place(file="spec.yaml", line=3, column=6)
    assert tree.at("b", 0, "c").place == Place(file="spec.yaml", line=3, column=9, width=4)
    assert tree.at("b", 1) is None
    assert tree.at("a", "none") is None


def test_columns_count_characters_not_bytes():
    assert parse("été: Ünï", "spec.yaml").at("été").place == Place(file="spec.yaml", line=1, column=6, width=3)


def test_byte_order_mark_and_windows_line_ends_are_no_part_of_a_spec(tmp_path):
    (tmp_path / "spec.yaml").write_bytes(b"\xef\xbb\xbfa: x\r\nb: y\r\n")
    tree = parse(read(tmp_path / "spec.yaml"), "spec.yaml")
    assert tree.plain() == {"a": "x", "b": "y"}
    assert tree.at("b").key.line == 2


def test_a_key_given_twice_names_both_lines():
    with pytest.raises(SpecError) as caught:
        case("o15_dup_top.yaml")
    (fault,) = caught.value.diagnostics
    assert (fault.code, fault.place.line, fault.message) == ("SG005", 6, "the key 'train' is here twice")
    assert [(place.line, text) for place, text in fault.related] == [(1, "the first is here")]


def test_a_key_given_twice_in_a_section_names_both_lines():
    with pytest.raises(SpecError) as caught:
        case("o15_dup_nested.yaml")
    (fault,) = caught.value.diagnostics
    assert (fault.code, fault.place.line, fault.message) == ("SG005", 4, "the key 'max_length' is here twice")
    assert [(place.line, text) for place, text in fault.related] == [(2, "the first is here")]


def test_a_key_in_quotes_is_the_same_key():
    assert refusal("a: 1\n'a': 2\n") == [("SG005", 2, 1, "the key 'a' is here twice")]


def test_a_tab_in_the_indentation_is_named():
    with pytest.raises(SpecError) as caught:
        case("o15_tab.yaml")
    (fault,) = caught.value.diagnostics
    assert (fault.code, fault.place.line, fault.place.column) == ("SG004", 2, 1)
    assert "tab" in fault.message


def test_merged_keys_stand_behind_those_of_the_section_itself():
    tree = case("o15_merge_ok.yaml")
    assert tree.at("train").plain() == {"epochs": 1, "max_length": 2048}
    assert tree.at("train", "epochs").place.line == 2
    assert tree.at("train", "max_length").place.line == 6


def test_of_several_merged_mappings_the_first_wins():
    tree = parse("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n", "spec.yaml")
    assert tree.at("c").plain() == {"x": 1, "y": 2}


def test_a_quoted_merge_key_is_a_key():
    assert parse('a: {"<<": 1}', "spec.yaml").plain() == {"a": {"<<": 1}}


def test_all_faults_of_a_text_come_at_once():
    assert [fault[:2] for fault in refusal("a: 1\na: 2\nb: !!set {x}\n[c]: 3\n")] == [("SG005", 2), ("SG008", 3), ("SG009", 4)]


def test_nesting_is_read_up_to_the_limit():
    def nested(depth):
        return "a: " + "[" * depth + "]" * depth

    assert parse(nested(MAX_DEPTH), "spec.yaml")
    assert refusal(nested(MAX_DEPTH + 1))[0][0] == "SG008"
    assert [fault[:2] for fault in refusal(nested(100_000))] == [("SG003", 1)]


def test_the_number_of_values_is_limited_aliases_included():
    fits = "a: [" + "x," * (MAX_NODES - 2) + "]"
    assert len(parse(fits, "spec.yaml").at("a").items) == MAX_NODES - 2
    assert refusal(fits[:-1] + "x]")[0][0] == "SG008"
    assert [fault[0] for fault in refusal(BOMB)] == ["SG008"]


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "spec.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError) as caught:
        read(tmp_path / "spec.yaml")
    assert [fault.code for fault in caught.value.diagnostics] == ["SG008"]


@pytest.mark.parametrize(("name", "what"), [("none.yaml", "none.yaml does not exist"), (".", ". is a folder, not a spec file")])
def test_a_path_without_a_file_is_named(tmp_path, monkeypatch, name, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        read(Path(name))
    assert [(fault.code, fault.message) for fault in caught.value.diagnostics] == [("SG001", what)]


def test_a_setting_is_read_by_the_same_rules_and_stands_where_the_flag_is():
    place = Place(file="--set a=1e-4", line=1, column=1)
    assert parse_scalar("1e-4", place).value == 1e-4
    assert parse_scalar("no", place).value == "no"
    assert parse_scalar("", place).value is None
    assert parse_scalar("[a, {b: 2}]", place).plain() == ["a", {"b": 2}]
    assert parse_scalar("[a, b]", place).at(1).place == place
