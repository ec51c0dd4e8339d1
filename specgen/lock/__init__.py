"""The lock file, NAME.lock.yaml beside a spec: what exactly a model is made from. Written by `specgen lock`, held by `run`."""

from specgen.lock.contents import Lock
from specgen.lock.file import lock_path, read, write

__all__ = ["Lock", "lock_path", "read", "write"]
