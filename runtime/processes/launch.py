"""Training in several processes: torchrun's own launcher starts them on this machine, and each fault is told once."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.config import Config
from runtime.faults import WRONG, Interrupted, Preempted, RunFault
from runtime.processes.nodes import Rendezvous
from runtime.processes.rank import FOLDER, LAUNCHER
from runtime.processes.supervisor import Failure, Supervisor, verdict

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # handed on to every training process
SAVING_S = 24 * 3600  # after one of these: how long the processes may take to save and end


def require_processes(config: Config) -> None:
    """Raises RunFault where this machine cannot start the training processes."""
    if config.distributed.zero_stage:
        require_deepspeed()


def train_in_processes(
    config: Config, folder: Path, *, build: Path, rendezvous: Rendezvous | None = None, lost: Callable[[], RunFault | None] = lambda: None
) -> None:
    """Starts the training processes of this machine, for a train folder that is prepared; `rendezvous` is where other nodes are
    met, and `lost` tells the fault of one.

    Raises RunFault where a process fails, dies or hangs; Preempted or Interrupted when all have saved and ended for a signal.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    _quiet()
    processes = config.distributed.processes_per_node
    first = rendezvous.rank * processes if rendezvous else 0
    words = ["-m", "runtime", str(build), "--runs-dir", str(folder.parent), "--stage", "train"]
    with tempfile.TemporaryDirectory(prefix="specgen-ranks-") as scratch, _environment(scratch, processes, rendezvous), _handlers_kept():
        launch = _launch(scratch, processes, rendezvous)
        with Supervisor(Path(scratch), timeout_s=config.distributed.ddp_timeout, first_rank=first, lost=lost) as supervisor:
            try:
                elastic_launch(launch, sys.executable)(*words)
            except SignalException as stopped:
                if failures := {rank: one for rank, one in supervisor.failures({}).items() if not one.word.get("lost")}:
                    raise verdict(failures, supervisor) from None
                raise (Interrupted if stopped.sigval == signal.SIGINT else Preempted) from None
            except ChildFailedError as failed:
                ended = {rank: Failure(code=one.exitcode, time_s=one.timestamp) for rank, one in failed.failures.items()}
                raise verdict(supervisor.failures(ended), supervisor) from None


def _launch(scratch: str, processes: int, rendezvous: Rendezvous | None) -> LaunchConfig:
    """What torchrun's words become: --standalone, or a static rendezvous with other nodes."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    nodes = rendezvous.nodes if rendezvous else 1
    return LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex if rendezvous is None else "specgen",
        rdzv_backend="static" if rendezvous else "c10d",
        rdzv_endpoint=f"{rendezvous.address}:{rendezvous.port}" if rendezvous else "localhost:0",
        rdzv_configs={"rank": rendezvous.rank} if rendezvous else {},
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=scratch, tee=Std.ERR),
        log_line_prefix_template="rank ${rank}: ",
        signals_to_handle=",".join(number.name for number in STOPS),
        shutdown_timeout=SAVING_S,
    )


def _quiet() -> None:
    """The launcher logs what it does in its own terms; what a user needs of it is told here."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _environment(scratch: str, processes: int, rendezvous: Rendezvous | None) -> Iterator[None]:
    """What the training processes are told by their environment, which is this one's while they start."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    told = {FOLDER: scratch, LAUNCHER: str(os.getpid()), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    before = dict(os.environ)
    if rendezvous and rendezvous.interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", rendezvous.interface)
    os.environ.update(told)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """The launcher sets its own handlers of signals, and leaves them."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_deepspeed() -> None:
    """DeepSpeed compiles a helper on its first start. Raises RunFault naming what is missing."""
    if importlib.util.find_spec("deepspeed") is None:
        raise RunFault("SG436", "ZeRO needs DeepSpeed, which is not installed", "pip install 'specgen[train]'", exit_code=WRONG)
    missing = [tool for tool in ("g++", "ninja") if shutil.which(tool) is None]
    if missing:
        hint = "apt-get install g++ ninja-build, or pip install ninja"
        raise RunFault("SG436", f"DeepSpeed compiles a helper, and needs {' and '.join(missing)}", hint, exit_code=WRONG)
