"""Initial adapter weights: trained, converted, merged; what PiSSA, OLoRA and LoftQ take out of the base is put back, and a run that
goes on takes out the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.utils.integrations import dequantize_module_weight
from transformers import AutoModelForCausalLM

from runtime import config as configs
from runtime.conversion import converting, merging
from runtime.conversion.convert import convert
from runtime.conversion.restored import difference
from runtime.models.adapter import attach, read_adapter
from runtime.models.model import load_model
from runtime.stages import read_stage
from runtime.talking.talker import Loading, of_folder
from runtime.training.initial import TAKEN, adapted_layers, read_taken
from runtime.training.train import FINAL
from runtime.training.trainable import prepared

IDS = torch.tensor([[1, 9690, 198, 2683, 359]])
TRAIN = {"max_steps": 4, "batch_size": 2, "save_steps": 2}
TAKING = ["pissa", "pissa_niter_4", "olora"]
CPU = torch.device("cpu")
NF4 = {"nf4": {"compute_dtype": "float32"}}


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory, saved_llama):
    return saved_llama(tmp_path_factory.mktemp("base"), hidden_size=64)  # nf4 counts in blocks of 64


@pytest.fixture(scope="module")
def run_of(tmp_path_factory, compiled, carried_out, wide_base):
    """A compiled folder and its run with these settings of an adapter; the same for the same settings."""
    made = {}

    def run(quantization=None, **lora):
        key = str((quantization, lora))
        if key not in made:
            folder = tmp_path_factory.mktemp("initial")
            model = {"base": str(wide_base), "quantization": quantization}
            build = compiled(folder, model=model, adapter={"lora": lora}, train=TRAIN)
            made[key] = build, carried_out(build, folder / "runs", "data", "train", "convert", "merge")
        return made[key]

    return run


def base_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def fresh(configured, folder, base, **lora):
    """A model as training begins with it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = configured(folder, model={"base": str(base)}, adapter={"lora": lora})
    return prepared(config, load_model(config.model, device=CPU), folder / TAKEN)


@pytest.mark.parametrize("method", ["gaussian", "orthogonal", "olora", "pissa"])
def test_the_run_ends_with_an_ordinary_adapter_and_a_merge_that_is_proven(run_of, wide_base, method):
    _, run = run_of(init_lora_weights=method)
    settings = json.loads((run / "convert" / "adapter_config.json").read_text())
    assert settings["init_lora_weights"] is True
    assert (settings["r"], settings["lora_alpha"]) == ((8, 16) if method in TAKING else (4, 8))
    figures = read_stage(run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"]
    by_peft = PeftModel.from_pretrained(base_of(wide_base), run / "convert")
    assert (logits(by_peft) - logits(base_of(run / "merge"))).abs().max() <= 1e-4
    assert (logits(by_peft) - logits(base_of(wide_base))).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}], ids=str)
@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_the_exported_adapter_is_the_trained_model(configured, wide_base, tmp_path, method, options):
    """Base without its part + trained adapter, as training has it, against the untouched base + exported adapter."""
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3.0}}
    lora = {"init_lora_weights": method, **patterns, **options}
    (tmp_path / "train").mkdir()
    config = configured(tmp_path, model={"base": str(wide_base)}, adapter={"lora": lora})
    trained = prepared(config, load_model(config.model, device=CPU), tmp_path / "train" / TAKEN)
    generator = torch.Generator().manual_seed(1)
    for parameter in trained.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    trained.save_pretrained(tmp_path / "train" / FINAL)
    convert(config, tmp_path, tmp_path / "convert")
    exported = attach(base_of(wide_base), tmp_path / "convert")
    assert (logits(trained) - logits(exported)).abs().max() <= 2e-5
    assert (logits(trained) - logits(base_of(wide_base))).abs().max() > 1e-2


@pytest.mark.parametrize("method", TAKING)
def test_a_part_of_the_base_is_taken_out_and_the_model_is_the_same(configured, wide_base, tmp_path, method):
    model = fresh(configured, tmp_path, wide_base, init_lora_weights=method, r=8)
    weights = base_of(wide_base).state_dict()
    for name, layer in adapted_layers(model):
        rest, whole = layer.get_base_layer().weight, weights[f"{name}.weight"]
        assert not torch.equal(rest, whole)
        both = rest + layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        torch.testing.assert_close(both, whole, atol=1e-6, rtol=0.0)
    assert (logits(model) - logits(base_of(wide_base))).abs().max() <= 1e-5


