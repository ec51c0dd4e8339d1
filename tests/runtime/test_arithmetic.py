"""The type that answers are computed in, and what training tells of a slow one."""

from __future__ import annotations

import pytest
import torch

from runtime import arithmetic

CPU = torch.device("cpu")


@pytest.fixture(params=[False, True], ids=["no instructions", "instructions"])
def has_instructions(request, monkeypatch):
    mkldnn = torch.ops.mkldnn
    monkeypatch.setattr(mkldnn, "_is_mkldnn_bf16_supported", lambda: request.param)
    monkeypatch.setattr(mkldnn, "_is_mkldnn_fp16_supported", lambda: request.param)
    return request.param


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_slow_without_instructions(dtype, has_instructions):
    assert arithmetic.is_slow(dtype, CPU) is not has_instructions
    assert not arithmetic.is_slow(dtype, torch.device("cuda"))


def test_float32_is_never_slow(has_instructions):
    assert not arithmetic.is_slow(torch.float32, CPU)


def test_answers_are_computed_in_float32_of_the_same_weights(has_instructions):
    model = torch.nn.Linear(4, 4, dtype=torch.bfloat16).train()
    weights = model.weight.detach().float().clone()
    ready = arithmetic.for_answers(model)
    assert ready.weight.dtype == (torch.bfloat16 if has_instructions else torch.float32)
    assert torch.equal(ready.weight.float(), weights)
    assert not ready.training


def test_a_quantized_model_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(arithmetic, "is_slow", lambda *_: True)
    model = torch.nn.Linear(4, 4, dtype=torch.bfloat16)
    model.is_quantized = True
    assert arithmetic.for_answers(model).weight.dtype == torch.bfloat16


def test_training_tells_that_the_processor_is_slow(has_instructions, capsys):
    arithmetic.told_if_slow(torch.bfloat16, CPU)
    line = "train    warning SG495: this processor has no instructions for bfloat16; float32 is far faster: --set model.dtype=float32\n"
    assert capsys.readouterr().out == ("" if has_instructions else line)
