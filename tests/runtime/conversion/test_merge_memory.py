"""A model of 2 GB is merged under a memory limit that holds a third of it, with the bytes of peft's merge."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from runtime.conversion import merging
from runtime.weights.shards import files_of
from runtime.weights.written import write_weights
from tests.runtime.conftest import usual
from tests.support.memory_limit import run_limited

pytestmark = pytest.mark.slow

LIMIT = 700_000_000
SIZES = {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 16}


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """(folder of a random Llama in bfloat16, folder of a random adapter for it)"""
    folder = tmp_path_factory.mktemp("big")
    config = LlamaConfig(vocab_size=32_000, dtype="bfloat16", tie_word_embeddings=False, **SIZES)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    kinds = {name: (list(tensor.shape), torch.bfloat16) for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    (folder / "base").mkdir()
    size = write_weights(kinds, lambda name: torch.randn(kinds[name][0], generator=generator) / 50, folder / "base", max_shard_size="500MB")
    assert size > 2_000_000_000
    config.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"))
    settings = adapted.peft_config["default"]
    settings.inference_mode = True
    factors = {
        name.replace(".default", ""): (list(tensor.shape), torch.float32)
        for name, tensor in adapted.state_dict().items()
        if "lora_" in name
    }
    (folder / "adapter").mkdir()
    write_weights(
        factors,
        lambda name: torch.randn(factors[name][0], generator=generator) / 50,
        folder / "adapter",
        max_shard_size="2GB",
        of="adapter",
    )
    settings.save_pretrained(str(folder / "adapter"))
    return folder


def test_memory_is_that_of_a_tensor_and_the_bytes_are_those_of_peft(big):
    folders = [str(big / name) for name in ("base", "adapter", "merged")]
    command = [sys.executable, "-m", "runtime.conversion.merging", *usual(merging), *folders]
    limited = run_limited(command, LIMIT, big)
    if limited is None:
        pytest.skip("no control group can be made here")
    done, peak = limited
    assert done.returncode == 0, f"{done.stdout}{done.stderr}, peak {peak}"
    assert peak <= LIMIT

    whole = AutoModelForCausalLM.from_pretrained(big / "base", dtype=torch.bfloat16)
    wanted = PeftModel.from_pretrained(whole, big / "adapter").merge_and_unload().state_dict()
    where = files_of(big / "merged", "the merged model")
    assert where.keys() == wanted.keys()
    assert json.loads((big / "merged/config.json").read_text())["dtype"] == "bfloat16"
    for name, file in where.items():
        with safe_open(file, framework="pt") as stream:
            assert torch.equal(stream.get_tensor(name).view(torch.int16), wanted[name].view(torch.int16)), name
