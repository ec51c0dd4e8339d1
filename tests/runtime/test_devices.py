"""runtime/devices.py, with a GPU that is only said to be there."""

from __future__ import annotations

import pytest
import torch

from runtime.devices import pick_device, roomy_device, weights_bytes
from runtime.models.model import base_device


@pytest.fixture
def gpu_with(monkeypatch):
    """A GPU with so many bytes free."""

    def say(free):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 8 * 2**30))

    return say


def test_auto_takes_a_gpu_that_has_room_and_says_where_it_has_not(gpu_with, capsys):
    gpu_with(7_600_000_000)
    assert pick_device("auto", needed=lambda: 6_000_000_000) == torch.device("cuda")
    assert pick_device("auto", needed=lambda: 7_000_000_000) == torch.device("cpu")
    assert capsys.readouterr().out == "         on the CPU: the model takes 7.0 GB, and the GPU has 7.6 GB free\n"


def test_a_device_that_was_chosen_is_taken(gpu_with, capsys):
    gpu_with(0)
    assert pick_device("cuda", needed=lambda: 10**12) == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
    assert capsys.readouterr().out == ""


def test_weights_are_counted_in_the_type_that_they_are_loaded_in(tiny_base, tiny_model):
    parameters = sum(weight.numel() for weight in tiny_model.parameters())
    assert weights_bytes(tiny_base, torch.float32) == 4 * parameters
    assert weights_bytes(tiny_base, torch.bfloat16) == 2 * parameters
    assert weights_bytes(tiny_base, None) == parameters * next(tiny_model.parameters()).element_size()


def test_weights_that_cannot_be_read_are_told_by_who_loads_them(tmp_path, gpu_with):
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    gpu_with(0)
    assert roomy_device("auto", tmp_path, None) == torch.device("cuda")


def test_the_room_is_that_of_the_whole_folder(tiny_base, gpu_with, capsys):
    gpu_with(weights_bytes(tiny_base, torch.float32))  # all of it, and nothing for what goes beside
    assert roomy_device("auto", tiny_base, torch.float32) == torch.device("cpu")
    assert roomy_device("auto", tiny_base, torch.bfloat16) == torch.device("cuda")


def test_a_quantized_base_is_asked_where_it_was_trained(tmp_path, configured, gpu_with):
    gpu_with(0)
    whole = configured(tmp_path / "whole").model
    quantized = configured(tmp_path / "quantized", model={"quantization": {"nf4": {}}}).model
    assert base_device(whole, "auto") == torch.device("cpu")
    assert base_device(quantized, "auto") == torch.device("cuda")
