"""A repository as a team keeps it: a spec, its data, its compiled folder and its lock, in git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SPEC = """\
# Answers questions about our product.
specgen: 1
name: support
description: Answers questions about the product.
model:
  base: models/tiny
  dtype: bfloat16
template: chatml
data:
  max_length: 128
  sources:
    - file: {path: data/support.jsonl}
adapter: {lora: {r: 8, alpha: 16}}
train:
  epochs: 2
  batch_size: 4
  learning_rate: 2.0e-4
"""
# the shape of a small Llama; the compiler reads no weights
CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 2048,
}


def rows(number):
    """Rows of a support data set."""
    row = {"messages": [{"role": "user", "content": "Question %d?"}, {"role": "assistant", "content": "Answer %d."}]}
    return "".join(json.dumps(row).replace("%d", str(index)) + "\n" for index in range(number))


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str


class Repository:
    """A git repository in a folder, and the commands that people type in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            self.file(name).write_text(text, encoding="utf-8")

    def file(self, name: str) -> Path:
        return self.folder / {"spec": "specs/support.yaml", "data": "data/support.jsonl", "lock": "specs/support.lock.yaml"}[name]

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.file(name).read_text(encoding="utf-8")
        assert old in text
        self.file(name).write_text(text.replace(old, new), encoding="utf-8")

    def git(self, *arguments: str) -> str:
        names = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", *names, *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def run(self, *command: str, **environment: str) -> Ran:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
        return Ran(done.returncode, done.stdout, done.stderr)

    def specgen(self, *arguments: str) -> Ran:
        return self.run(sys.executable, "-m", "specgen", *arguments)


@pytest.fixture
def repository(tmp_path):
    """The repository after its first commit on main."""
    return support_repository(tmp_path / "product")


def support_repository(folder: Path) -> Repository:
    """A repository in a folder that is not there yet, after its first commit on main."""
    for part in ("specs", "data", "models/tiny"):
        (folder / part).mkdir(parents=True)
    (folder / "models/tiny/config.json").write_text(json.dumps(CONFIG))
    ours = Repository(folder)
    ours.write(spec=SPEC, data=rows(40))
    assert ours.specgen("lock", "specs/support.yaml").code == 0
    assert ours.specgen("compile", "specs/support.yaml").code == 0
    ours.git("init", "-q")
    ours.commit("The support model")
    return ours
