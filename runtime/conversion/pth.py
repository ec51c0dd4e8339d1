"""PyTorch's own files from elsewhere, read without running anything in them.

A pickle names functions, and reading it calls them. PyTorch's weights_only refuses every file that names another than those that
make tensors; training frameworks put loggers and settings beside the weights, so that it refuses all of theirs. Here a name that
makes no tensor becomes `Nothing`: it is not imported, not called, and what would have been built of it is empty.
"""

from __future__ import annotations

import pickle
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from runtime.faults import RunFault


def _parameter(data: torch.Tensor, requires_grad: bool, *_state: object) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _plain(rebuild: Any, _type: object, arguments: tuple[Any, ...], _state: object) -> Any:
    """A tensor of a class of its own, as a plain one; `rebuild` is of this list, too."""
    return rebuild(*arguments)


# what tensors are made of in these files; weights_only lets the same names through
ALLOWED = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _plain,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
}


class Nothing:
    """Stands for whatever the file names beside tensors; takes every call, and keeps nothing."""

    def __new__(cls, *_arguments: object, **_named: object) -> Nothing:
        """However it is made: nothing."""
        return object.__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None:
        pass

    def __call__(self, *_arguments: object, **_named: object) -> Nothing:
        """Called: nothing."""
        return self

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _value: object) -> None:
        """What is added to a list of it is dropped."""

    def extend(self, _values: object) -> None:
        """As append."""

    def add(self, _value: object) -> None:
        """As append, for sets."""


class Unpickler(pickle.Unpickler):
    """Finds nothing but what makes tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that makes tensors; Nothing in the place of any other."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return ALLOWED.get((module, name), Nothing)


def load(file: Path) -> dict[str, Any]:
    """What a file of torch.save holds, the tensors mapped into memory. Raises RunFault where it cannot be read."""
    if not zipfile.is_zipfile(file):
        message = f"{file} cannot be read: it is no file of torch.save, or of a PyTorch older than 1.6"
        raise RunFault("SG470", message, "save it again with torch.save of a newer PyTorch")
    with zipfile.ZipFile(file) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):  # torch.load would hand it to torch.jit
            raise RunFault("SG470", f"{file} cannot be read: it is a TorchScript program", "save its state_dict with torch.save")
    safe = types.ModuleType("safe_pickle")
    vars(safe)["Unpickler"] = Unpickler
    try:
        found = torch.load(file, map_location="cpu", mmap=True, weights_only=False, pickle_module=safe)
    except Exception as error:  # whatever a file that was made to do harm or was cut off leads to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunFault("SG470", f"{file} cannot be read: {reason}") from None
    if not isinstance(found, dict):
        raise RunFault("SG470", f"{file} holds no weights by their names")
    return found
