"""Full fine-tuning (adapter: null) through every stage, on a tiny random model."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from runtime import config as configs
from runtime.conversion.convert import convert
from runtime.conversion.merge import merge
from runtime.stages import read_stage

TRAIN = {"epochs": 2, "save_steps": 2, "learning_rate": 1.0e-3, "preview": {"every": 2, "prompts": ["Count 2."], "max_new_tokens": 3}}


def weights(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def full(request, tmp_path_factory, compiled, carried_out):
    """A compiled folder and its run, all stages done."""
    folder = tmp_path_factory.mktemp("full")
    model, merged = {"dtype": request.param}, {"dtype": "bfloat16", "max_shard_size": "4MB"}
    build = compiled(folder, model=model, adapter=None, train=TRAIN, export={"merged": merged})
    return build, carried_out(build, folder / "runs")


def test_all_weights_are_trained_in_float32(full, tiny_base):
    _, run = full
    trained, base = weights(run / "train" / "final"), weights(tiny_base)
    assert trained.keys() == base.keys()
    for name, tensor in trained.items():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, base[name]), name


def test_the_exported_model_is_the_trained_one_rounded_once(full):
    _, run = full
    trained, exported = weights(run / "train" / "final"), weights(run / "merge")
    assert exported.keys() == trained.keys()
    assert all(torch.equal(exported[name], tensor.bfloat16()) for name, tensor in trained.items())
    index = json.loads((run / "merge" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == len(list((run / "merge").glob("*.safetensors"))) > 1
    figures = read_stage(run, "merge")["summary"]
    assert 0 < figures["distance"] <= figures["limit"]


def test_the_exported_folder_is_complete_for_others(full, tiny_base):
    _, run = full
    model = AutoModelForCausalLM.from_pretrained(run / "merge", dtype="auto")
    assert model.dtype == torch.bfloat16
    settings = GenerationConfig.from_pretrained(run / "merge")
    settings.validate(strict=True)
    assert settings.eos_token_id == [2]
    template = AutoTokenizer.from_pretrained(tiny_base).chat_template
    assert AutoTokenizer.from_pretrained(run / "merge").chat_template == template


def test_it_is_called_full_fine_tuning(full):
    _, run = full
    for text in ((run / "merge" / "README.md").read_text(), (run / "report" / "report.html").read_text()):
        assert "full fine-tuning" in text
        assert "LoRA" not in text


def test_a_run_that_was_broken_off_ends_as_one_that_was_not(full, tmp_path, carried_out, broken_off):
    build, run = full
    broken_off(build, tmp_path, step=3)
    again = carried_out(build, tmp_path, "data", "train")
    unbroken, resumed = weights(run / "train" / "final"), weights(again / "train" / "final")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())


@pytest.fixture
def changed(full, tmp_path):
    """Rewrites one tensor of a copy of the run, in a stage's folder."""
    import shutil

    build, run = full
    copy = shutil.copytree(run, tmp_path / "tiny")

    def change(stage, name, how):
        for file in (copy / stage).glob("*.safetensors"):
            tensors = load_file(file)
            if name in tensors:
                tensors[name] = how(tensors[name]).contiguous()
                file.unlink()
                save_file(tensors, file, metadata={"format": "pt"})
        return configs.load(build), copy

    return change


def test_an_export_that_is_another_model_is_refused(changed, tmp_path, fault_of):
    config, run = changed("convert", "model.layers.1.mlp.down_proj.weight", lambda tensor: tensor * 0)
    (tmp_path / "out").mkdir()
    text = fault_of(merge, config, run, tmp_path / "out")
    assert text.startswith("error SG451: the exported model differs from the trained weights by ")
    assert text.endswith("\n  hint: the trained weights are kept; write export.merged.dtype: float32")


def test_weights_that_are_not_finite_are_refused(changed, tmp_path, fault_of):
    config, run = changed("train/final", "model.norm.weight", lambda tensor: tensor + float("inf"))
    (tmp_path / "out").mkdir()
    assert fault_of(convert, config, run, tmp_path / "out") == ("error SG443: model.norm.weight is empty or not finite in bfloat16")


def test_trained_weights_that_are_gone_are_named(changed, tmp_path, fault_of):
    config, run = changed("train/final", "model.norm.weight", lambda tensor: tensor)
    (run / "train/final/model.safetensors").unlink()
    assert fault_of(convert, config, run, tmp_path).startswith(f"error SG441: the trained weights in {run}/train/final cannot be read: ")
