"""QLoRA of the 1.8B InternLM2 on rows of 2,048 tokens fits a GPU of 8 GiB, as XTuner's handbook promises: by the memory plan, which
docs/memory.md holds to the same step counted on fake tensors. The shape is of the published config.json."""

from __future__ import annotations

import pytest

from specgen.compiler import compile_spec
from specgen.diagnostics import SpecError
from specgen.memory import memory_plan

SPEC = "specs/internlm2_chat_1_8b_qlora_alpaca_e3.yaml"
GIB = 2**30


@pytest.fixture(autouse=True)
def _where_the_library_is(root, monkeypatch):
    monkeypatch.chdir(root)


def compiled(root, *settings, profile=None):
    return compile_spec(root / SPEC, profile, settings)


@pytest.mark.parametrize("profile", [None, "turing", "zero2"])
def test_the_spec_of_the_library_fits_8_gib_with_every_row_full(root, profile):
    done = compiled(root, profile=profile)
    train, adapter = done.plan.train, done.plan.adapter
    assert done.plan.hardware.device_memory == 8 * GIB
    assert (done.plan.data.max_length, train.micro_batch_size, train.gradient_checkpointing) == (2048, 1, True)
    assert adapter is not None and adapter.r == 64
    assert done.facts.model.parameters == 1_889_110_016
    needed = memory_plan(done.plan, done.facts.model, None)
    assert needed.row_tokens == 2048
    assert needed.total < 6.5 * GIB, "a GPU's own context and fragments take the rest"
    assert 0.9 * GIB < needed.weights < 2.3 * GIB


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (("train.micro_batch_size=4", "train.gradient_checkpointing=false"), "activations"),
        (("train.gradient_checkpointing=false", "data.max_length=4096"), "activations"),
        (("model.quantization=null", "train.gradient_checkpointing=false"), "activations"),
        (("adapter=null", "model.quantization=null"), "optimizer"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_largest_part_and_a_way(root, settings, part):
    with pytest.raises(SpecError) as caught:
        compiled(root, *settings)
    (fault,) = [fault for fault in caught.value.diagnostics if fault.severity == "error"]
    assert fault.code == "SG281"
    assert "hardware.device_memory is 8.00 GiB; the largest part is " + part in fault.message
    assert fault.hint
