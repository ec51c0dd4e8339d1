"""DeepSpeed's checkpoints for another number of processes: made universal, and loaded as such."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from runtime import console
from runtime.faults import RunFault
from runtime.files import linked
from runtime.training.contract import Contract

UNIVERSAL = "universal"
OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def processes(contract: Contract) -> int:
    """The processes that a contract is about."""
    return int(contract["distributed.nodes"]) * int(contract["distributed.processes_per_node"])


def made_of(checkpoint: Path) -> Path:
    """A folder beside the checkpoint that any number of processes can go on from; what need not be converted is linked.

    Done by DeepSpeed's own tool, in a process of its own: it starts more. Raises RunFault where that fails.
    """
    (written,) = checkpoint.glob("global_step*")
    made = checkpoint.with_name(checkpoint.name.replace("checkpoint", UNIVERSAL))
    name = f"{written.name}_universal"
    console.say("train", f"{checkpoint.name} is made universal: it was written by another number of processes")
    made.mkdir()
    # ZeRO-2 writes no section about itself for this: the tool then takes that of plain data parallelism
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    environment = {name: value for name, value in os.environ.items() if name not in OF_LAUNCHERS}
    folders = ["--input_folder", str(written), "--output_folder", str(made / name)]
    done = subprocess.run([*command, *folders], env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        message = f"{checkpoint.name} cannot be made universal: {console.one_line(last)}"
        raise RunFault("SG448", message, f"go on with the {len(list(checkpoint.glob('rng_state*')))} processes that wrote it")
    for file in checkpoint.iterdir():
        if file.is_file():
            linked(file, made / file.name)
    (made / "latest_universal").write_text(name)
    return made


def remove(folder: Path) -> None:
    """Removes what was made universal, whole or not."""
    for made in folder.glob(f"{UNIVERSAL}-*"):
        shutil.rmtree(made)
