"""The library of specs: each is valid, compiles to the same bytes each time, and says where its values come from."""

from __future__ import annotations

import re

import pytest

from docsite.library import method, page, sources
from specgen.compiler import checked, compile_spec
from specgen.extend import load
from specgen.fmt import formatted
from specgen.library import entries
from specgen.plan import HubBase, Nf4Quantization
from specgen.source import Node, read

LIBRARY = [entry.path for entry in entries()]
PROFILES = [(path, profile) for path in LIBRARY for profile in load(path).children.get("profiles", Node(value={})).children]
# the template adds a system text of the model's makers, as in the recipe; smoke questions beyond the data; a lock pins what is on the
# hub; a few rows stand in for one's own; lessons in which one answer is learned, or one row; a lesson's ZeRO-2 on its one card; the
# run of a first stage comes first
ALLOWED = {"SG222", "SG263", "SG508", "SG516", "SG521", "SG518", "SG540", "SG648", "SG660"}
FAMILIES = (
    "internlm2", "internlm2_5", "internlm3", "qwen2_5", "qwen3", "llama3_1", "llama3_2", "mistral", "gemma2", "gemma3",
    "phi3_5", "phi4", "smollm2", "deepseek_r1", "llava",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


@pytest.fixture(scope="module")
def trees():
    """Every spec of the library, complete; and once more under each of its profiles."""
    return [checked(load(path)) for path in LIBRARY] + [checked(load(path), profile) for path, profile in PROFILES]


def test_there_are_at_least_fifty_specs():
    assert len(LIBRARY) >= 50


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_a_spec_compiles_to_the_same_bytes_twice_and_nothing_unusual_is_said(path):
    compiled = compile_spec(path)
    assert {diagnostic.code for diagnostic in compiled.diagnostics} <= ALLOWED, compiled.diagnostics
    assert compile_spec(path).files == compiled.files
    assert compiled.plan.name == path.stem


@pytest.mark.parametrize(("path", "profile"), PROFILES, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_a_profile_compiles_and_changes_something(path, profile):
    compiled = compile_spec(path, profile)
    assert {diagnostic.code for diagnostic in compiled.diagnostics} <= ALLOWED, compiled.diagnostics
    assert compiled.files["config.yaml"] != compile_spec(path).files["config.yaml"].replace(
        f"name: {path.stem}\n", f"name: {compiled.plan.name}\n"
    )


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_a_spec_says_what_it_is_for_where_it_comes_from_and_what_has_to_hold(path):
    text, tree = read(path), checked(load(path))
    assert formatted(text, str(path)) == text
    assert text.startswith("# yaml-language-server: $schema=../schemas/spec.schema.json\n# Source: ")
    assert all(
        re.fullmatch(r"specgen's own|[\w.-]+/[\w.-]+( 0\.1\.23| branch camp2)?, \S+\.(py|ya?ml|md)", source) for source in sources(text)
    )
    assert tree.text("description").endswith(".")
    assert tree.children["smoke"].items
    assert tree.children["model"].children["trust_remote_code"].value is False


def test_every_family_is_there():
    names = [path.stem for path in LIBRARY]
    assert [family for family in FAMILIES if not any(name.startswith(family + "_") for name in names)] == []


def test_every_method_is_there(trees):
    assert {method(tree) for tree in trees} >= {"full", "LoRA", "QLoRA", "LoRA on int8", "full, text", "LoRA, text", "QLoRA, text"}
    assert {method(tree) for tree in trees} >= {"projector, vision", "QLoRA, vision", "full, vision"}


def test_one_device_zero_2_zero_3_with_offload_and_two_nodes_are_there(trees):
    distributed = [tree.children["distributed"] for tree in trees]
    ways = {(node.number("zero_stage"), node.text("offload")) for node in distributed}
    assert ways >= {(0, "none"), (2, "none"), (3, "none"), (3, "all")}
    assert {node.number("nodes") for node in distributed} >= {1, 2}


def test_hub_files_and_rules_are_among_the_data(trees):
    kinds = {kind for tree in trees for source in tree.children["data"].children["sources"].items for kind in source.children}
    assert kinds == {"hub", "file", "synthetic"}


@pytest.mark.parametrize(
    "name", ["internlm2_chat_1_8b_qlora_alpaca_e3", "internlm2_1_8b_qlora_alpaca_e3", "internlm2_chat_7b_qlora_alpaca_e3"]
)
def test_xtuners_values_are_unchanged(name, root):
    """Expected from XTuner 0.1.23's config of that name."""
    plan = compile_spec(root / f"specs/{name}.yaml").plan
    assert (plan.adapter.r, plan.adapter.alpha, plan.adapter.dropout, plan.adapter.targets) == (64, 16.0, 0.1, "all-linear")
    train = plan.train
    assert (train.epochs, train.micro_batch_size, train.gradient_accumulation_steps, train.learning_rate) == (3.0, 1, 16, 2e-4)
    assert (train.adam_beta1, train.adam_beta2, train.weight_decay, train.max_grad_norm) == (0.9, 0.999, 0.0, 1.0)
    assert (train.schedule, train.warmup_ratio, train.save_total_limit) == ("cosine", 0.03, 2)
    assert train.save_steps == train.preview.every == round(500 / 16), "it counts batches before accumulation"
    assert (plan.data.max_length, plan.data.packing) == (2048, True)


@pytest.mark.parametrize("base", ["internlm2_chat_1_8b", "vicuna_7b_v15"])
def test_llavas_two_stages_have_xtuners_values(base, root):
    """Expected from XTuner 0.1.23's two configs of those names. Its max_length of 1472 is without the 576 tokens of the image."""
    names = f"llava_{base}_clip_vit_large_p14_336_e1_gpu8_pretrain", f"llava_{base}_qlora_clip_vit_large_p14_336_lora_e1_gpu8_finetune"
    first, second = (compile_spec(root / f"specs/{name}.yaml").plan for name in names)
    assert (second.model.from_run, second.model.base, second.model.vision.tower) == (
        f"runs/{names[0]}", first.model.base, first.model.vision.tower,
    )  # fmt: skip
    for plan, pads in ((first, False), (second, True)):
        assert (plan.model.quantization.TAG, plan.data.max_length, plan.train.group_by_length) == ("nf4", 2048, True)
        vision, train = plan.model.vision, plan.train
        assert (vision.select_layer, vision.projector, vision.image_tokens, vision.pad_to_square) == (-2, "mlp2x_gelu", 576, pads)
        assert (train.epochs, train.schedule, train.warmup_ratio, train.weight_decay) == (1.0, "cosine", 0.03, 0.0)
    assert (first.adapter, first.train.trainable_modules, first.export.merged.base) == (None, ("multi_modal_projector",), "full")
    assert (first.train.micro_batch_size, first.train.learning_rate) == (32, 1e-3)
    assert (second.train.micro_batch_size, second.train.learning_rate) == (16, 2e-4)
    lora = second.adapter
    assert (lora.r, lora.alpha, lora.dropout, lora.modules_to_save) == (512, 256.0, 0.05, ("multi_modal_projector",))
    assert (lora.vision_tower.r, lora.vision_tower.alpha) == (64, 16.0)


def test_the_lessons_values_are_unchanged(root):
    """Expected from the lesson's edits (xtuner/personal_assistant_document.md) of XTuner's internlm2_1_8b_qlora_alpaca_e3."""
    plan = compile_spec(root / "specs/internlm2_chat_1_8b_assistant.yaml").plan
    assert plan.model.base == HubBase(repo="internlm/internlm2-chat-1_8b", revision=None)
    assert (plan.model.dtype, plan.template.name) == ("float16", "internlm2_chat")
    assert plan.model.quantization == Nf4Quantization(double_quant=True, compute_dtype="float16", skip_modules=("lm_head",))
    assert (plan.adapter.r, plan.adapter.alpha, plan.adapter.dropout, plan.adapter.targets) == (64, 16.0, 0.1, "all-linear")
    assert (plan.data.max_length, plan.data.packing, plan.data.rows) == (1024, True, 10_001)
    train = plan.train
    assert (train.epochs, train.micro_batch_size, train.gradient_accumulation_steps, train.learning_rate) == (2.0, 1, 16, 2e-4)
    assert (train.optimizer, train.adam_beta1, train.adam_beta2, train.weight_decay) == ("adamw_torch", 0.9, 0.999, 0.0)
    assert (train.schedule, train.warmup_ratio, train.max_grad_norm) == ("cosine", 0.03, 1.0)
    assert (train.save_steps, train.preview.every, train.save_total_limit) == (round(300 / 16), round(300 / 16), 3)
    assert (len(train.preview.prompts), plan.distributed.zero_stage, plan.hardware.device_memory) == (3, 2, 8 * 2**30)


def test_the_page_of_the_library_is_fresh(root):
    """python -m docsite.library > specs/README.md"""
    assert (root / "specs/README.md").read_text(encoding="utf-8") == page()
