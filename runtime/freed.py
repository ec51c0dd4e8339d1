"""Memory that is no longer used goes back to the system before the next large thing is loaded."""

from __future__ import annotations

import ctypes
import gc
import sys

# tcmalloc; glibc's malloc, which the launcher tells to keep memory for the steps of training
RELEASE = {"MallocExtension_ReleaseFreeMemory": (), "malloc_trim": (0,)}


def give_back() -> None:
    """Frees models and trainers that refer to themselves, and what the allocator holds of what was freed before."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    process = ctypes.CDLL(None)
    name = next((name for name in RELEASE if hasattr(process, name)), None)
    if name is not None:
        getattr(process, name)(*RELEASE[name])
