"""runtime/written.py: no number that is none reaches a file, wherever it stands."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from runtime import written
from runtime.written import write_weights


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_none_among_others_is_told(tmp_path, monkeypatch, fault_of, dtype, value):
    monkeypatch.setattr(written, "CHUNK", 8)
    weights = torch.linspace(-1, 1, 30, dtype=dtype).reshape(5, 6)
    kinds = {"a": ([5, 6], dtype)}
    write_weights(kinds, {"a": weights}.__getitem__, tmp_path, max_shard_size="1MB")
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], weights)
    for place in (0, 17, 29):
        spoiled = weights.clone()
        spoiled.view(-1)[place] = value
        told = fault_of(write_weights, kinds, {"a": spoiled}.__getitem__, tmp_path, max_shard_size="1MB")
        assert told == f"error SG443: a is empty or not finite in {str(dtype).removeprefix('torch.')}"
