"""A finished run of a model that sees: what is exported, how it is loaded elsewhere, and how it is asked."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from runtime import config as configs
from runtime.conversion import converting, merging
from runtime.data.dataset import load_rows
from runtime.evaluation.batches import answers
from runtime.evaluation.evaluate import evaluate
from runtime.exports.quantized import write_quantized
from runtime.generation.generate import generator_of
from runtime.models.from_run import result_of
from runtime.models.model import folder_of_model, load_tokenizer
from runtime.talking.talker import Loading, of_folder, of_run
from runtime.tokens.text_format import row_format
from runtime.vision.form import asking
from runtime.vision.looking import Eyes, chequered, eyes_of
from tests.runtime.vision.conftest import TOKENS, asked, write_rows

QUESTION = "Which colour?"


@pytest.fixture(scope="module")
def run(tmp_path_factory, llava, carried_out):
    """A compiled folder and its run up to the smoke test: an adapter and the projector, and a validation."""
    folder = tmp_path_factory.mktemp("run")
    build = llava(folder, train={"preview": {"every": 4, "prompts": ["Who are you?"], "max_new_tokens": 2}})
    return build, carried_out(build, folder / "runs", "data", "train", "convert", "merge", "smoke")


@pytest.fixture(scope="module")
def asker(run):
    build, folder = run
    return of_run(build, folder.parent, "spec.yaml", Loading())


def test_the_smoke_test_shows_its_image_to_base_and_merged_model(run):
    summary = json.loads((run[1] / "smoke" / "stage.json").read_text())["summary"]
    assert summary["passed"]
    assert summary["transcript"][0]["user"] == QUESTION


def test_plain_classes_load_the_merged_folder_and_see_what_training_saw(run, pictures):
    build, folder = run
    merged = folder / "merge"
    model, found = LlavaForConditionalGeneration.from_pretrained(merged, output_loading_info=True)
    assert not any(found[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), found
    processor = AutoProcessor.from_pretrained(merged)
    config = configs.load(build)
    form = row_format(load_tokenizer(config.model, config.template), config, system=None)
    for name in ("red", "wide"):
        messages = [{"role": "user", "content": f"<image>\n{QUESTION}"}]
        text = processor.apply_chat_template(
            [{"role": "system", "content": "You see."}, *messages], add_generation_prompt=True, tokenize=False
        )
        theirs = processor(text=text, images=Image.open(pictures / f"{name}.png"), return_tensors="pt", add_special_tokens=False)
        message = asking(QUESTION, [str(pictures / f"{name}.png")])
        assert theirs["input_ids"][0].tolist() == form.prompt_ids([{"role": "system", "content": "You see."}, message])
        assert torch.equal(theirs["pixel_values"], Eyes(merged).at(message["images"]))
        assert int((theirs["input_ids"] == model.config.image_token_id).sum()) == TOKENS
    assert "{% generation %}" not in processor.chat_template


def test_the_data_set_keeps_paths_and_hashes_and_the_eyes_refuse_another_picture(tmp_path, run, fault_of, pictures):
    rows, _ = load_rows(run[1] / "data")
    (picture,) = rows[0]["images"]
    assert picture.path == str(pictures / "red.png")
    shutil.copyfile(pictures / "blue.png", tmp_path / "red.png")
    changed = picture._replace(path=str(tmp_path / "red.png"))
    assert "another image than when the data was made" in fault_of(Eyes(run[1] / "merge"), [changed])


def test_an_image_in_a_conversation_changes_the_answer_and_its_way_in_does_not(asker, pictures):
    assert asker.sees
    said = {name: asker.answer([asking(QUESTION, [str(pictures / f"{name}.png")])]) for name in ("red", "blue")}
    url = "data:image/png;base64," + base64.b64encode((pictures / "red.png").read_bytes()).decode()
    assert asker.answer([asking(QUESTION, [url])]).ids == said["red"].ids
    assert said["red"].prompt_tokens == said["blue"].prompt_tokens
    assert said["red"].prompt_tokens == asker.answer([asking(QUESTION)]).prompt_tokens + TOKENS + 1


def test_a_conversation_with_images_in_several_turns_is_answered_as_the_model_computes_it(run, asker, pictures):
    """The reference: the merged folder by plain classes, on what AutoProcessor makes of the same."""
    merged = run[1] / "merge"
    images = [str(pictures / "red.png"), str(pictures / "wide.png")]
    messages = [asking(QUESTION, images[:1]), {"role": "assistant", "content": "It is red."}, asking("And this?", images[1:])]
    found = asker.answer(messages)
    processor = AutoProcessor.from_pretrained(merged)
    plain = [{"role": "system", "content": "You see."}] if asker.chat.system else []
    plain += [{key: message[key] for key in ("role", "content")} for message in messages]
    text = processor.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=text, images=[Image.open(image) for image in images], return_tensors="pt", add_special_tokens=False)
    model = LlavaForConditionalGeneration.from_pretrained(merged, dtype=torch.float32).eval()
    wanted = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    assert list(found.ids) == wanted


def test_a_folder_alone_is_enough_to_be_asked(run, asker, pictures):
    alone = of_folder(run[1] / "merge", Loading())
    assert alone.sees
    question = [{"role": "system", "content": "You see."}, asking(QUESTION, [str(pictures / "red.png")])]
    assert alone.answer(question, chat=asker.chat).ids == asker.answer(question).ids


def test_an_adapter_on_the_base_answers_as_merged(run, asker, pictures):
    build, folder = run
    adapted = of_run(build, folder.parent, "spec.yaml", Loading(adapter=folder / "convert"))
    question = [asking(QUESTION, [str(pictures / "red.png")])]
    assert adapted.answer(question).ids == asker.answer(question).ids
    assert adapted.answer(question, base=True).text is not None


def test_what_cannot_be_seen_is_told(tmp_path, asker, tiny_base, fault_of):
    assert "an image is not there" in fault_of(asker.answer, [asking(QUESTION, [str(tmp_path / "none.png")])])
    blind = of_folder(tiny_base, Loading())
    assert not blind.sees
    assert fault_of(blind.answer, [asking(QUESTION, [chequered(8)])]).startswith("error SG410: this model sees no images")


def test_an_image_counts_in_the_context(asker):
    images = [chequered(8)] * 40  # of 16 tokens each, in a context of 512
    turns = [message for image in images for message in (asking(QUESTION, [image]), {"role": "assistant", "content": "Red."})]
    left, dropped = asker.fitted([*turns, asking("And now?")])
    assert 15 < dropped < 40
    assert len(asker.form.prompt_ids(left)) < 512


def test_many_conversations_are_answered_as_one_by_one(run, asker, pictures):
    generator = generator_of(configs.load(run[0]), asker.tokenizer, asker.chat)
    rows = [
        {"messages": [{"role": "user", "content": f"<image>\n{QUESTION}"}], "images": [str(pictures / "red.png")]},
        {"messages": [{"role": "user", "content": "Who are you, and why?"}]},
        {"messages": [{"role": "user", "content": "<image> <image> alike?"}], "images": [str(pictures / "blue.png")] * 2},
    ]
    together = [answer.text for answer in answers(generator, asker.model, rows, batch_size=3, max_new_tokens=4)]
    alone = [answer.text for row in rows for answer in answers(generator, asker.model, [row], batch_size=1, max_new_tokens=4)]
    assert together == alone


def test_held_out_rows_with_images_are_measured(tmp_path, run, llava, pictures, rows_of_colours):
    file = tmp_path / "held.json"
    write_rows(file, [asked(row.get("image"), f"{QUESTION} ({number})", "Red.") for number, row in enumerate(rows_of_colours)])
    source = {"file": {"path": str(file), "format": "sharegpt", "images": str(pictures)}}
    metrics = {"exact_match": {}, "perplexity": {}}
    build = llava(tmp_path, eval={"sources": [source], "metrics": metrics, "max_new_tokens": 3, "batch_size": 2})
    (tmp_path / "out").mkdir()
    summary = evaluate(configs.load(build), run[1], tmp_path / "out")
    assert (summary["rows"], summary["asked"], summary["scored"]) == (5, 5, 5)
    assert {result["name"] for result in summary["results"]} == {"exact_match", "rouge_l", "perplexity"}


def test_commands_make_the_same_of_a_checkpoint(tmp_path, run, command, asker, pictures):
    """specgen convert and specgen merge, of a checkpoint and the LLaVA folder that training began with."""
    checkpoint = sorted((run[1] / "train").glob("checkpoint-*"))[-1]
    code, said = command(converting, checkpoint, tmp_path / "adapter", "--fp32")
    assert code == 0, said
    base = folder_of_model(configs.load(run[0]).model)
    code, said = command(merging, base, tmp_path / "adapter", tmp_path / "merged")
    assert code == 0, said
    own, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "merged", run[1] / "merge"))
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert of_folder(tmp_path / "merged", Loading()).sees


def test_the_quantized_export_sees(tmp_path, llava, saved_llama):
    base = saved_llama(tmp_path / "base", hidden_size=64)  # bitsandbytes packs no narrower layers on a CPU
    config = configs.load(llava(tmp_path, model={"base": str(base)}, export={"quantized": {"nf4": {}}}))
    (tmp_path / "out").mkdir()
    found = write_quantized(config, folder_of_model(config.model), tmp_path / "out")
    assert len(found["transcript"]) == 1
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    packed = {name for name in tensors if "quant_state" in name}
    assert packed
    assert all("language_model" in name for name in packed)
    assert AutoProcessor.from_pretrained(tmp_path / "out").image_token == "<image>"


def test_four_bits_are_of_words_alone_in_a_chat(run):
    small = of_folder(run[1] / "merge", Loading(bits=4))
    kinds = {name: type(module).__name__ for name, module in small.model.named_modules()}
    packed = [name for name, kind in kinds.items() if kind == "Linear4bit"]
    assert len(packed) == 14
    assert all("language_model" in name for name in packed)


@pytest.fixture
def going_on(run):
    """model of the finished run's config, with model.from_run."""
    return lambda folder, **changed: replace(configs.load(run[0]).model, from_run=str(folder), **changed)


