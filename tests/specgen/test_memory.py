"""The memory plan: counts that one can do by hand, ZeRO's shares, and settings that are advised because they fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specgen.compiler import compile_tree
from specgen.facts.figures import DataFigures
from specgen.facts.model import facts_from_config
from specgen.memory import memory_plan
from specgen.memory.fitting import remedies
from specgen.memory.plan import PARTS
from specgen.render import render
from specgen.rules.memory import memory_fits
from specgen.source import parse
from tests.conftest import SMALL

GIB = 2**30
SHARED = ("distributed.processes_per_node=2", "distributed.zero_stage=1")
SETTINGS = ("template=chatml", "train.batch_size=8", "data.max_length=512")
# 2 layers; a layer has 2 x 64 x 64 (q, o) + 2 x 64 x 32 (k, v) + 3 x 64 x 128 (mlp) weights and 2 x 64 of norms
SHAPE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "tie_word_embeddings": False,
}
LINEAR = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
OTHERS = 2 * 1000 * 64 + 5 * 64
MODULES = 14
ADAPTER = 16 * 2 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))


def compiled(*settings):
    return compile_tree(parse(SMALL, "small.yaml"), None, (*SETTINGS, *settings))


def plan_of(*settings):
    return compiled(*settings).plan


def memory_of(*settings, shape=SHAPE, figures=None):
    return memory_plan(plan_of(*settings), facts_from_config(shape, origin="published"), figures)


def figures_with(**numbers):
    counts = dict.fromkeys(("rows", "train_rows", "validation_rows", "examples", "median", "p90", "p99", "dropped", "truncated"), 1)
    return DataFigures(**{**counts, "duplicates": 0.0, "overlap": 0.0, "tokens": 100, "trained_tokens": 100, "longest": 9, **numbers})


def test_weights_have_the_bytes_of_their_dtype():
    assert memory_of("model.dtype=bfloat16").weights == 2 * (LINEAR + OTHERS)
    assert memory_of("model.dtype=float32").weights == 4 * (LINEAR + OTHERS)


def test_weights_that_are_all_trained_are_float32():
    memory = memory_of("adapter=null", "train.learning_rate=1e-5")
    assert (memory.weights, memory.adapter, memory.optimizer) == (4 * (LINEAR + OTHERS), 0, 8 * (LINEAR + OTHERS))


def test_an_adapter_is_float32_with_two_moments():
    memory = memory_of()
    assert (memory.adapter, memory.optimizer) == (4 * ADAPTER, 8 * ADAPTER)


@pytest.mark.parametrize(
    ("double_quant", "scales"),
    [("true", LINEAR // 64 + 4 * LINEAR // 64 // 256 + 4 * (16 + 256) * MODULES), ("false", 4 * LINEAR // 64 + 64 * MODULES)],
)
def test_nf4_has_half_a_byte_a_weight_and_its_scales_and_leaves_the_rest_in_float32(double_quant, scales):
    memory = memory_of(f"model.quantization={{nf4: {{double_quant: {double_quant}}}}}")
    assert memory.weights == pytest.approx(LINEAR // 2 + scales + 4 * OTHERS, abs=2)


def test_int8_has_a_byte_a_weight_and_a_scale_a_row():
    outputs = 2 * (64 + 2 * 32 + 64 + 2 * 128 + 64)
    assert memory_of("model.quantization={int8: {}}").weights == LINEAR + 4 * outputs + 4 * OTHERS


def test_skipped_modules_stay_whole():
    whole = 2 * 64 * 128
    quantization = "model.quantization={nf4: {double_quant: false, skip_modules: [down_proj]}}"
    less = memory_of(quantization).weights - memory_of("model.quantization={nf4: {double_quant: false}}").weights
    assert less == whole * 4 - whole // 2 - 4 * whole // 64


@pytest.mark.parametrize(
    ("optimizer", "bytes_each"),
    [("adamw_torch", 8), ("adamw_torch_fused", 8), ("paged_adamw_32bit", 8), ("adamw_bnb_8bit", 2 + 8 / 256), ("sgd", 0)],
)
def test_each_optimizer_has_its_state(optimizer, bytes_each):
    assert memory_of(f"train.optimizer={optimizer}").optimizer == round(bytes_each * ADAPTER)


def test_adafactor_keeps_a_number_for_each_row_and_column():
    memory = memory_of("train.optimizer=adafactor", "adapter=null", "train.learning_rate=1e-5")
    layer = 2 * (64 + 64) + 2 * (32 + 64) + 3 * (64 + 128) + 2 * 64
    assert memory.optimizer == 4 * (2 * layer + 2 * (1000 + 64) + 64)


def test_rows_are_as_long_as_the_longest_but_packs_are_full():
    figures = figures_with(longest=40)
    assert memory_of("data.max_length=64").row_tokens == 64
    assert memory_of("data.max_length=64", figures=figures).row_tokens == 40
    assert memory_of("data.max_length=32", "data.overlong=truncate", figures=figures).row_tokens == 32
    assert memory_of("data.max_length=64", "data.packing=true", figures=figures).row_tokens == 64


def test_only_trained_positions_have_logits():
    vocabulary = {**SHAPE, "vocab_size": 100_000}
    half = memory_of("train.micro_batch_size=8", shape=vocabulary, figures=figures_with(longest=101, trained_tokens=50))
    assert half.logits == 12 * (8 * 100 // 2) * 100_000
    assert half.largest[0] == "logits"


def test_a_chunk_has_its_logits_at_a_time():
    vocabulary = {**SHAPE, "vocab_size": 200_000}
    most = memory_of("train.micro_batch_size=8", shape=vocabulary, figures=figures_with(longest=101, trained_tokens=101))
    assert most.logits == 12 * (256 * 2**20 // (4 * 200_000)) * 200_000


def test_zero_shares_out_more_with_each_stage():
    full = ("adapter=null", "train.learning_rate=1e-5", "distributed.processes_per_node=4", "train.micro_batch_size=1")
    count = LINEAR + OTHERS
    alone, *stages = (memory_of(*full, f"distributed.zero_stage={stage}") for stage in range(4))
    assert (alone.weights, alone.optimizer) == (4 * count, 8 * count)
    assert [stage.weights for stage in stages] == [2 * count, 2 * count, count // 2]
    assert {stage.optimizer for stage in stages} == {16 * count // 4}  # with float32 copies of weights and gradients
    assert [stage.gradients for stage in stages] == [2 * count, count // 2, count // 2]


def test_offload_moves_state_to_the_cpu():
    settings = ("distributed.processes_per_node=4", "distributed.zero_stage=3")
    stays, optimizer, everything = (memory_of(*settings, f"distributed.offload={what}") for what in ("none", "optimizer", "all"))
    assert (optimizer.optimizer, optimizer.on_cpu) == (0, stays.optimizer)
    assert (everything.weights, everything.on_cpu) == (0, stays.optimizer + stays.weights + stays.adapter)


def test_buckets_hold_all_gradients_and_no_more():
    settings = ("distributed.processes_per_node=2", "distributed.zero_stage=2")
    own = memory_of(*settings, "distributed.deepspeed={zero_optimization: {reduce_bucket_size: 1000}}")
    assert memory_of(*settings).buffers - own.buffers == 2 * 2 * (ADAPTER - 1000)
    known = compiled(*settings)
    assert '"reduce_bucket_size": 4884480' in render(known.plan, known.facts)["deepspeed.json"]  # r 16 on SmolLM2-135M
    unknown = compiled(*settings, "model.base=hf:example/some-model")
    assert '"reduce_bucket_size": 500000000' in render(unknown.plan, unknown.facts)["deepspeed.json"]


def test_what_is_not_known_is_unknown():
    assert memory_plan(plan_of(), None, None) is None
    facts = facts_from_config(SHAPE, origin="published")
    assert memory_plan(plan_of(), replace(facts, model_type="mamba"), None) is None
    assert memory_plan(plan_of(), replace(facts, config={"model_type": "llama"}), None) is None


def test_parts_are_told_largest_first_and_add_up():
    memory = memory_of()
    assert set(memory.parts) == set(PARTS)
    assert list(memory.parts.values()) == sorted(memory.parts.values(), reverse=True)
    assert memory.total == sum(memory.parts.values())


def as_setting(remedy):
    path, _, value = remedy.setting.partition(": ")
    return f"{path}={value}"


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (("train.micro_batch_size=8",), 3 * GIB),
        (("train.micro_batch_size=8",), 0.7 * GIB),
        (("adapter=null", "train.learning_rate=1e-5"), 2.2 * GIB),
        (("data.packing=true", "data.max_length=2048", "train.batch_size=4", "train.micro_batch_size=1"), 2.2 * GIB),
        (("distributed.processes_per_node=2", "distributed.zero_stage=1", "model.dtype=float32"), 3.9 * GIB),
    ],
)
def test_every_setting_that_is_advised_makes_it_fit(settings, limit):
    now = compiled(*settings)
    assert memory_plan(now.plan, now.facts.model, None).total > limit
    found = remedies(now.plan, now.facts.model, None, limit)
    assert found
    alone = [compiled(*settings, as_setting(remedy)) for remedy in found]
    if found[0].memory.total <= limit:
        assert [memory_plan(changed.plan, changed.facts.model, None).total for changed in alone] == [it.memory.total for it in found]
        assert all(remedy.memory.total <= limit for remedy in found)
    else:
        together = compiled(*settings, *map(as_setting, found))
        assert memory_plan(together.plan, together.facts.model, None).total == found[-1].memory.total <= limit


def test_an_old_gpu_is_advised_another_type():
    settings = ("model.dtype=float32", "hardware={device: cuda, compute_capability: 7.5}")
    now = compiled(*settings)
    found = remedies(now.plan, now.facts.model, None, memory_plan(now.plan, now.facts.model, None).total - 1)
    assert "model.dtype: float16" in [remedy.setting for remedy in found]


def test_nothing_is_advised_where_nothing_helps():
    now = compiled()
    assert remedies(now.plan, now.facts.model, None, 1000) == []


def test_the_plan_names_the_parts_and_the_limit():
    known = compiled("hardware.device_memory=20GiB")
    page = render(known.plan, known.facts)["plan.md"]
    memory = memory_plan(known.plan, known.facts.model, None)
    assert f"| together | {memory.total / GIB:.2f} GiB of 20.00 GiB |" in page
    assert "with rows of 512 tokens of which 100 % are trained: no row is longer" in page


def test_the_plan_says_what_is_unknown():
    unknown = compiled("model.base=hf:example/some-model")
    assert "Unknown: the base model's sizes are not at hand." in render(unknown.plan, unknown.facts)["plan.md"]


def test_a_measured_step_of_a_model_of_an_unknown_kind_is_told_without_its_remedies():
    known = compiled("hardware.device_memory=4GiB")
    facts = replace(known.facts, model=replace(known.facts.model, model_type="gpt2"))
    measured = replace(memory_plan(known.plan, known.facts.model, None), weights=5 * GIB)
    (fault,) = memory_fits(known.tree, known.plan, facts, measured)
    assert fault.code == "SG281"
    assert fault.hint == "gradient checkpointing and smaller micro batches need less"


@pytest.mark.parametrize(
    ("settings", "refused", "code"),
    [
        ((*SHARED, "adapter.lora.init_lora_weights=pissa"), "model.quantization: {nf4: {}}", "SG601"),
        (("train.optimizer=grokadamw", "distributed.processes_per_node=2"), "distributed.zero_stage: 1", "SG610"),
        (("distributed.preset=deepspeed_zero1", "distributed.processes_per_node=2"), "distributed.offload: optimizer", "SG631"),
    ],
)
def test_what_the_checks_refuse_is_not_advised(settings, refused, code, faults_of):
    known = compiled(*settings)
    limit = memory_plan(known.plan, known.facts.model, None).total - 1
    assert refused in [remedy.setting for remedy in remedies(known.plan, known.facts.model, None, limit)]
    path, _, value = refused.partition(": ")
    assert code in [fault.partition(":")[0] for fault in faults_of(*SETTINGS, *settings, f"{path}={value}")]
    short = replace(known.plan, hardware=replace(known.plan.hardware, device_memory=limit))
    (fault,) = memory_fits(known.tree, short, known.facts)
    assert fault.hint.startswith("it fits with ")
    assert refused not in fault.hint


def test_four_bits_are_advised_with_the_type_that_was_counted_with():
    known = compiled(*SHARED, "model.dtype=float16", "hardware.device=cuda")
    found = remedies(known.plan, known.facts.model, None, memory_plan(known.plan, known.facts.model, None).total - 1)
    assert "model.quantization: {nf4: {compute_dtype: float16}}" in [remedy.setting for remedy in found]
