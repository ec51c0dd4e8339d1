"""runtime/weights/shards.py: weight files that are damaged, or are not what their index says, end in a fault wherever they are opened."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from runtime.weights import shards
from runtime.weights.shards import files_of, kinds, tensors

BOTH = ["model.safetensors", "pytorch_model.bin"]
WAYS = {"kinds": kinds, "tensors": lambda where: list(tensors(where, where))}


@pytest.fixture
def sharded(tmp_path):
    """Two tensors that an index says are in one shard, which has those that are given."""

    def write(name, found):
        shard = name.replace(".", "-00001-of-00001.")
        (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": {"a": shard, "b": shard}}))
        save_file(found, tmp_path / shard) if name.endswith("safetensors") else torch.save(found, tmp_path / shard)
        return files_of(tmp_path, "the base model's weights"), tmp_path / shard

    return write


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BOTH)
def test_a_tensor_that_the_shard_lacks_is_named(sharded, fault_of, name, way):
    where, shard = sharded(name, {"a": torch.ones(2)})
    assert fault_of(WAYS[way], where) == f"error SG441: {shard} cannot be read: File does not contain tensor b"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_shard_that_was_cut_off_is_told(sharded, fault_of, name, way, share):
    where, shard = sharded(name, {"a": torch.ones(1000), "b": torch.ones(1000)})
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(share * len(whole))])
    assert fault_of(WAYS[way], where).startswith(f"error SG441: {shard} cannot be read: ")


def test_a_type_that_is_not_known_is_told(sharded, fault_of, monkeypatch):
    where, shard = sharded("model.safetensors", {"a": torch.ones(2), "b": torch.ones(2)})
    monkeypatch.delitem(shards.TYPES, "F32")
    assert fault_of(kinds, where) == f"error SG441: {shard} cannot be read: tensors of the type F32 are not known"
