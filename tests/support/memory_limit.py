"""A process under a memory limit that the kernel holds: a control group of its own, of either version."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def run_limited(command: Sequence[str], bytes_at_most: int, cwd: Path) -> tuple[subprocess.CompletedProcess[str], int] | None:
    """The finished process, killed by the kernel where it takes more, and the most that the group held; None where no group can be made.

    Files that are mapped or cached count, too, and are let go when memory is short.
    """
    version_1 = (ROOT / "memory").is_dir()
    group = ROOT / ("memory" if version_1 else "") / f"specgen-test-{os.getpid()}"
    limit, peak = ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if version_1 else ("memory.max", "memory.peak")
    try:
        group.mkdir()
        (group / limit).write_text(str(bytes_at_most))
        if not version_1:
            (group / "memory.swap.max").write_text("0")
    except OSError:
        if group.is_dir():
            group.rmdir()
        return None
    try:
        joined = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group), *command]
        done = subprocess.run(joined, cwd=cwd, capture_output=True, text=True, check=False)
        return done, int((group / peak).read_text())
    finally:
        group.rmdir()
