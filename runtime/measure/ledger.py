"""Counts the bytes of live tensors while code runs on fake ones: what a training step needs, without the device."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

aten = torch.ops.aten


class Ledger(TorchDispatchMode):
    """Sums live storages by part, and remembers the parts at the highest sum.

    Enter it inside a FakeTensorMode. Fake tensors hold no values, so what the step asks of them is answered here: a mask of
    positions selects `selected` of them, a yes-or-no question gets `answer`, a number is 1. Matrices of the shape `logits`
    are a part of their own.
    """

    def __init__(self, *, selected: int, answer: bool, logits: tuple[int, int]) -> None:
        super().__init__()
        self.selected, self.answer, self.logits = selected, answer, logits
        self.part = "activations"
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.storages: dict[int, tuple[str, int]] = {}

    @contextmanager
    def booking(self, part: str) -> Iterator[None]:
        """Within this, new storages count for a part."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def book(self, tensor: torch.Tensor, part: str) -> None:
        """Counts a tensor's storage for a part; one that counted for another moves."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.storages:
            old, size = self.storages[key]
            self.live[old] -= size
        else:
            size = storage.nbytes()
            weakref.finalize(storage, self.release, key)
        self.storages[key] = part, size
        self.live[part] += size
        self.compare()

    def release(self, key: int) -> None:
        """The storage is gone."""
        part, size = self.storages.pop(key)
        self.live[part] -= size

    def compare(self, transient: int = 0) -> None:
        """Takes the present sum for the peak if it is higher; `transient` bytes live only inside of an operation."""
        if self.live.total() + transient > self.peak.total():
            self.peak = Counter(self.live)
            self.peak.update({"buffers": transient} if transient else {})

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is aten._local_scalar_dense.default:
            return self.answer if arguments[0].dtype is torch.bool else 1
        if function is aten.index.Tensor:
            arguments = (arguments[0], self.positions(arguments[1]), *arguments[2:])
        result = function(*arguments, **(options or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.storages:
                self.book(tensor, "logits" if tensor.shape == self.logits else self.part)
        if function.name().startswith("bitsandbytes::gemm_4bit"):  # expands the weights inside
            rows, columns = arguments[2]
            self.compare(transient=arguments[0].element_size() * rows * columns)
        return result

    def positions(self, indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Indices with a mask replaced by as many positions as it is said to select."""
        found: list[torch.Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype is torch.bool:
                found += [torch.zeros(self.selected, dtype=torch.int64, device=index.device)] * index.dim()
            else:
                found.append(index)
        return found
