"""specgen convert: checkpoints of ours and of XTuner, as Hugging Face folders; and files that were made to do harm."""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import os
import shutil
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from runtime.conversion import converting, pth
from runtime.faults import RunFault
from tests.e2e.commands import specgen

IDS = torch.arange(5, 25)[None]
CFG = "llm_lora = dict(lora_alpha=6, r=2)\npretrained_model_name_or_path = 'internlm/internlm2-chat-1_8b'\n"


@pytest.fixture
def convert(command):
    """What `python -m runtime.conversion.converting` ends with, and all it says."""
    return functools.partial(command, converting)


@pytest.fixture
def checkpoint(finished):
    return max((finished[1] / "train").glob("checkpoint-*"))


@pytest.fixture
def adapted(tiny_model):
    """A model with a random adapter, DoRA and one module as a whole."""
    settings = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=6, target_modules=["q_proj"], use_dora=True, modules_to_save=["lm_head"])
    model = get_peft_model(tiny_model, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def mmengine(monkeypatch):
    """A module with classes as mmengine puts them beside the weights; gone when the file is read."""
    module = types.ModuleType("mmengine_like")
    for name, parents in {"HistoryBuffer": (), "Config": (dict,), "Entries": (list,)}.items():
        made = type(name, parents, {"__module__": module.__name__})
        setattr(module, name, made)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def saved(file, state, mmengine, cfg=CFG):
    """A file as mmengine saves it."""
    buffer = mmengine.HistoryBuffer()
    buffer.values = torch.arange(3.0).numpy()
    hub = {"loss": buffer, "info": mmengine.Config(a=1), "keys": mmengine.Entries([1]), "of": defaultdict(list, {"a": [1]})}
    torch.save({"state_dict": OrderedDict(state), "meta": {"cfg": cfg, "epoch": 1}, "message_hub": hub}, file)
    del sys.modules[mmengine.__name__]
    return file


def test_a_checkpoint_of_a_run_becomes_an_adapter(convert, checkpoint, tmp_path):
    code, said = convert(checkpoint, "out")
    assert (code, said) == (0, "convert  adapter · float16 · 8.2 kB\nwrote out; next: specgen merge BASE out OUT\n")
    trained = load_file(checkpoint / "adapter_model.safetensors")
    assert all(torch.equal(tensor, trained[name].half()) for name, tensor in load_file("out/adapter_model.safetensors").items())
    assert convert(checkpoint, "exact", "--fp32")[0] == 0
    assert all(torch.equal(tensor, trained[name]) for name, tensor in load_file("exact/adapter_model.safetensors").items())
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_command_takes_the_same_options(checkpoint, tmp_path):
    done = specgen("convert", checkpoint, "out", "--fp32", "--max-shard-size", "4KB", "--format", "bin", cwd=tmp_path)
    assert done.code == 0, done.output
    files = sorted((tmp_path / "out").glob("adapter_model*.bin"))
    assert len(files) > 1
    trained = load_file(checkpoint / "adapter_model.safetensors")
    found = {name: tensor for file in files for name, tensor in torch.load(file, weights_only=True).items()}
    assert found.keys() == trained.keys()
    assert all(torch.equal(found[name], trained[name]) for name in trained)


def test_a_folder_of_whole_weights_becomes_a_model(convert, tiny_base):
    assert convert(tiny_base, "out")[1].endswith("wrote out; next: specgen chat out\n")
    base, made = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto") for folder in (tiny_base, "out"))
    assert made.dtype == torch.float16
    assert all(torch.equal(tensor, base.state_dict()[name].half()) for name, tensor in made.state_dict().items())
    assert Path("out/tokenizer.json").exists()


def test_a_damaged_checkpoint_is_told(convert, checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "checkpoint-9")
    with (tmp_path / "checkpoint-9/adapter_model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    code, said = convert("checkpoint-9", "out")
    assert code == 1
    assert said.startswith("error SG441: checkpoint-9 is damaged: adapter_model.safetensors ")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_nothing_is_written_over(convert, checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("keep")
    assert convert(checkpoint, "out") == (
        2,
        "error SG459: out is there already; nothing was touched\n  hint: give a new folder, or move that one away\n",
    )
    assert (tmp_path / "out/notes.txt").read_text() == "keep"


def test_an_adapter_of_xtuner_is_the_same_model(convert, adapted, mmengine, tiny_base):
    state = {f"llm.{name}": tensor for name, tensor in adapted.state_dict().items() if "lora_" in name or "modules_to_save" in name}
    state["projector.model.0.weight"] = torch.ones(2)
    code, said = convert(saved("iter_3.pth", state, mmengine), "out", "--fp32")
    assert code == 0, said
    assert said.startswith("note     left out: projector; only the language model is converted\n")
    settings = json.loads(Path("out/adapter_config.json").read_text())
    wanted = {"r": 2, "lora_alpha": 6, "use_dora": True, "modules_to_save": ["lm_head"]}
    assert {name: settings[name] for name in wanted} == wanted
    assert settings["base_model_name_or_path"] == "internlm/internlm2-chat-1_8b"
    own = load_file("out/adapter_model.safetensors")
    assert own.keys() == get_peft_model_state_dict(adapted).keys()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), "out").eval()
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, adapted(IDS).logits)


