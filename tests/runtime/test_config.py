"""runtime/config.py: config.yaml is read strictly, and back."""

from __future__ import annotations

import pytest
import yaml

from runtime import config as configs

HINT = "  hint: compile the spec again with this version of specgen; the file is not for editing"


@pytest.fixture(scope="module")
def plain(tmp_path_factory, compiled):
    """The content of a compiled config.yaml."""
    return (compiled(tmp_path_factory.mktemp("config")) / "config.yaml").read_text(encoding="utf-8")


@pytest.fixture
def refusal(tmp_path, plain, fault_of):
    """What is said of a config.yaml after an edit of its content, without the path and the hint."""

    def said(edit):
        content = yaml.safe_load(plain)
        edit(content)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        text = fault_of(configs.load, tmp_path)
        start = f"error SG402: {tmp_path / 'config.yaml'} does not fit this version: "
        assert text.startswith(start), text
        assert text.endswith("\n" + HINT), text
        return text[len(start) : -len(HINT) - 1]

    return said


def test_a_compiled_config_is_read_and_written_back_the_same(tmp_path, plain):
    (tmp_path / "config.yaml").write_text(plain, encoding="utf-8")
    written = configs.to_plain(configs.load(tmp_path))
    read = yaml.safe_load(plain)
    assert written["train"] == read["train"]
    assert written["chat"] == read["chat"]
    assert written["export"] == read["export"]
    assert list(written) == list(read)


def test_a_folder_that_is_not_there_is_named(tmp_path, fault_of):
    expected = f"error SG401: {tmp_path}/none is no compiled folder: No such file or directory\n  hint: specgen compile SPEC makes one"
    assert fault_of(configs.load, tmp_path / "none") == expected


def test_an_unknown_key_is_named(refusal):
    assert refusal(lambda content: content["train"].update(extra=1)) == "config.train differs in extra"


def test_a_missing_key_is_named(refusal):
    assert refusal(lambda content: content["chat"].pop("stop")) == "config.chat differs in stop"


def test_text_for_a_number_is_refused(refusal):
    assert refusal(lambda content: content["train"].update(learning_rate="1e-4")) == "config.train.learning_rate is '1e-4'"


def test_a_truth_value_for_a_number_is_refused(refusal):
    assert refusal(lambda content: content["train"].update(seed=True)) == "config.train.seed is True"


def test_a_word_outside_its_choice_is_refused(refusal):
    assert refusal(lambda content: content["model"].update(dtype="float8")) == "config.model.dtype is 'float8'"


def test_text_for_a_list_is_refused(refusal):
    assert refusal(lambda content: content["chat"].update(stop="END")) == "config.chat.stop is no list"


def test_a_wrong_item_is_named_by_its_place_in_the_list(refusal):
    assert refusal(lambda content: content["chat"].update(stop=["END", 1])) == "config.chat.stop[1] is 1"


def test_a_fault_inside_a_variant_is_named_with_the_variant(refusal):
    assert refusal(lambda content: content["adapter"]["lora"].update(r=4.5)) == "config.adapter.lora.r is 4.5"
    assert refusal(lambda content: content["model"]["base"]["local"].pop("path")) == "config.model.base.local differs in path"


def test_an_unknown_variant_is_refused(refusal):
    assert refusal(lambda content: content.update(adapter={"dora": {}})) == "config.adapter is no lora"


def test_a_list_for_a_mapping_is_refused(refusal):
    def edit(content):
        content["data"]["sources"][0]["synthetic"].update(variables=[1])

    assert refusal(edit) == "config.data.sources[0].synthetic.variables is no mapping"


def test_a_variable_without_a_value_is_refused(refusal):
    def edit(content):
        content["data"]["sources"][0]["synthetic"].update(variables={"n": [None]})

    assert "config.data.sources[0].synthetic.variables.n[0] is None" in refusal(edit)


def test_a_config_of_another_version_is_refused(refusal):
    assert refusal(lambda content: content.update(specgen=2)) == "config.specgen is 2"


@pytest.mark.parametrize("content", [b"specgen: [1", b"", b"name: \xff"], ids=["no YAML", "empty", "no UTF-8"])
def test_a_broken_file_is_a_fault_and_no_traceback(tmp_path, content, fault_of):
    (tmp_path / "config.yaml").write_bytes(content)
    assert fault_of(configs.load, tmp_path).startswith("error SG402: ")
