"""python -m tests.invariants.killed_at BUILD FOLDER: one run for each of the MOMENTS, in FOLDER/MOMENT, killed (SIGKILL) just then.

Each is a process of its own, forked here: libraries are imported once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from runtime import config as configs
from runtime.run import pipeline
from runtime.starting import quiet
from runtime.training import checkpoints
from runtime.training.loss import OutputLoss
from runtime.training.saving import SavingTrainer


def die(*_arguments: object, **_options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def within_a_step() -> None:
    """Between the two micro batches of step 6."""
    calls, call = [], OutputLoss.__call__

    def loss(*arguments):
        calls.append(1)
        return die() if len(calls) == 12 else call(*arguments)

    OutputLoss.__call__ = loss


def half_written() -> None:
    """Half of the optimizer's file is on the disk."""
    save = torch.save

    def half(content, file, *arguments, **options):
        save(content, file, *arguments, **options)
        if Path(file).name == "optimizer.pt" and "checkpoint-4" in str(file):
            os.truncate(file, Path(file).stat().st_size // 2)
            die()

    torch.save = half


def while_hashing() -> None:
    """Everything is written, nothing sealed."""
    seal = checkpoints.seal
    checkpoints.seal = lambda written: die() if written.name == "checkpoint-4" else seal(written)


def before_the_rename() -> None:
    """Sealed, but under the other name."""
    seal = checkpoints.seal

    def seal_and_die(written):
        seal(written)
        if written.name == "checkpoint-6":
            die()

    checkpoints.seal = seal_and_die


def while_removing() -> None:
    """The new one is in place, and a part of the old one is gone."""
    remove = shutil.rmtree

    def half(folder, *arguments, **options):
        if Path(folder).name == f"checkpoint-2{checkpoints.GOING}":
            next(Path(folder).glob("*.safetensors")).unlink()
            die()
        remove(folder, *arguments, **options)

    shutil.rmtree = half


def after_training() -> None:
    """All steps are done, the result is not in place."""
    require = SavingTrainer.require_whole
    SavingTrainer.require_whole = lambda trainer, folder: die() if folder.name == "final" else require(trainer, folder)


def before_the_output_is_renamed() -> None:
    """The whole stage is done, under the other name."""
    rename = Path.rename
    Path.rename = lambda path, target: die() if path.name == "train.partial" else rename(path, target)


def while_converting() -> None:
    """A stage that does not go on in the middle: the adapter is written, and not yet in place."""
    from runtime.conversion import convert

    convert.model_card = die


MOMENTS = (
    within_a_step,
    half_written,
    while_hashing,
    before_the_rename,
    while_removing,
    after_training,
    before_the_output_is_renamed,
    while_converting,
)


def main() -> None:
    build, folder = Path(sys.argv[1]), Path(sys.argv[2])
    quiet()
    torch.set_num_threads(1)
    config = configs.load(build)
    for moment in MOMENTS:
        if (child := os.fork()) == 0:
            moment()
            pipeline.run(config, build=build, runs_dir=folder / moment.__name__, only=("data", "train", "convert"), talk="")
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, moment.__name__


if __name__ == "__main__":
    main()