def test_pissa_takes_the_largest_singular_values(configured, wide_base, tmp_path):
    model = fresh(configured, tmp_path, wide_base, init_lora_weights="pissa", r=8)
    name, layer = next(adapted_layers(model))
    values = torch.linalg.svdvals(base_of(wide_base).state_dict()[f"{name}.weight"])
    torch.testing.assert_close(torch.linalg.svdvals(layer.get_base_layer().weight)[: len(values) - 8], values[8:], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [*TAKING, "loftq"])
def test_a_second_start_takes_out_the_same_to_the_bit(configured, wide_base, tmp_path, method, dtype):
    quantization = {"quantization": {"nf4": {"compute_dtype": dtype}}} if method == "loftq" else {}
    lora = {"init_lora_weights": method, **({"loftq_iter": 3} if method == "loftq" else {})}
    config = configured(tmp_path, model={"base": str(wide_base), "dtype": dtype, **quantization}, adapter={"lora": lora})
    states = [prepared(config, load_model(config.model, device=CPU), tmp_path / TAKEN).state_dict() for _ in range(2)]
    assert len(read_taken(tmp_path / TAKEN)) == 2 * 7
    assert states[0].keys() == states[1].keys()
    assert [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])] == []


@pytest.mark.parametrize("lora", [{"init_lora_weights": "pissa"}, {"init_lora_weights": "loftq", "loftq_iter": 3}], ids=str)
def test_a_run_that_was_broken_off_ends_as_one_that_was_not(run_of, tmp_path, carried_out, broken_off, lora):
    build, run = run_of(quantization=NF4 if lora["init_lora_weights"] == "loftq" else None, **lora)
    broken_off(build, tmp_path, step=3)
    again = carried_out(build, tmp_path, "data", "train")
    for file in (f"{FINAL}/adapter_model.safetensors", TAKEN):
        assert (again / "train" / file).read_bytes() == (run / "train" / file).read_bytes()


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("use_dora", [False, True])
def test_loftq_makes_up_for_what_nf4_lost(configured, wide_base, tmp_path, rounds, use_dora):
    lora = {"init_lora_weights": "loftq", "loftq_iter": rounds, "r": 16, "use_dora": use_dora}
    config = configured(tmp_path, model={"base": str(wide_base), "quantization": NF4}, adapter={"lora": lora})
    plain = load_model(config.model, device=CPU)
    wanted, without = logits(base_of(wide_base)), logits(plain)
    model = prepared(config, load_model(config.model, device=CPU), tmp_path / TAKEN)
    assert (logits(model) - wanted).norm() < (without - wanted).norm()
    assert (tmp_path / TAKEN).exists() == (rounds > 1)
    weights, quantized = base_of(wide_base).state_dict(), dict(plain.named_modules())
    for name, layer in adapted_layers(model):
        whole, base = weights[f"{name}.weight"], dequantize_module_weight(layer.get_base_layer())
        both = base + layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert (both - whole).norm() < 0.8 * (dequantize_module_weight(quantized[name]) - whole).norm()
        assert torch.equal(base, dequantize_module_weight(quantized[name])) == (rounds == 1)


@pytest.mark.parametrize("rounds", [1, 3])
def test_loftq_is_merged_into_the_base_that_it_was_trained_on(run_of, wide_base, rounds):
    build, run = run_of(quantization=NF4, init_lora_weights="loftq", loftq_iter=rounds)
    figures = read_stage(run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"]
    config = configs.load(build)
    trained = prepared(config, load_model(config.model, device=CPU), run / "train" / TAKEN)
    trained.load_adapter(run / "convert", "default")
    assert (logits(trained) - logits(base_of(run / "merge"))).abs().max() <= 1e-4  # 4-bit products against whole ones
    assert (logits(trained) - logits(attach(base_of(wide_base), run / "convert"))).abs().max() > 1e-3


@pytest.mark.parametrize("place", [FINAL, "checkpoint-4"])
@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_a_checkpoint_is_converted_as_the_run_converts_it(run_of, command, method, place):
    _, run = run_of(init_lora_weights=method)
    code, said = command(converting, run / "train" / place, "out", "--fp32")
    assert code == 0, said
    wanted, found = read_adapter(run / "convert"), read_adapter(Path("out"))
    assert found.keys() == wanted.keys()
    assert [name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)] == []


