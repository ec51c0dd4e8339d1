"""A base model whose code transformers does not have: with trust_remote_code it goes through every stage, and nobody is asked."""

from __future__ import annotations

import json
import shutil

import pytest
import transformers.dynamic_module_utils

from runtime.stages import read_stage

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "specgen_own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """Where transformers keeps the code of models."""
    with pytest.MonkeyPatch.context() as patched:
        folder = str(tmp_path_factory.mktemp("modules"))
        patched.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", folder)
        patched.setattr("builtins.input", lambda *_: pytest.fail("somebody is asked"))
        yield


@pytest.fixture(scope="module")
def own_base(tmp_path_factory, tiny_base):
    """The tiny Llama as a model with code of its own."""
    folder = tmp_path_factory.mktemp("own") / "base"
    shutil.copytree(tiny_base, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "specgen_own", "architectures": ["OwnForCausalLM"]}
    settings["auto_map"] = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "modeling_own.py").write_text(CODE)
    return folder


@pytest.mark.parametrize("adapter", [None, {"lora": {"r": 4}}], ids=["full", "lora"])
def test_a_model_with_code_of_its_own_is_trained_merged_asked_and_exported(tmp_path, own_base, compiled, carried_out, adapter):
    model = {"base": str(own_base), "trust_remote_code": True}
    export = {"merged": {"dtype": "bfloat16"}, "quantized": {"int8": {}}}
    build = compiled(tmp_path, model=model, adapter=adapter, train={"max_steps": 1}, export=export)
    run = carried_out(build, tmp_path / "runs")
    assert json.loads((run / "merge" / "config.json").read_text())["model_type"] == "specgen_own"
    assert (run / "merge" / "modeling_own.py").exists()
    assert read_stage(run, "smoke")["summary"]["passed"]
    assert read_stage(run, "export")["summary"]["quantized"]["passed"]
