"""A tiny model learns to tell colours apart in two stages, and an InternLM2 becomes one that sees."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

from runtime import config as configs
from runtime.internlm2.folders import readable
from runtime.models.model import folder_of_model
from runtime.talking.talker import Loading, of_run
from runtime.vision.form import asking
from tests.runtime.vision.conftest import COLOURS, asked
from tests.support.internlm2 import write_internlm2

QUESTION = "Which colour?"


@pytest.mark.slow
def test_two_stages_learn_what_is_seen(tmp_path, llava, carried_out, pictures):
    rows = [asked(f"{name}.png", QUESTION, f"{name}") for name in COLOURS]
    train = {"epochs": 40, "batch_size": 3, "learning_rate": 1.0e-2}
    smoke = [{"user": QUESTION, "image": str(pictures / f"{name}.png"), "expect": {"contains": [name], "stops": False}} for name in COLOURS]
    begun = llava(tmp_path / "pretrain", rows=rows, pretrains=True, train={**train, "epochs": 5})
    first = carried_out(begun, tmp_path / "first", "data", "train", "convert", "merge")
    build = llava(tmp_path / "finetune", rows=rows, model={"from_run": str(first)}, train=train, smoke=smoke)
    run = carried_out(build, tmp_path / "second", "data", "train", "convert", "merge", "smoke")
    talker = of_run(build, run.parent, "spec.yaml", Loading())
    for name in COLOURS:
        assert name in talker.answer([asking(QUESTION, [str(pictures / f"{name}.png")])]).text


@pytest.fixture
def internlm2(tmp_path, llava):
    """A random InternLM2, and a compiled folder that trains it to see."""
    base = write_internlm2(tmp_path / "internlm2-tiny", hidden_size=16, intermediate_size=32, num_hidden_layers=1)
    return base, llava(tmp_path, model={"base": str(base)}, template="internlm2_chat", train={"epochs": 1})


def test_an_internlm2_becomes_a_llava_of_the_llama_that_it_is(internlm2):
    base, build = internlm2
    model, found = LlavaForConditionalGeneration.from_pretrained(folder_of_model(configs.load(build).model), output_loading_info=True)
    assert not any(found[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), found
    assert model.config.text_config.model_type == "llama"
    words = AutoModelForCausalLM.from_pretrained(readable(base)).eval()
    ids = torch.arange(5, 25)[None]
    logits = model.eval()(input_ids=ids).logits
    torch.testing.assert_close(logits[..., : words.config.vocab_size], words(input_ids=ids).logits)


@pytest.mark.slow
def test_an_internlm2_is_trained_and_asked_with_images(tmp_path, internlm2, carried_out, pictures):
    run = carried_out(internlm2[1], tmp_path / "runs", "data", "train", "convert", "merge", "smoke")
    talker = of_run(internlm2[1], run.parent, "spec.yaml", Loading())
    assert talker.answer([asking(QUESTION, [str(pictures / "red.png")])]).tokens
