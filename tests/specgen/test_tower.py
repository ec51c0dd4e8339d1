"""Vision towers from a config.json alone: sizes, tokens, names; held against transformers' own classes."""

from __future__ import annotations

import json
import math

import pytest

from specgen.compiler import compile_tree
from specgen.facts.model import facts_from_config
from specgen.facts.published import TOWERS, published_tower
from specgen.facts.tower import DEFAULTS, NoTower, read_tower_facts, seeing, tower_in_config
from specgen.memory import memory_plan
from specgen.plan import HubBase, LocalBase
from specgen.source import parse
from specgen.trainable import linear_of, ranks_of, trainable_parameters
from tests.conftest import SMALL

# parameters of the vision halves in the published files, without CLIP's projection (393,216 of base) and SigLIP's head (15,238,352 of
# so400m's 428,225,600); tokens of an image
PUBLISHED = {
    "google/siglip-base-patch16-224": (85_797_120, 196),
    "google/siglip-so400m-patch14-384": (412_987_248, 729),
    "openai/clip-vit-base-patch16": (85_799_424, 196),
    "openai/clip-vit-base-patch32": (87_456_000, 49),
    "openai/clip-vit-large-patch14": (303_179_776, 256),
    "openai/clip-vit-large-patch14-336": (303_507_456, 576),
}
SIZES = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 1000, "tie_word_embeddings": False,
}  # fmt: skip
TOWER = "model.vision={tower: hf:openai/clip-vit-base-patch32}"


def tower(kind="clip", **changed):
    return tower_in_config({"model_type": f"{kind}_vision_model", **SIZES, **changed}, origin="config.json")


def plan_of(*settings):
    return compile_tree(parse(SMALL, "small.yaml"), None, ("template=chatml", TOWER, *settings)).plan


def facts_of(patch=14):
    return seeing(facts_from_config(LLAMA, origin="published"), tower(patch_size=patch))


@pytest.mark.parametrize(("repo", "expected"), PUBLISHED.items())
def test_a_published_tower_has_its_parameters_and_tokens(repo, expected):
    found = read_tower_facts(HubBase(repo=repo, revision=None), select_layer=-2)
    assert (found.parameters, found.image_tokens, found.origin) == (*expected, "published")


def test_all_published_towers_are_held_against_their_counts():
    assert sorted(PUBLISHED) == sorted(file.stem.replace("--", "/", 1) for file in TOWERS.glob("*.json"))
    assert published_tower("example/none") is None


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_names_and_shapes_are_those_of_transformers(kind):
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    config = CLIPVisionConfig(**SIZES) if kind == "clip" else SiglipVisionConfig(**SIZES, vision_use_head=False)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig(vision_config=config, text_config=LlamaConfig(**LLAMA)))
    facts = seeing(facts_from_config(LLAMA, origin="published"), tower(kind))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert facts.tensors == shapes
    assert facts.parameters == sum(map(math.prod, shapes.values()))
    assert set(facts.linear) == {
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name.startswith("model.language_model.")
    }


@pytest.mark.parametrize("kind", ["clip_vision_model", "siglip_vision_model"])
def test_sizes_that_are_left_out_are_those_of_transformers(kind):
    from transformers import AutoConfig

    own = AutoConfig.for_model(kind)
    assert DEFAULTS[kind] == {name: getattr(own, name) for name in DEFAULTS[kind]}


def test_half_of_a_model_of_texts_and_images_is_a_tower():
    whole = {"model_type": "siglip", "text_config": {}, "vision_config": {"image_size": 384, "patch_size": 14}}
    found = tower_in_config(whole, origin="config.json")
    assert (found.kind, found.image_size, found.hidden, found.image_tokens, found.positions) == ("siglip_vision_model", 384, 768, 729, 729)
    assert tower().positions == tower().image_tokens + 1  # CLIP's class token
    assert tower(image_size=[28, 28]).image_tokens == 4


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "bert"}, "its config.json has model_type 'bert'"),
        ({}, "its config.json has model_type None"),
        ({"model_type": "siglip2"}, "its config.json has model_type 'siglip2'"),
    ],
)
def test_what_is_no_tower_is_named(config, told):
    with pytest.raises(NoTower) as caught:
        tower_in_config(config, origin="config.json")
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"image_size": [28, 14]}, "its config.json has image_size [28, 14]; it has to be a whole number from 1 to 1,000,000"),
        ({"patch_size": 0}, "its config.json has patch_size 0; it has to be a whole number from 1 to 1,000,000"),
        ({"patch_size": 29}, "its config.json has patches of 29 pixels in images of 28"),
    ],
)
def test_sizes_that_cannot_be_are_told(changed, told):
    with pytest.raises(ValueError) as caught:
        tower(**changed)
    assert str(caught.value) == told


