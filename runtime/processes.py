"""Training in several processes: torchrun starts them on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from runtime.config import Config
from runtime.faults import INTERRUPTED, WRONG, Interrupted, RunFault


def require_processes(config: Config, *, build: Path) -> None:
    """Raises RunFault where this machine cannot start the training processes, or not by itself."""
    if config.distributed.nodes > 1:
        hint = f"on each node: NODE_RANK=… MASTER_ADDR=… bash {build / 'launch.sh'}"
        raise RunFault("SG435", f"this run spans {config.distributed.nodes} nodes", hint, exit_code=WRONG)
    if config.distributed.zero_stage:
        require_deepspeed()


def train_in_processes(config: Config, folder: Path, *, build: Path) -> None:
    """Starts torchrun on this machine, for a train folder that is prepared. Raises RunFault where a process fails."""
    distributed = config.distributed
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(distributed.processes_per_node),
        "-m",
        "runtime",
        str(build),
        "--runs-dir",
        str(folder.parent),
        "--stage",
        "train",
    ]
    threads = max(1, (os.cpu_count() or 1) // distributed.processes_per_node)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    with subprocess.Popen(command, env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if code == INTERRUPTED:
        raise Interrupted
    if code:
        raise RunFault(
            "SG434",
            f"a training process failed (exit code {code}); its messages are above",
            "the same command goes on from the last checkpoint",
        )


def require_deepspeed() -> None:
    """DeepSpeed compiles a helper on its first start. Raises RunFault naming what is missing."""
    if importlib.util.find_spec("deepspeed") is None:
        raise RunFault("SG436", "ZeRO needs DeepSpeed, which is not installed", "pip install 'specgen[train]'", exit_code=WRONG)
    missing = [tool for tool in ("g++", "ninja") if shutil.which(tool) is None]
    if missing:
        hint = "apt-get install g++ ninja-build, or pip install ninja"
        raise RunFault("SG436", f"DeepSpeed compiles a helper, and needs {' and '.join(missing)}", hint, exit_code=WRONG)
