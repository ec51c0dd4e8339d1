"""runtime/vision/folders.py: language model and tower as one LLaVA folder that plain transformers loads."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Phi3Config,
    SiglipVisionModel,
)

from runtime.vision.folders import assemble, assembled
from tests.runtime.small_models import COMMON, SIZES, small_model
from tests.runtime.small_tokenizers import small_tokenizer
from tests.runtime.vision.conftest import SIZES as TOWER_SIZES
from tests.runtime.vision.conftest import TOKENS

IDS = torch.arange(5, 25)[None]
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "phi3"]


@pytest.fixture(scope="module")
def llms(tmp_path_factory):
    """Kind → a random language model and its folder, with a tokenizer."""
    made = {}

    def of(kind, **changed):
        key = kind, *sorted(changed)
        if key not in made:
            folder = tmp_path_factory.mktemp(kind)
            if kind == "phi3":
                torch.manual_seed(0)
                model = AutoModelForCausalLM.from_config(Phi3Config(**COMMON)).eval()
            else:
                model = small_model(kind, **changed)
            model.save_pretrained(folder)
            small_tokenizer("smollm").save_pretrained(folder)
            made[key] = model, folder
        return made[key]

    return of


@pytest.fixture
def put_together(tmp_path, seeing):
    def of(llm, tower, **changed):
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        assemble(llm, tower, seeing(tower, **changed), out)
        return out

    return of


def loaded(folder):
    model, found = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(found[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), found
    return model.eval()


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("tower", ["clip", "siglip"])
def test_words_alone_are_answered_as_by_the_language_model(llms, towers, put_together, kind, tower):
    model, folder = llms(kind)
    found = loaded(put_together(folder, towers[tower]))
    torch.testing.assert_close(found(input_ids=IDS).logits, model(input_ids=IDS).logits, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("tower", "kind"), [("clip", CLIPVisionModel), ("siglip", SiglipVisionModel)])
def test_an_image_is_seen_as_by_a_llava_that_is_built_by_hand(llms, towers, put_together, tower, kind):
    """The reference: transformers' class with the modules put into it, the tower's numbers taken by hand."""
    language, folder = llms("llama")
    out = put_together(folder, towers[tower])
    found = loaded(out)
    processor = AutoProcessor.from_pretrained(out)
    inputs = processor(images=Image.new("RGB", (40, 24), "red"), text="<image>\nWho are you?", return_tensors="pt")
    seen = kind.from_pretrained(towers[tower]).eval()(inputs["pixel_values"], output_hidden_states=True).hidden_states[-2]
    features = found.model.multi_modal_projector(seen[:, 1:] if tower == "clip" else seen)[0]
    places = inputs["input_ids"][0] == found.config.image_token_id
    embedded = language.get_input_embeddings()(inputs["input_ids"].clamp(max=language.config.vocab_size - 1))
    embedded[0, places] = features
    wanted = language(inputs_embeds=embedded).logits
    assert int(places.sum()) == len(features) == TOKENS
    torch.testing.assert_close(found(**inputs).logits, wanted, atol=2e-6, rtol=1e-5)


def test_config_names_what_the_parts_are(llms, towers, put_together):
    out = put_together(llms("llama")[1], towers["siglip"], select_layer=-1)
    config = LlavaConfig.from_pretrained(out)
    assert (config.vision_feature_layer, config.vision_feature_select_strategy, config.image_seq_length) == (-1, "full", TOKENS)
    assert (config.projector_hidden_act, config.text_config.model_type, config.vision_config.model_type) == (
        "gelu",
        "llama",
        "siglip_vision_model",
    )


def test_a_whole_clip_model_gives_its_tower(tmp_path, llms, put_together):
    torch.manual_seed(2)
    texts = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 60,
        "eos_token_id": 2,
    }
    whole = CLIPModel(CLIPConfig(vision_config=TOWER_SIZES, text_config={**texts, "bos_token_id": 1}, projection_dim=8))
    whole.save_pretrained(tmp_path / "clip")
    found = loaded(put_together(llms("llama")[1], tmp_path / "clip"))
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wanted = whole.eval().vision_model(pixels, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(found.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2], wanted)


def test_a_vocabulary_without_a_spare_row_grows_by_mean_rows(llms, towers, put_together):
    model, folder = llms("llama", vocab_size=403)  # the tokenizer's tokens, and not one more
    out = put_together(folder, towers["clip"])
    found = loaded(out)
    assert found.config.image_token_id == 403
    for name, before in (("model.language_model.embed_tokens", model.model.embed_tokens), ("lm_head", model.lm_head)):
        rows = found.get_submodule(name).weight
        assert len(rows) == 448
        assert torch.equal(rows[:403], before.weight)
        torch.testing.assert_close(rows[403:], before.weight.mean(dim=0).expand(45, -1))


def test_a_vocabulary_with_a_spare_row_stays(llms, towers, put_together):
    model, folder = llms("qwen2")
    rows = loaded(put_together(folder, towers["clip"])).get_input_embeddings().weight
    assert torch.equal(rows, model.get_input_embeddings().weight)


def test_tied_embeddings_stay_tied_and_are_written_once(llms, towers, put_together):
    out = put_together(llms("gemma")[1], towers["clip"])
    assert "lm_head.weight" not in load_file(out / "model.safetensors")
    model = loaded(out)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_the_projector_is_the_same_each_time(llms, towers, put_together):
    one, two = (load_file(put_together(llms("llama")[1], towers["clip"]) / "model.safetensors") for _ in range(2))
    names = [name for name in one if "multi_modal_projector" in name]
    assert len(names) == 4
    assert all(torch.equal(one[name], two[name]) for name in names)
    assert all(one[name].std() > 0.01 for name in names)


def test_the_folder_is_made_once_and_anew_where_a_part_has_changed(tmp_path, monkeypatch, llms, towers, seeing):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    llm = shutil.copytree(llms("llama")[1], tmp_path / "llm")
    first = assembled(llm, towers["clip"], seeing(towers["clip"]))
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert assembled(llm, towers["clip"], seeing(towers["clip"])) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert assembled(llm, towers["clip"], seeing(towers["clip"], select_layer=-1)) != first
    tensors = load_file(llm / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, llm / "model.safetensors", metadata={"format": "pt", "x": "y"})
    second = assembled(llm, towers["clip"], seeing(towers["clip"]))
    assert second != first
    assert not first.exists()  # each is as large as the model


def test_what_cannot_be_put_together_is_told_and_leaves_nothing(tmp_path, monkeypatch, llms, towers, seeing, fault_of):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(llms("llama")[1], "llm")
    shutil.copytree(llms("gemma2")[1], "capped")
    shutil.copytree(towers["clip"], "tower")
    said = fault_of(assembled, (tmp_path / "capped").relative_to(tmp_path), towers["clip"], seeing(towers["clip"]))
    assert said == (
        "error SG408: capped cannot become a part of a LLaVA model: its logits are shaped by final_logit_softcapping: 30.0,"
        " which transformers' LLaVA leaves out"
    )
    tensors = load_file("tower/model.safetensors")
    del tensors["pre_layrnorm.bias"]
    save_file(tensors, "tower/model.safetensors", metadata={"format": "pt"})
    tower = (tmp_path / "tower").relative_to(tmp_path)
    llm = (tmp_path / "llm").relative_to(tmp_path)
    assert fault_of(assembled, llm, tower, seeing(tower)) == (
        "error SG408: tower cannot become a part of a LLaVA model: the vision tower has no model.vision_tower.pre_layrnorm.bias"
    )
    said = fault_of(assembled, llm, llm, seeing(llm))
    assert said == (
        "error SG408: llm holds a model of type llama, and a vision tower is a CLIP or SigLIP model\n"
        "  hint: give model.vision.tower a CLIP or SigLIP model"
    )
    assert not list((tmp_path / "cache").iterdir())


def test_every_family_of_the_fixture_is_known():
    assert {*SIZES, "phi3"} - {"gemma2"} == set(FAMILIES)


@pytest.mark.parametrize("pads", [True, False])
def test_pixels_are_those_of_the_tower_s_own_settings(tmp_path, llms, towers, put_together, pads):
    tower = shutil.copytree(towers["siglip"], tmp_path / "tower")
    (tower / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5] * 3, "resample": 2}))
    processor = AutoProcessor.from_pretrained(put_together(llms("llama")[1], tower, pad_to_square=pads))
    image = Image.new("RGB", (64, 32), (255, 0, 0))
    pixels = processor(images=image, text="<image>", return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    red = torch.tensor([(1 - 0.1) / 0.5, -0.2 / 0.5, -0.3 / 0.5])
    torch.testing.assert_close(pixels[0, :, 16, 16], red, atol=1e-5, rtol=0)
    edge = (torch.tensor([25, 51, 76]) / 255 - torch.tensor([0.1, 0.2, 0.3])) / 0.5 if pads else red
    torch.testing.assert_close(pixels[0, :, 0, 16], edge, atol=1e-5, rtol=0)