def test_a_whole_model_of_xtuner_needs_the_settings_of_its_base(convert, tiny_model, tiny_base, mmengine):
    state = {f"llm.{name}": tensor for name, tensor in tiny_model.state_dict().items()}
    saved("iter_3.pth", state, mmengine)
    hint = "  hint: give the folder of the base model: --base DIR\n"
    assert convert("iter_3.pth", "out") == (2, f"error SG496: iter_3.pth holds a whole model's weights, without its config.json\n{hint}")
    assert convert("iter_3.pth", "out", "--base", tiny_base, "--fp32")[0] == 0
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained("out").eval()(IDS).logits, tiny_model(IDS).logits)


def test_an_alpha_that_no_file_says_is_given(convert, adapted, mmengine):
    state = {f"llm.{name}": tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    saved("iter_3.pth", state, mmengine, cfg="")
    hint = "  hint: give it as the training config had it: --lora-alpha 16\n"
    assert convert("iter_3.pth", "out") == (2, f"error SG496: iter_3.pth does not say lora_alpha, which scales the adapter\n{hint}")
    assert convert("iter_3.pth", "out", "--lora-alpha", "12.5")[0] == 0
    assert json.loads(Path("out/adapter_config.json").read_text())["lora_alpha"] == 12.5


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("visual_encoder.weight", torch.ones(2), "error SG496: iter_3.pth holds no weights of a language model"),
        ("llm.model.norm.weight", torch.ones(0), "error SG443: model.norm.weight in iter_3.pth is empty"),
    ],
)
def test_files_without_weights_are_told(convert, mmengine, name, tensor, message):
    assert convert(saved("iter_3.pth", {name: tensor}, mmengine), "out")[1].splitlines()[0] == message


def test_what_is_no_checkpoint_is_told(convert, tmp_path):
    assert convert("nowhere", "out")[1] == "error SG450: there is no checkpoint nowhere\n  hint: give a folder or a .pth file\n"
    (tmp_path / "empty").mkdir()
    hint = "  hint: give a checkpoint-N of ours, a folder as peft or transformers writes it, or iter_N.pth of XTuner\n"
    assert convert("empty", "out")[1] == f"error SG496: empty is no checkpoint: it has neither weights nor *_model_states.pt\n{hint}"


