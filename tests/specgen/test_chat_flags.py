"""specgen/commands/chat.py: each flag of XTuner's chat as the runtime takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from specgen import cli

EVERY = {
    "--prompt-template": "moss_sft", "--system": "Be brief.", "--bits": "4", "--bot-name": "Aria",
    "--with-plugins": "calculate,solve,search",
    "--command-stop-word": "<eoc>", "--answer-stop-word": "<eom>", "--stop-words": "-- END", "--offload-folder": "weights",
    "--max-new-tokens": "9", "--temperature": "0.5", "--top-k": "3", "--top-p": "0.9", "--repetition-penalty": "1.1", "--seed": "7",
    "--torch-dtype": "fp16", "--adapter": "adapter",
}  # fmt: skip
REFUSED = {
    ("--system", "x", "--system-template", "sql"): "--system and --system-template both give the system text: give one of them",
    ("--profile", "small"): "model is a model's folder: --profile and --set belong to a spec",
    ("--with-plugins", "calculate,paint"): "'paint' is none of calculate, solve, search",
    ("--bits", "5"): "'5' is not one of '4', '8'",
    ("--temperature", "-1"): "Invalid value for '--temperature': -1.0 is not in the range 0<=x<=100",
    ("--temperature", "nan"): "Invalid value for '--temperature': nan is no number.",
    ("--temperature", "inf"): "Invalid value for '--temperature': inf is not in the range 0<=x<=100.",
    ("--top-k", "2000000000"): "Invalid value for '--top-k': 2000000000 is not in the range 0<=x<=1000000000.",
    ("--max-new-tokens", "0"): "Invalid value for '--max-new-tokens': 0 is not in the range 1<=x<=1000000000.",
    ("--top-p", "nan"): "Invalid value for '--top-p': nan is no number.",
    ("--top-p", "inf"): "Invalid value for '--top-p': inf is not in the range 0<x<=1.",
    ("--repetition-penalty", "nan"): "Invalid value for '--repetition-penalty': nan is no number.",
    ("--repetition-penalty", "inf"): "Invalid value for '--repetition-penalty': inf is not in the range 0.1<=x<=10.",
    ("--repetition-penalty", "1e-300"): "Invalid value for '--repetition-penalty': 1e-300 is not in the range 0.1<=x<=10.",
    ("--stop-words", "a", "--stop-words="): "Invalid value for '--stop-words': an empty text would end every answer before it begins",
}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What the runtime is started with, or what was said instead."""
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    started = []
    monkeypatch.setattr("specgen.launch.start", lambda module, words: started.append((module, words)) or 0)

    def ask(*words):
        started.clear()
        said = CliRunner().invoke(cli.cli, ["chat", *words]).output
        return started[0] if started else said

    return ask


def test_every_flag_reaches_the_runtime(asked):
    module, words = asked("model", *(word for pair in EVERY.items() for word in pair), "--no-streamer", "--lagent")
    assert module == "runtime.chat"
    assert words[:3] == ["model", "--runs-dir", "runs"]
    assert {*words[3:]} == {*(f"{flag}={value}" for flag, value in EVERY.items()), "--device=auto", "--no-streamer", "--lagent"}
    assert "--system-template=sql" in asked("model", "--system-template", "sql")[1]


@pytest.mark.parametrize("words", REFUSED)
def test_flags_that_do_not_go_together_are_refused(asked, words):
    assert REFUSED[words] in asked("model", *words)


def test_a_spec_has_its_own_template(asked):
    told = asked("spec.yaml", "--prompt-template", "chatml")
    assert "--prompt-template belongs to a model's folder: a spec says itself what its model was trained with" in told
