"""Training in several processes: torchrun starts them on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runtime.config import Config
from runtime.faults import INTERRUPTED, WRONG, Interrupted, RunFault
from runtime.nodes import Rendezvous


def require_processes(config: Config) -> None:
    """Raises RunFault where this machine cannot start the training processes."""
    if config.distributed.zero_stage:
        require_deepspeed()


def train_in_processes(
    config: Config, folder: Path, *, build: Path, rendezvous: Rendezvous | None = None, lost: Callable[[], RunFault | None] = lambda: None
) -> None:
    """Starts torchrun on this machine, for a train folder that is prepared; `rendezvous` is where other nodes are met, and `lost`
    tells the fault of one. Raises RunFault where a process fails."""
    distributed = config.distributed
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *(_words(rendezvous) if rendezvous else ["--standalone"]),
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
    interface = {"GLOO_SOCKET_IFNAME": rendezvous.interface} if rendezvous and rendezvous.interface else {}
    environment = {**interface, **os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    with subprocess.Popen(command, env=environment) as process:
        try:
            while (fault := lost()) is None and process.poll() is None:
                time.sleep(1)
            if fault:
                process.terminate()
                process.wait()
                raise fault
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


def _words(rendezvous: Rendezvous) -> list[str]:
    numbers = {"nnodes": rendezvous.nodes, "node-rank": rendezvous.rank, "master-port": rendezvous.port}
    return [*(f"--{name}={number}" for name, number in numbers.items()), "--rdzv-backend=static", f"--master-addr={rendezvous.address}"]


def require_deepspeed() -> None:
    """DeepSpeed compiles a helper on its first start. Raises RunFault naming what is missing."""
    if importlib.util.find_spec("deepspeed") is None:
        raise RunFault("SG436", "ZeRO needs DeepSpeed, which is not installed", "pip install 'specgen[train]'", exit_code=WRONG)
    missing = [tool for tool in ("g++", "ninja") if shutil.which(tool) is None]
    if missing:
        hint = "apt-get install g++ ninja-build, or pip install ninja"
        raise RunFault("SG436", f"DeepSpeed compiles a helper, and needs {' and '.join(missing)}", hint, exit_code=WRONG)