class Calls:
    """Pickled, it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        Calls(os.system, "touch harm"),
        Calls(builtins.eval, "open('harm', 'w')"),
        Calls(builtins.exec, "open('harm', 'w')"),
        Calls(open, "harm", "w"),
        Calls(importlib.import_module, "harm"),
        Calls(torch.load, "other.pth"),
        Calls(torch.hub.load, "a/b", "c"),
    ],
    ids=["os.system", "eval", "exec", "open", "import", "torch.load", "torch.hub"],
)
@pytest.mark.parametrize("place", ["beside", "among"])
def test_nothing_that_a_file_names_is_called(convert, adapted, tmp_path, call, place):
    state = {f"llm.{name}": tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    content = {"state_dict": state | ({"x": call} if place == "among" else {}), "harm": call, "meta": {"cfg": CFG}}
    torch.save(content, "iter_3.pth")
    code, said = convert("iter_3.pth", "out")
    assert code == 0, said
    assert not (tmp_path / "harm").exists()


def test_files_that_are_none_of_torch_are_told(convert, tmp_path):
    (tmp_path / "text.pth").write_bytes(b"\x80\x04no")
    old = "it is no file of torch.save, or of a PyTorch older than 1.6\n  hint: save it again with torch.save of a newer PyTorch\n"
    assert convert("text.pth", "out")[1] == f"error SG470: text.pth cannot be read: {old}"
    torch.jit.script(torch.nn.Linear(2, 2)).save("script.pth")
    program = "it is a TorchScript program\n  hint: save its state_dict with torch.save\n"
    assert convert("script.pth", "out")[1] == f"error SG470: script.pth cannot be read: {program}"
    torch.save([torch.ones(2)], "list.pth")
    assert convert("list.pth", "out")[1] == "error SG470: list.pth holds no weights by their names\n"


def test_a_file_that_was_cut_off_is_told(convert, tmp_path):
    torch.save({"state_dict": {"llm.model.a": torch.ones(1000)}}, "iter_3.pth")
    whole = (tmp_path / "iter_3.pth").read_bytes()
    (tmp_path / "iter_3.pth").write_bytes(whole[: len(whole) // 2])
    code, said = convert("iter_3.pth", "out")
    assert code == 1
    assert said.startswith("error SG470: iter_3.pth cannot be read: ")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_of_every_type_are_read(tmp_path, dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    torch.save({"a": tensor, "b": torch.nn.Parameter(torch.ones(2)), "c": tensor.T}, tmp_path / "a.pth")
    found = pth.load(tmp_path / "a.pth")
    assert torch.equal(found["a"], tensor)
    assert torch.equal(found["c"], tensor.T)
    assert torch.equal(found["b"], torch.ones(2))


def test_a_fault_has_a_code(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(RunFault, match="cannot be read"):
        pth.load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "error SG496: iter_3.pth holds no weights of a language model"),
        (
            {"llm.base_model.model.q.lora_B.default.weight": torch.ones(2, 2)},
            "error SG496: iter_3.pth has base_model.model.q.lora_B.weight, and no lora_A that goes with it",
        ),
        (
            {"llm.base_model.model.q.lora_A.default.weight": torch.ones(2, 2)},
            "error SG496: iter_3.pth has base_model.model.q.lora_A.weight, and no lora_B that goes with it",
        ),
        ({"llm.model.norm.weight": torch.tensor(1.0)}, "error SG496: model.norm.weight in iter_3.pth is a single number, and no weight"),
    ],
)
def test_half_a_file_is_told(convert, state, message):
    torch.save({"state_dict": state}, "iter_3.pth")
    assert convert("iter_3.pth", "out")[1].splitlines()[0] == message


@pytest.mark.parametrize("cfg", ["lora_alpha=1.2.3,", "lora_alpha=2 * 8,", "lora_alpha=0,"])
def test_an_alpha_that_is_no_number_above_zero_is_not_taken(convert, adapted, mmengine, cfg):
    state = {f"llm.{name}": tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    told = convert(saved("iter_3.pth", state, mmengine, cfg=cfg), "out")[1]
    assert told.startswith("error SG496: iter_3.pth does not say lora_alpha, which scales the adapter\n")


def test_weights_of_another_model_than_the_base_are_refused(convert, tiny_model, tiny_base, saved_llama):
    state = {f"llm.{name}": tensor for name, tensor in tiny_model.state_dict().items()}
    torch.save({"state_dict": state}, "iter_3.pth")
    big = saved_llama(Path("big"), hidden_size=64)
    told = convert("iter_3.pth", "out", "--base", big)[1]
    assert told.startswith("error SG496: iter_3.pth does not hold the weights of a model like big: lm_head.weight is [49152, 32], in big [")
    del state["llm.model.norm.weight"]
    torch.save({"state_dict": state}, "iter_3.pth")
    told = convert("iter_3.pth", "out", "--base", tiny_base)[1]
    assert told.startswith(f"error SG496: iter_3.pth does not hold the weights of a model like {tiny_base}: it has no model.norm.weight\n")


def test_deepspeeds_folder_without_its_numbers_is_told(convert, tmp_path):
    (tmp_path / "iter_3.pth").mkdir()
    torch.save({"module": []}, "iter_3.pth/mp_rank_00_model_states.pt")
    torch.save({"optimizer_state_dict": {}}, "iter_3.pth/zero_pp_rank_0_mp_rank_00_optim_states.pt")
    told = convert("iter_3.pth", "out")[1]
    assert told == "error SG496: iter_3.pth cannot be read: its parts do not say how many processes wrote it\n"
