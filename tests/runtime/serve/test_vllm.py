"""The command that starts vLLM, with a stand-in for its program: that it is this one and no more is shown here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import config as configs

STAND_IN = """#!{python}
import json, os, sys
print(json.dumps({{"words": sys.argv[1:], "key": os.environ.get("VLLM_API_KEY"), "ours": os.environ.get("SPECGEN_API_KEY")}}))
"""


@pytest.fixture
def with_vllm(tmp_path):
    """Runs `python -m runtime.serve` where a command vllm is on PATH."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)

    def run(*words, **environment):
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-m", "runtime.serve", *map(str, words), "--port", "0"], capture_output=True, text=True, timeout=300,
            env={**os.environ, "PATH": path, **environment},
        )  # fmt: skip
        return done, program

    return run


def test_vllm_is_started_with_the_merged_model_its_template_and_its_settings(finished, with_vllm):
    build, run = finished
    done, program = with_vllm(build, "--runs-dir", run.parent, SPECGEN_API_KEY="s3cret")
    said, told = done.stdout.splitlines()
    merged, chat = run / "merge", configs.load(build).chat
    assert (merged / "chat_template.jinja").is_file() and json.loads((merged / "generation_config.json").read_text())["eos_token_id"]
    words = [
        "serve", str(merged), "--host", "127.0.0.1", "--port", "0", "--served-model-name", "tiny",
        "--chat-template", str(merged / "chat_template.jinja"), "--generation-config", str(merged), "--override-generation-config",
        json.dumps({"temperature": 0.0, "max_new_tokens": 6, "repetition_penalty": chat.repetition_penalty}),
    ]  # fmt: skip
    assert json.loads(told) == {"words": words, "key": "s3cret", "ours": None}
    assert said == " ".join([str(program), *words]) and "s3cret" not in said


def test_what_vllm_cannot_be_told_is_refused_where_it_is_asked_for_by_name(tmp_path, compiled, with_vllm):
    build = compiled(tmp_path, chat={"stop": ["END"]})
    done, _ = with_vllm(build, "--engine", "vllm")
    assert (done.returncode, done.stderr) == (
        2,
        "error SG683: --engine vllm: it takes stop texts from requests only, and this model's answers end at 'END'\n"
        "  hint: take --engine transformers\n",
    )


def test_a_system_text_that_vllm_would_leave_out_is_told(tmp_path, compiled, with_vllm):
    build = compiled(tmp_path, chat={"system": "You are Aria."})
    done, _ = with_vllm(build, "--engine", "vllm")
    assert (done.returncode, done.stderr) == (
        2,
        "error SG683: --engine vllm: it answers without the system text of the chat, where a request has none of its own\n"
        "  hint: take --engine transformers\n",
    )


def test_without_vllm_asking_for_it_is_told(monkeypatch, tmp_path, fault_of):
    from runtime.serve import vllm

    monkeypatch.setenv("PATH", str(tmp_path))
    assert fault_of(vllm.require_program) == (
        "error SG680: --engine vllm: there is no command vllm on PATH\n  hint: pip install vllm, or --engine transformers"
    )


def test_an_adapter_keeps_vllm_away():
    from runtime.serve.vllm import obstacle

    assert obstacle((), None, None) is None
    assert obstacle((), Path("adapter"), None) == "it serves a whole model, and --adapter is none"
