"""specgen serve: a model that is asked as OpenAI's API is."""

from __future__ import annotations

import tempfile
from pathlib import Path

from specgen import folder
from specgen.compiler import compile_spec
from specgen.launch import start


def serve(what: Path, profile: str | None, settings: tuple[str, ...], words: list[str]) -> int:
    """Serves the model of a spec, of a compiled folder, or of a folder in Hugging Face's form, until it is told to end."""
    with tempfile.TemporaryDirectory() as scratch:
        build = what
        if not what.is_dir():
            build = Path(scratch, "build")
            folder.write(compile_spec(what, profile, settings).files, build)
        return start("runtime.serve", [str(build), *words, "--spec", str(what)])
