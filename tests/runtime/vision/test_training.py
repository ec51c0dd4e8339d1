"""Training of models that see: what moves, what stays, and that packs, processes and batches without images change nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from runtime import config as configs
from runtime.data.dataset import collate, load_rows
from runtime.models.model import folder_of_model, load_model
from runtime.stages import read_stage
from runtime.training.loss import OutputLoss
from runtime.training.trainable import prepared, weights_dtype
from runtime.training.trainer import trained_tokens
from runtime.vision.looking import eyes_of
from runtime.vision.parts import trains_projector_alone
from tests.runtime.vision.conftest import PROJECTOR

CPU = torch.device("cpu")
LORA = {"r": 4, "alpha": 8}


@pytest.fixture
def model_of():
    """The model of a compiled folder as training has it, in float32."""

    def made(build, **options):
        config = configs.load(build)
        return config, prepared(config, load_model(config.model, device=CPU, dtype=weights_dtype(config), **options))

    return made


def batch_of(config, folder, numbers=None):
    rows, _ = load_rows(folder / "data")
    chosen = [rows[number] for number in (range(len(rows)) if numbers is None else numbers)]
    return collate(chosen, pad_id=0, look=eyes_of(config))


def trained(model):
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.fixture(scope="module")
def data(tmp_path_factory, llava, carried_out):
    """A compiled folder that trains an adapter and the projector, and its data."""
    folder = tmp_path_factory.mktemp("data")
    build = llava(folder)
    return build, carried_out(build, folder / "runs", "data")


def test_pixels_stand_in_the_order_of_the_rows_and_only_for_those_that_show_something(data):
    build, run = data
    config = configs.load(build)
    rows, _ = load_rows(run / "data")
    names = [[picture.path.rpartition("/")[2] for picture in rows[number]["images"]] for number in range(len(rows))]
    assert names == [["red.png"], ["green.png"], ["blue.png"], ["wide.png"], []]
    whole = batch_of(config, run)
    assert whole["pixel_values"].shape == (4, 3, 32, 32)
    turned = batch_of(config, run, [4, 2, 0])
    assert torch.equal(turned["pixel_values"], whole["pixel_values"][[2, 0]])
    assert "pixel_values" not in batch_of(config, run, [4])


def test_packs_have_the_loss_of_their_rows(tmp_path, llava, carried_out, model_of):
    losses = []
    for packing in (False, True):
        folder = tmp_path / str(packing)
        build = llava(folder, data={"packing": packing})
        run = carried_out(build, folder / "runs", "data")
        config, model = model_of(build, attention="sdpa")
        rows, _ = load_rows(run / "data")
        batch = collate([rows[number] for number in range(len(rows))], pad_id=0, look=eyes_of(config))
        assert ("position_ids" in batch) == packing
        losses.append(float(OutputLoss(model.eval())(model, batch).summed.detach() / trained_tokens(batch)))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_the_projector_alone_moves_in_a_pretraining(tmp_path, llava, carried_out):
    build = llava(tmp_path, pretrains=True)
    run = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    before = load_file(folder_of_model(configs.load(build).model) / "model.safetensors")
    after = load_file(run / "merge" / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if PROJECTOR in name}
    checkpoints = sorted((run / "train").glob("checkpoint-*"))
    assert set(load_file(checkpoints[-1] / "adapter_model.safetensors")) == {f"base_model.model.{name}" for name in moved}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tower", [None, {"r": 2, "alpha": 4.0}])
def test_an_adapter_is_of_words_alone_unless_the_tower_is_asked_for(tmp_path, llava, data, model_of, tower, checkpointing):
    build = llava(tmp_path, adapter={"vision_tower": tower}, train={"gradient_checkpointing": checkpointing})
    config, model = model_of(build)
    if checkpointing:
        model.gradient_checkpointing_enable()
    adapted = {name.partition(".lora_A")[0].removeprefix("base_model.model.model.") for name in trained(model) if ".lora_A" in name}
    layers = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    words = {name for name in adapted if name.startswith("language_model.")}
    assert {name.rpartition(".")[2] for name in words} == set(layers)
    assert len(words) == 2 * len(layers)
    sights = {name for name in adapted if name.startswith("vision_tower.")}
    assert len(sights) == (2 * 6 if tower else 0)  # the third layer lies behind what is taken
    assert words | sights == adapted
    assert isinstance(model, PeftModel)
    if tower:
        layer = model.get_submodule("base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj")
        assert (layer.r["default"], layer.scaling["default"]) == (2, 2.0)
    model.train()
    OutputLoss(model)(model, batch_of(config, data[1])).summed.backward()
    without = [name for name, weight in trained(model).items() if weight.grad is None]
    assert not without
    second = {name for name, weight in trained(model).items() if weight.grad.abs().max() == 0}
    assert all("lora_A" in name for name in second)  # B is zero at the beginning, so that A has no gradient yet


@pytest.mark.parametrize("pretrains", [True, False])
def test_what_sees_takes_part_where_a_batch_shows_nothing(tmp_path, llava, data, model_of, pretrains):
    config, model = model_of(llava(tmp_path, pretrains=pretrains))
    model.train()
    loss = OutputLoss(model)
    silent = batch_of(config, data[1], [4])
    found = loss(model, silent).summed
    found.backward()
    gradients = {name: weight.grad for name, weight in trained(model).items() if PROJECTOR in name}
    assert len(gradients) == 4
    assert all(gradient is not None and not gradient.any() for gradient in gradients.values())
    plain = load_model(config.model, device=CPU, dtype="float32").eval()
    wanted = OutputLoss(plain)(plain, silent).summed
    torch.testing.assert_close(found.detach(), wanted.detach(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("quantization", [{"nf4": {}}, {"int8": {}}])
def test_only_the_language_model_is_quantized(tmp_path, llava, model_of, quantization):
    _, model = model_of(llava(tmp_path, pretrains=True, model={"quantization": quantization}))
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    quantized = [name for name, kind in kinds.items() if kind in ("Linear4bit", "Linear8bitLt")]
    assert len(quantized) == 14
    assert all(".language_model." in name for name in quantized)


@pytest.mark.parametrize("into", ["full", "dequantized"])
def test_a_pretraining_in_four_bits_is_merged_into_the_weights_that_the_spec_names(tmp_path, llava, carried_out, into):
    build = llava(tmp_path, pretrains=True, model={"quantization": {"nf4": {}}}, export={"merged": {"base": into}})
    run = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    before = load_file(folder_of_model(configs.load(build).model) / "model.safetensors")
    after = load_file(run / "merge" / "model.safetensors")
    rounded = {name for name in before if "language_model" in name and name.endswith("proj.weight")} if into == "dequantized" else set()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == rounded | {name for name in before if PROJECTOR in name}


def test_whole_parts_are_trained_and_exported_by_their_names(tmp_path, llava, carried_out):
    build = llava(tmp_path, pretrains=True, train={"trainable_modules": [PROJECTOR, "language_model"]})
    run = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    before = load_file(folder_of_model(configs.load(build).model) / "model.safetensors")
    after = load_file(run / "merge" / "model.safetensors")
    assert before.keys() == after.keys()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if "vision_tower" in name} <= still
    assert not any("language_model.layers.0" in name for name in still)


def test_only_its_own_name_trains_the_projector_alone(tmp_path, llava):
    config = configs.load(llava(tmp_path, pretrains=True))

    def alone(*names):
        return trains_projector_alone(replace(config, train=replace(config.train, trainable_modules=names)))

    assert alone(PROJECTOR) and alone(f"model.{PROJECTOR}", PROJECTOR)
    assert not any(map(alone, ("*", "*proj*", f"*{PROJECTOR}", f"{PROJECTOR}.linear_1")))
    assert not alone(PROJECTOR, "*")


def test_a_broken_off_run_ends_as_one_that_was_never_interrupted(tmp_path, llava, carried_out, broken_off):
    build = llava(tmp_path / "spec", train={"save_steps": 2})
    whole = carried_out(build, tmp_path / "whole", "data", "train")
    broken_off(build, tmp_path / "broken", step=5)
    again = carried_out(build, tmp_path / "broken", "data", "train")
    losses = [[json.loads(line)["loss"] for line in (run / "train" / "metrics.jsonl").read_text().splitlines()] for run in (whole, again)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    one, two = (load_file(run / "train" / "final" / "adapter_model.safetensors") for run in (whole, again))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_a_packed_finetuning_in_four_bits_keeps_rows_apart_and_is_merged_as_what_it_was(tmp_path, llava, carried_out):
    build = llava(tmp_path, model={"quantization": {"nf4": {}}}, data={"packing": True}, adapter={"vision_tower": {"r": 2, "alpha": 4}})
    run = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    assert read_stage(run, "train")["summary"]["packed_difference"] < 1e-3
    figures = read_stage(run, "merge")["summary"]
    assert figures["base"] == "dequantized"
    assert figures["distance"] <= figures["limit"]
    assert figures["distance_to_trained"] < 0.05


def test_validation_over_rows_with_and_without_images(tmp_path, llava, carried_out):
    build = llava(tmp_path, data={"validation": {"fraction": 0.4}})
    run = carried_out(build, tmp_path / "runs", "data", "train")
    losses = [json.loads(line)["loss"] for line in (run / "train" / "validation.jsonl").read_text().splitlines()]
    assert losses
    assert all(loss > 0 for loss in losses)
