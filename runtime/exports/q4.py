"""q4_k_m: made from an f16 file by llama.cpp's own llama-quantize, which knows which tensors need more bits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from runtime.faults import WRONG, RunFault

TOOL = "llama-quantize"


def quantize_q4(source: Path, out: Path) -> None:
    """Writes `out`. Raises RunFault where the tool is missing or fails."""
    tool = shutil.which(TOOL)
    if tool is None:
        message = f"export.gguf: q4_k_m is made by {TOOL}, which is not on PATH"
        raise RunFault("SG478", message, "install llama.cpp, or write types: [q8_0]", exit_code=WRONG)
    done = subprocess.run([tool, str(source), str(out), "Q4_K_M"], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 or not out.is_file():
        last = next(iter((done.stderr or done.stdout).strip().splitlines()[-1:]), "it said nothing")
        raise RunFault("SG478", f"{TOOL} ended with exit code {done.returncode}: {last}", "write types: [q8_0]")