def test_the_next_stage_begins_with_what_the_last_one_ended_with(run, going_on):
    assert result_of(going_on(run[1])) == run[1] / "merge"


def test_a_run_that_is_not_there_or_not_whole_or_another_s_is_refused(tmp_path, run, going_on, seeing, towers, fault_of):
    assert "there is no such folder" in fault_of(result_of, going_on(tmp_path / "none"))
    half = shutil.copytree(run[1], tmp_path / "half")
    shutil.rmtree(half / "merge")
    assert "there is no finished model in it" in fault_of(result_of, going_on(half))
    other = going_on(run[1], vision=seeing(towers["siglip"]))
    assert fault_of(result_of, other) == (
        f"error SG407: model.vision is another one than that of the run in {run[1]}, which model.from_run goes on from\n"
        "  hint: write the model.vision of that run's spec"
    )
    uncounted = going_on(run[1], vision=seeing(towers["clip"], image_tokens=None))
    assert result_of(uncounted) == run[1] / "merge"  # what the compiler could not count is no difference


def test_a_second_stage_pads_where_the_first_did_not(tmp_path, llava, carried_out, run, pictures, towers):
    """Other margins are other pixels, and the exported processor is the one that training looked through."""
    build, first = run
    assert configs.load(build).model.vision.pad_to_square
    vision = {"tower": str(towers["clip"]), "pad_to_square": False}
    second = llava(tmp_path, model={"from_run": str(first), "vision": vision})
    merged = carried_out(second, tmp_path / "runs", "data", "train", "convert", "merge") / "merge"
    wide = str(pictures / "wide.png")
    (mine,) = eyes_of(configs.load(second)).at([wide])
    (exported,) = Eyes(merged).at([wide])
    (before,) = Eyes(first / "merge").at([wide])
    assert torch.equal(mine, exported)
    assert not torch.equal(mine, before)
    both = [json.loads((merged / name).read_text()) for name in ("preprocessor_config.json", "processor_config.json")]
    assert (both[0]["do_pad"], both[1]["image_processor"]["do_pad"]) == (False, False)
