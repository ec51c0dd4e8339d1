"""Cases from real bug reports (tests/cases) that the compiler answers. Their field names are placeholders for those of the spec."""

from __future__ import annotations

import json

import pytest
import yaml

from specgen.diagnostics import SpecError


@pytest.fixture(scope="session")
def case_spec(root):
    """The YAML of a case."""
    return lambda name: yaml.safe_load((root / "tests/cases" / name).read_text(encoding="utf-8"))


def setting(key, value):
    return f"{key}={json.dumps(value)}"


def deepspeed_of(case, *, accumulation=None):
    """Settings for the batch and DeepSpeed sections of case o22."""
    train, deepspeed = case["train"], case["deepspeed"]
    micro, steps = train.get("per_device_batch", 2), accumulation or train.get("grad_accum", 1)
    own = dict(deepspeed.get("overrides", {}))
    if "reduce_bucket_size" in deepspeed:
        own.setdefault("zero_optimization", {})["reduce_bucket_size"] = deepspeed["reduce_bucket_size"]
    return (
        setting("train.micro_batch_size", micro),
        setting("train.batch_size", micro * steps),
        setting("distributed.zero_stage", deepspeed["stage"]),
        setting("distributed.deepspeed", own),
    )


def numbers_as_text(value, path=""):
    """Every text in a JSON document that looks like a number or a truth."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in numbers_as_text(item, f"{path}.{key}")]
    looks = isinstance(value, str) and (value in ("true", "false") or value.replace(".", "").replace("e", "").isdigit())
    return [path] if looks else []


def test_o22_numbers_in_quotes_are_refused_each_with_its_name(case_spec, faults_of):
    found = faults_of(*deepspeed_of(case_spec("o22_types.yaml"), accumulation=8))
    assert found == [
        'SG265: distributed.deepspeed.zero_optimization.sub_group_size is the text "1e9"',
        'SG265: distributed.deepspeed.zero_optimization.reduce_bucket_size is the text "5e8"',
    ]
    assert faults_of('train.micro_batch_size="8"') == ["SG103: train.micro_batch_size is the text 8; it has to be a whole number or null"]


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 16), (4, 64)])
def test_o22_numbers_are_numbers_in_the_compiled_json(compiled_with, processes, batch_size):
    compiled = compiled_with(
        "train.micro_batch_size=2",
        f"train.batch_size={batch_size}",
        f"distributed.processes_per_node={processes}",
        "distributed.zero_stage=2",
        "distributed.deepspeed={zero_optimization: {reduce_bucket_size: 5e8, sub_group_size: 1e9}}",
    )
    settings = json.loads(compiled.files["deepspeed.json"])
    assert (settings["train_batch_size"], settings["gradient_accumulation_steps"]) == (batch_size, 8)
    assert settings["bf16"]["enabled"] is True
    assert settings["zero_optimization"] == {
        "stage": 2,
        "overlap_comm": True,
        "reduce_bucket_size": 500_000_000,
        "sub_group_size": 1_000_000_000,
    }
    assert not numbers_as_text(settings)


def test_o22_a_batch_of_another_size_is_refused_with_both_numbers(case_spec, faults_of):
    case = case_spec("o22_mismatch.yaml")
    found = faults_of(*deepspeed_of(case), setting("train.max_grad_norm", case["train"]["max_grad_norm"]))
    assert found == [
        "SG266: distributed.deepspeed.train_batch_size is 32, and train.batch_size makes it 16 = 2 x 8 x 1",
        "SG266: distributed.deepspeed.gradient_clipping is 0.5, and train.max_grad_norm makes it 1",
    ]


def test_o22_an_optimizer_in_both_places_is_refused(case_spec, faults_of):
    found = faults_of(*deepspeed_of(case_spec("o22_two_optimizers.yaml")))
    assert found == ["SG267: the optimizer is chosen by train.optimizer, and a second one is given to DeepSpeed"]


def test_o21_the_output_layer_stays_in_a_list_of_ones_own(case_spec, compiled_with):
    skipped = case_spec("o21.yaml")["quant"]["skip_modules"]
    plan = compiled_with(setting("model.quantization", {"nf4": {"skip_modules": skipped}})).plan
    assert plan.model.quantization.skip_modules == ("q_proj", "lm_head")


def test_o21_a_name_that_no_module_has_is_refused(faults_of):
    found = faults_of(setting("model.quantization", {"nf4": {"skip_modules": ["qq_proj"]}}))
    assert found == ["SG247: skip_modules names qq_proj, which matches 0 modules of the base model"]


def test_o20_tied_weights_that_would_be_parted_are_told(case_spec, compiled_with):
    lora = case_spec("o20.yaml")["lora"]
    spec = {"r": lora["r"], "alpha": lora["alpha"], "targets": lora["target_modules"], "modules_to_save": lora["modules_to_save"]}
    (fault,) = (fault for fault in compiled_with(setting("adapter", {"lora": spec})).diagnostics if fault.code == "SG245")
    assert fault.severity == "warning"
    assert "tie_word_embeddings" in fault.message


def test_o19_a_target_among_others_that_matches_nothing_is_refused(faults_of):
    assert faults_of("adapter={lora: {targets: [q_proj, v_porj]}}") == ["SG241: the target v_porj matches 0 modules of the base model"]
    assert faults_of("adapter={lora: {targets: [W_pack]}}") == ["SG241: the target W_pack matches 0 modules of the base model"]


def test_o19_the_right_targets_make_the_right_number_of_parameters(compiled_with):
    plan = compiled_with("adapter={lora: {r: 8, targets: [q_proj, v_proj]}}").files["plan.md"]
    assert "| adapted modules | 60 |" in plan
    assert "| trainable parameters | 460,800 of " in plan


@pytest.mark.parametrize("text", ["no", "off", "1.10", "2024-01-02", "yes"])
def test_o16_words_of_yaml_1_1_stay_texts(text, compiled_with):
    """Where a text is wanted they are the text itself; `no` is no false and 1.10 is no 1.1."""
    try:
        assert compiled_with(f"description={text}").plan.description == text
    except SpecError as error:  # a number is refused, with the text as it was written
        assert [fault.message for fault in error.diagnostics] == ["description is the number 1.10; it has to be text"]
        assert error.diagnostics[0].hint == 'write "1.10" in quotes'


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.schedule=on",
            "SG104: train.schedule cannot be on; the values are linear, cosine, cosine_with_restarts, polynomial, constant, ",
        ),
        ("train.optimizer=on", "SG104: train.optimizer cannot be on; specgen explain train.optimizer lists the values"),
    ],
)
def test_o16_a_switch_where_a_name_is_wanted_lists_the_names(setting, message, faults_of):
    (fault,) = faults_of(setting)
    assert fault.startswith(message)


def test_o24_sampling_settings_of_a_greedy_chat_are_told_by_name(case_spec, compiled_with):
    generation = case_spec("o24.yaml")["generation"]
    assert generation["do_sample"] is False
    compiled = compiled_with("chat.temperature=0", setting("chat.top_p", generation["top_p"]))
    (fault,) = (fault for fault in compiled.diagnostics if fault.code == "SG501")
    assert fault.severity == "warning"
    assert [word in fault.message for word in ("do_sample", "temperature", "top_p")] == [True] * 3
