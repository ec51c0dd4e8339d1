"""The memory of a step that sees, counted on tensors without values: what is trained, and what images take."""

from __future__ import annotations

import pytest
import torch

from runtime import config as configs
from runtime.measure.__main__ import Batch, base_config, measure
from runtime.models.model import load_model
from runtime.training.trainable import prepared

CPU = torch.device("cpu")
ADAPTER = {"vision_tower": {"r": 2, "alpha": 4}}


@pytest.mark.parametrize("changed", [{"pretrains": True}, {"adapter": ADAPTER}], ids=["projector", "adapter"])
def test_a_step_is_counted_with_what_is_trained(tmp_path, llava, changed):
    config = configs.load(llava(tmp_path, **changed))
    found = measure(config, base_config(config, None), Batch(rows=2, row_tokens=64, trained=30, masked=True), device=CPU)
    model = prepared(config, load_model(config.model, device=CPU))
    assert found.trained == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert found.parts["adapter"] == 4 * found.trained


def test_more_images_take_more(tmp_path, llava):
    packed = configs.load(llava(tmp_path / "packed", data={"packing": True}))
    single = configs.load(llava(tmp_path / "single"))
    batch = Batch(rows=1, row_tokens=128, trained=30, masked=True)
    few, many = (measure(config, base_config(config, None), batch, device=CPU).parts["activations"] for config in (single, packed))
    assert few < many  # a row has one image, a pack as many as go in
