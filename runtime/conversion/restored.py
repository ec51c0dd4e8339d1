"""What a PiSSA or OLoRA adapter has learnt, as an ordinary adapter for the untouched base."""

from __future__ import annotations

import math

import torch
from peft import LoraConfig

from runtime.training.initial import Taken
from runtime.weights.adapters import PREFIX, scaling_of

FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"


def against_base(tensors: dict[str, torch.Tensor], settings: LoraConfig, taken: Taken) -> dict[str, torch.Tensor]:
    """The adapter's tensors with s B A - s B0 A0, of twice the rank, in the place of s B A; `settings` are changed to fit.

    peft's path_initial_model_for_weight_conversion stacks [A; A0] and [B, -B0]. Rounded to 16 bits those two halves, nearly alike,
    no longer cancel; and peft leaves out DoRA's lengths and modules_to_save. Here the product is factored again, in float64.
    """
    changed, said = dict(tensors), settings.to_dict()
    for name, first_RI in tensors.items():
        if name.endswith(FIRST):
            stem = name.removesuffix(FIRST)
            module = stem.removeprefix(PREFIX)
            scaling = scaling_of(said, module)
            changed[name], changed[stem + SECOND] = difference(first_RI, scaling * tensors[stem + SECOND], *taken[module], scaling)
    _double(settings)
    return changed


@torch.no_grad()
def difference(
    first_RI: torch.Tensor, second_OR: torch.Tensor, taken_RI: torch.Tensor, taken_OR: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A' [2r, I] and B' [O, 2r] with s B' A' = (s B) A - (s B0) A0, float32; both have the roots of the singular values."""
    outer_OK, core_left_KR = torch.linalg.qr(torch.cat([second_OR, -taken_OR], dim=1).double())
    inner_IK, core_right_KR = torch.linalg.qr(torch.cat([first_RI, taken_RI]).double().T)
    left, values, right = torch.linalg.svd(core_left_KR @ core_right_KR.T, full_matrices=False)
    root = (values / scaling).sqrt()
    wide_KI, tall_OK = root[:, None] * (right @ inner_IK.T), outer_OK @ left * root
    missing = 2 * len(first_RI) - len(root)  # twice the rank may be more than the matrix has rows
    return torch.nn.functional.pad(wide_KI, (0, 0, 0, missing)).float(), torch.nn.functional.pad(tall_OK, (0, missing)).float()


def _double(settings: LoraConfig) -> None:
    """Twice all ranks, with alphas that leave the scaling as it is."""
    factor = math.sqrt(2) if settings.use_rslora else 2
    settings.r *= 2
    settings.lora_alpha *= factor
    settings.rank_pattern = {name: 2 * rank for name, rank in settings.rank_pattern.items()}
    settings.alpha_pattern = {name: factor * alpha for name, alpha in settings.alpha_pattern.items()}
