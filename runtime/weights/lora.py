"""What a LoRA adapter adds to one weight: peft's operations in peft's order, so that a merge has the same bytes as peft's.

# O out, I in, R rank, V vocabulary, D model
peft adds in float32, whatever the adapter's type, and rounds once to the type of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

ROWS = 1 << 22  # numbers that are added at once: what is beside the weight and the product stays small


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A and B of one module, and their scale. `magnitude` is DoRA's; `turned` says that the weight lies as [I, O] (fan_in_fan_out)."""

    first: torch.Tensor  # A [R, I]; of an embedding [R, V]
    second: torch.Tensor  # B [O, R]; of an embedding [D, R]
    scaling: float
    turned: bool
    is_embedding: bool
    magnitude: torch.Tensor | None

    def shape(self) -> list[int]:
        """The shape of the weight that it fits."""
        both = [self.second.shape[0], self.first.shape[1]]
        return both[::-1] if self.turned else both


@torch.no_grad()
def merged(weight: torch.Tensor, changes: list[Change]) -> torch.Tensor:
    """The weight with the changes on top, one after another, in its own type; `weight` is left as it is."""
    found = weight
    for change in changes:
        product = delta(change, weight.device)
        if change.is_embedding and change.magnitude is None:  # as peft has it: rounded before it is added, and after
            product = product.to(weight.dtype)
        found = _added(found, product) if change.magnitude is None else _turned_to(found, product, weight, change)
    return found


def delta(change: Change, device: torch.device) -> torch.Tensor:
    """s B A in float32, lying as the weight does."""
    product = change.second.to(device, torch.float32) @ change.first.to(device, torch.float32)
    return (product.T if change.turned else product).mul_(change.scaling)


def _added(weight: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """Rounded row by row: a whole sum in float32 would be a third copy."""
    out = torch.empty_like(weight)
    rows = max(1, ROWS // max(1, weight.shape[1]))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        if weight.itemsize == 1:  # PyTorch adds no numbers of 8 bits
            out[part] = weight[part].float() + product[part]
        else:
            torch.add(weight[part], product[part], out=out[part])
    return out


def _turned_to(weight: torch.Tensor, product: torch.Tensor, untouched: torch.Tensor, change: Change) -> torch.Tensor:
    """DoRA: the sum, each of its output's rows set to the trained length. The lengths are of the untouched weight with the change."""
    assert change.magnitude is not None
    magnitude = change.magnitude.to(weight.device, torch.float32)
    both = untouched.T + product.T if change.turned else untouched + product
    lengths = torch.linalg.norm(both, dim=1)
    factor = (magnitude / lengths).view(-1, 1)
    del both
    return ((factor.T if change.turned else factor) * (weight + product)).to(weight.dtype)
