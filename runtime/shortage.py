"""Out of memory and out of disk: whatever a library raises then, told as a fault that says where, and what to change."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime import console
from runtime.config import Config
from runtime.faults import RunFault

NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "Cannot allocate memory", "std::bad_alloc")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors and tokenizers tell of Rust's own errors; torch.save names its writer, which fails for no other reason
DISK_FULL = (*(f"(os error {number})" for number in FULL), "No space left on device", "PytorchStreamWriter", "inline_container.cc")


@contextmanager
def told(folder: Path, where: Callable[[], str], *, changes: str, discard: Path | None = None) -> Iterator[None]:
    """Within this, want of memory and a full disk become RunFaults. `where` continues the sentence, `changes` are what helps
    against want of memory; `discard` is removed when the disk is full: it was never finished."""
    try:
        yield
    except RunFault:
        raise
    except Exception as error:
        if is_disk_full(error):
            if discard is not None:
                shutil.rmtree(discard, ignore_errors=True)
            free = console.size(shutil.disk_usage(folder).free)
            hint = "make room, or choose another disk with --runs-dir; the same command goes on from here"
            raise RunFault("SG456", f"the disk is full {where()}: {free} are free in {folder}", hint) from None
        if is_out_of_memory(error):
            raise RunFault("SG455", f"memory does not suffice {where()}", changes) from None
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was asked for and not to be had: of Python, of PyTorch on a CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk had no room for what was written, or a quota or limit was reached."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(words in str(error) for words in DISK_FULL)


def savings(config: Config) -> str:
    """What makes training smaller, in the order in which it costs least; of that what the config does not have yet."""
    train, model = config.train, config.model
    ways = [
        (train.micro_batch_size > 1, f"train.micro_batch_size: {max(1, train.micro_batch_size // 2)}"),
        (not train.gradient_checkpointing, "train.gradient_checkpointing: true"),
        (True, f"a data.max_length below {config.data.max_length}"),
        (bool(config.data.packing), "data.packing: false"),
        (model.quantization is None and config.adapter is not None, "model.quantization: {nf4: {}}"),
    ]
    return "in this order: " + "; ".join(way for fits, way in ways if fits)
