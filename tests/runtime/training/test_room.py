"""runtime/training/room.py: what a run is going to write, before it is begun."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from runtime.models.model import load_model
from runtime.training import room
from runtime.training.trainable import prepared


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory, saved_llama):
    return saved_llama(tmp_path_factory.mktemp("base"), hidden_size=64)  # nf4 counts in blocks of 64


def of(config):
    return room.needed(prepared(config, load_model(config.model, device=torch.device("cpu"))), config)


def test_weights_in_4_bits_count_for_what_they_are_merged_into(tmp_path, configured, wide_base):
    plain = configured(tmp_path / "plain", model={"base": str(wide_base)})
    packed = configured(tmp_path / "packed", model={"base": str(wide_base), "quantization": {"nf4": {}}})
    assert of(packed) == of(plain)


def test_weights_that_zero_3_has_shared_out_count_whole(tmp_path, configured):
    config = configured(tmp_path)
    model = torch.nn.Linear(8, 16, bias=False)
    wanted = room.needed(model, config)
    assert wanted == (8 * 16 * 4 * 3, 8 * 16 * (4 + 4))
    shared_out = torch.nn.Linear(8, 16, bias=False)
    shared_out.weight = torch.nn.Parameter(torch.empty(0))
    shared_out.weight.ds_numel = 8 * 16  # as DeepSpeed leaves it
    assert room.needed(shared_out, config) == wanted


def test_a_disk_that_is_too_small_is_told_before_training(tmp_path, configured, monkeypatch, capsys):
    config = configured(tmp_path, train={"save_total_limit": 1})
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=3_000))
    room.told_if_scarce(torch.nn.Linear(8, 16, bias=False), config, tmp_path)
    said = f"warning SG458: {tmp_path} has 3.0 kB free; 2 checkpoints of 1.5 kB and the exports of 1.0 kB need 4.1 kB"
    assert capsys.readouterr().out == f"train    {said}\n"