def test_a_folder_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", **SIZES}))
    assert read_tower_facts(LocalBase(path=str(tmp_path)), select_layer=-2).image_tokens == 4
    assert read_tower_facts(HubBase(repo="example/unknown", revision=None), select_layer=-2) is None


@pytest.mark.parametrize(("layer", "used"), [(-1, 2), (-2, 1), (2, 2), (1, 1), (0, 0)])
def test_only_layers_that_are_seen_through_get_an_adapter(layer, used):
    found = tower_in_config({"model_type": "clip_vision_model", **SIZES}, select_layer=layer, origin="config.json")
    assert found.used_layers == used
    assert len(found.linear) == 6 * used


def test_a_compiled_folder_says_how_many_tokens_an_image_takes():
    plan = plan_of("adapter.lora.modules_to_save=[multi_modal_projector]")
    assert plan.model.vision.image_tokens == 49
    unknown = compile_tree(
        parse(SMALL, "small.yaml"),
        None,
        ("model.vision={tower: hf:example/unknown}", "adapter.lora.modules_to_save=[multi_modal_projector]"),
    )
    assert unknown.plan.model.vision.image_tokens is None
    assert "Unknown: the base model's sizes are not at hand." in unknown.files["plan.md"]


PROJECTOR = 8 * 64 + 64 + 64 * 64 + 64
LINEAR = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
OTHERS = 2 * 1000 * 64 + 5 * 64


def test_the_projector_alone_is_counted_as_a_copy_beside_frozen_weights():
    plan, facts = plan_of("adapter=null", "train.trainable_modules=[multi_modal_projector]", "train.learning_rate=1e-3"), facts_of()
    assert trainable_parameters(plan, facts) == PROJECTOR
    memory = memory_plan(plan, facts, None)
    assert (memory.weights, memory.adapter, memory.optimizer) == (2 * facts.parameters, 4 * PROJECTOR, 8 * PROJECTOR)
    assert facts.parameters == LINEAR + OTHERS + PROJECTOR + facts.tower.parameters


def test_a_pattern_that_fits_the_projector_and_more_is_no_training_of_it_alone():
    plan, facts = plan_of("adapter=null", "train.trainable_modules=['*']", "train.learning_rate=1e-5"), facts_of()
    assert trainable_parameters(plan, facts) == facts.parameters


def test_what_sees_keeps_its_precision_under_a_quantized_language_model():
    settings = ("adapter=null", "train.trainable_modules=[multi_modal_projector]", "train.learning_rate=1e-3")
    plan, facts = plan_of(*settings, "model.quantization={int8: {}}"), facts_of()
    assert plan.model.quantization.skip_modules == ("lm_head", "model.vision_tower", "model.multi_modal_projector")
    rows = 2 * (64 + 2 * 32 + 64 + 2 * 128 + 64)
    assert memory_plan(plan, facts, None).weights == LINEAR + 4 * rows + 4 * (OTHERS + PROJECTOR + facts.tower.parameters)


def test_an_adapter_of_the_tower_has_its_own_rank():
    plan = plan_of("adapter.lora={vision_tower: {r: 4, alpha: 8}, modules_to_save: [multi_modal_projector]}")
    facts = facts_of()
    ranks = ranks_of(plan.adapter, facts)
    of_tower = {module: rank for module, rank in ranks.items() if ".vision_tower." in module}
    assert set(of_tower.values()) == {4}
    assert len(of_tower) == 6  # of the one layer of two that lies before select_layer: -2
    assert set(ranks.values()) == {4, 16}
    low_rank = sum(rank * sum(linear_of(facts)[module]) for module, rank in ranks.items())
    assert trainable_parameters(plan, facts) == low_rank + PROJECTOR


def test_images_take_memory_and_an_adapted_tower_takes_more():
    base = ("train.batch_size=8", "data.max_length=256")
    frozen = plan_of(*base, "adapter.lora.modules_to_save=[multi_modal_projector]")
    adapted = plan_of(*base, "adapter.lora={vision_tower: {r: 4, alpha: 8}, modules_to_save: [multi_modal_projector]}")
    few, many = facts_of(patch=14), facts_of(patch=2)
    of_few, of_many = ([memory_plan(plan, facts, None).activations for plan in (frozen, adapted)] for facts in (few, many))
    assert of_few[0] < of_few[1] < of_many[1]
    assert of_few[0] < of_many[0] < of_many[1]
