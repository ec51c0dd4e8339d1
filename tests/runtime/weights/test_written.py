"""runtime/weights/written.py: no number that is none reaches a file, wherever it stands."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from runtime.weights import written
from runtime.weights.shards import CODES, files_of, kinds, tensors
from runtime.weights.written import write_weights


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


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_every_type_that_is_read_is_written(tmp_path, dtype):
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).to(dtype)
    write_weights({"a": ([3, 2], dtype)}, {"a": weights}.__getitem__, tmp_path, max_shard_size="1MB")
    where = files_of(tmp_path, "the model")
    assert kinds(where) == {"a": ([3, 2], dtype)}
    assert torch.equal(next(tensors(where, ["a"]))[1].float(), weights.float())


def test_a_number_of_8_bits_that_is_none_is_told(tmp_path, fault_of):
    weights = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    told = fault_of(write_weights, {"a": ([2], weights.dtype)}, {"a": weights}.__getitem__, tmp_path, max_shard_size="1MB")
    assert told == "error SG443: a is empty or not finite in float8_e4m3fn"