@pytest.mark.parametrize("rounds", [1, 3])
def test_an_adapter_that_is_made_of_a_checkpoint_says_what_it_was_trained_on(run_of, command, rounds):
    _, run = run_of(quantization=NF4, init_lora_weights="loftq", loftq_iter=rounds)
    code, said = command(converting, run / "train" / "checkpoint-4", "out")
    assert code == 0, said
    assert Path("out/trained_on.json").read_text() == (run / "convert" / "trained_on.json").read_text()


def test_a_checkpoint_without_what_was_taken_out_of_its_base_is_refused(run_of, command, tmp_path):
    _, run = run_of(init_lora_weights="pissa")
    shutil.copytree(run / "train" / "checkpoint-4", tmp_path / "checkpoint-4")
    what = "it began with a part of the base's weights (pissa), and taken_from_base.safetensors, which holds that part, is not beside it"
    hint = "convert it where its run has it: runs/NAME/train/checkpoint-N"
    told = f"error SG441: the adapter in checkpoint-4 cannot be read: {what}\n  hint: {hint}\n"
    assert command(converting, "checkpoint-4", "out") == (2, told)


def test_a_checkpoint_of_a_quantized_base_is_merged_into_what_that_stood_for(run_of, wide_base, command):
    _, run = run_of(quantization=NF4, init_lora_weights="loftq", loftq_iter=1)
    for adapter, out in ((run / "train" / "checkpoint-4", "of_checkpoint"), (run / "convert", "of_adapter")):
        code, said = command(merging, wide_base, adapter, out, "--dtype", "float32")
        assert code == 0, said
    assert json.loads(Path("of_checkpoint/merged.json").read_text())["into"] == "dequantized"
    found, wanted = base_of("of_checkpoint").state_dict(), base_of("of_adapter").state_dict()
    assert [name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)] == []


def test_a_checkpoint_that_fits_no_base_is_neither_merged_nor_talked_to(run_of, wide_base, command, fault_of):
    _, run = run_of(init_lora_weights="pissa")
    checkpoint = run / "train" / "checkpoint-4"
    what = f"the adapter in {checkpoint} began with a part of the base's weights (pissa): as it lies there it fits no base"
    told = f"error SG467: {what}\n  hint: make an ordinary one of it: specgen convert {checkpoint} OUT"
    assert command(merging, wide_base, checkpoint, "out") == (2, told + "\n")
    assert fault_of(of_folder, wide_base, Loading(device="cpu", adapter=checkpoint)) == told


def test_the_exported_factors_keep_the_difference_in_16_bits():
    """Stacked, as peft's conversion has them, rounding loses a share of what was taken, and not of what was learnt."""
    generator = torch.Generator().manual_seed(1)
    taken_first, taken_second = torch.randn(8, 64, generator=generator), torch.randn(96, 8, generator=generator)
    first = taken_first + 1e-3 * torch.randn(8, 64, generator=generator)
    second = taken_second + 1e-3 * torch.randn(96, 8, generator=generator)
    wanted = second.double() @ first.double() - taken_second.double() @ taken_first.double()
    whole_first, whole_second = difference(first, second, taken_first, taken_second, 2.0)
    assert (whole_first.shape, whole_second.shape) == ((16, 64), (96, 16))
    found = 2.0 * whole_second.half().double() @ whole_first.half().double()
    stacked = torch.cat([second, -taken_second], dim=1).half().double() @ torch.cat([first, taken_first]).half().double()
    assert (found - wanted).norm() / wanted.norm() < 1e-3 < 0.1 < (stacked - wanted).norm() / wanted.norm()


def test_twice_the_rank_may_be_more_than_a_matrix_has_rows():
    generator = torch.Generator().manual_seed(1)
    first, second, taken_first, taken_second = (torch.randn(shape, generator=generator) for shape in ((6, 8), (8, 6)) * 2)
    whole_first, whole_second = difference(first, second, taken_first, taken_second, 0.5)
    assert (whole_first.shape, whole_second.shape) == ((12, 8), (8, 12))
    torch.testing.assert_close(0.5 * whole_second @ whole_first, second @ first - taken_second @ taken_first, atol=1e-5, rtol=0.0)


def test_a_base_whose_files_lack_a_weight_is_named(configured, wide_base, tmp_path, fault_of):
    from runtime.training.initial import weights_of

    assert fault_of(weights_of(wide_base), "model.layers.9.weight") == (
        f"error SG441: the base model's weights in {wide_base} have no model.layers.9.weight"
    )


def test_names_of_the_adapter_are_those_of_any_other(run_of):
    _, run = run_of(init_lora_weights="pissa")
    assert len(read_adapter(run / "convert")) == 2 * 2 * 7
